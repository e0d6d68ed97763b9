"""Have the kernel ask whether a silent connection still has another side.

A peer that lost power says nothing, and who only receives would keep its half of the
connection for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

__all__ = ["keep_alive"]

_IDLE_S: Final = 10
_INTERVAL_S: Final = 5
_PROBES: Final = 3


def keep_alive(transport: asyncio.Transport) -> None:
    """Let a connection end after some 25 s without any sign of the other side."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    # A connection that was reset meanwhile has none; its end is told in due course.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Not every system has all three.
        for name, value in (
            ("TCP_KEEPIDLE", _IDLE_S),
            ("TCP_KEEPINTVL", _INTERVAL_S),
            ("TCP_KEEPCNT", _PROBES),
        ):
            option = getattr(socket, name, None)
            if option is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
