"""Have the kernel ask whether a silent connection still has another side.

Who lost power says nothing, and who only receives would keep its half of the connection
for ever; who sends would repeat itself for a quarter of an hour.
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
_UNHEARD_MS: Final = 1000 * (_IDLE_S + _PROBES * _INTERVAL_S)
"""How long what was sent may wait for a sign that it has arrived."""


def keep_alive(transport: asyncio.Transport) -> None:
    """Let a connection end after some 25 s without any sign of the other side."""
    connection = transport.get_extra_info("socket")
    if connection is None:
        return
    # A connection that was reset meanwhile has none; its end is told in due course.
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Not every system has all of them.
        for name, value in (
            ("TCP_KEEPIDLE", _IDLE_S),
            ("TCP_KEEPINTVL", _INTERVAL_S),
            ("TCP_KEEPCNT", _PROBES),
            ("TCP_USER_TIMEOUT", _UNHEARD_MS),
        ):
            option = getattr(socket, name, None)
            if option is not None:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
