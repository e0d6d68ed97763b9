"""Peer links: length-prefixed msgpack frames on asyncio streams.

One TCP connection per direction: a node sends on the connection it dialled and
receives on those it accepted, so no connection has to be agreed upon. Peers do not
speak gRPC: a gRPC message costs three times a plain one (docs/adr/0003).
"""

from __future__ import annotations

__all__: list[str] = []
