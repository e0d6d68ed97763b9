"""Free ports on loopback, for servers whose port must be known before they start."""

from __future__ import annotations

import socket

__all__ = ["HOST", "free_ports"]

HOST = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Find ports that are free now."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()
