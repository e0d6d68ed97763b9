"""Free ports on loopback, for servers whose port must be known before they start."""

from __future__ import annotations

from cluster.ports import free_ports, free_range

__all__ = ["HOST", "free_ports", "free_range"]

HOST = "127.0.0.1"
