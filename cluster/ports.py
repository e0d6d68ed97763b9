"""Ports on loopback that are free, and stay so for whoever asked.

A port must be known before its server starts, and again while that server is down for a
moment. So each port given out is kept from other processes that ask here, by a lock on
its byte of one file that lasts as long as the asking process, and is never given twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import random
import socket
import tempfile
from pathlib import Path

__all__ = ["free_ports", "free_range"]

_HOST = "127.0.0.1"
#: Below those that outgoing connections get.
_PORTS = (10_240, 32_000)

_given: dict[int, None] = {}


def free_ports(count: int) -> list[int]:
    """Find ports that nobody has, and keep them until this process ends."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(*_PORTS)
        if _take(port):
            found.append(port)
    return found


def free_range(size: int) -> int:
    """Find so many ports in a row, and keep them; returns the first of them."""
    while True:
        first = random.randrange(_PORTS[0], _PORTS[1] - size)
        if all(_take(port) for port in range(first, first + size)):
            return first


def _take(port: int) -> bool:
    """Keep a port if nobody has it."""
    if port in _given or not _lock(port) or not _is_free(port):
        return False
    _given[port] = None
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind((_HOST, port))
        return True
    return False


def _lock(port: int) -> bool:
    """Keep other processes off a port; it is theirs if they were first."""
    try:
        fcntl.lockf(_lock_file(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except BlockingIOError:
        return False
    return True


@functools.cache
def _lock_file() -> int:
    # Never closed: that would let go of all its locks.
    path = Path(tempfile.gettempdir()) / f"raftd-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
