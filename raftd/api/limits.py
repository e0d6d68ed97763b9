"""The limits of the doors: messages, streams, pages.

What decides the meaning of an entry is in ``raftd.statemachine.limits``; the doors know
those limits too, so that a bad request costs no entry.

Source: SEMANTICS.md section 0; docs of the proto files (pages).
"""

from __future__ import annotations

import dataclasses
from typing import Final

from raftd.statemachine.limits import DEFAULT_LIMITS, Limits

__all__ = ["DEFAULT_DOOR_LIMITS", "DoorLimits"]

_KIB = 1024
_MIB = 1024 * _KIB


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """What the doors allow; every refusal over one names it and the size."""

    apply: Limits = DEFAULT_LIMITS
    request_bytes_max: int = 4 * _MIB
    """One request, unary or within a stream's message."""
    message_bytes_max: int = 16 * _MIB
    """One message of a stream; see ``carried_bytes_max``."""
    message_requests_max: int = 10_000
    """In one message of a stream; more than may be in flight, so no client sends so."""
    fences_max: int = 128
    page_items_max: int = 1000
    page_bytes_max: int = 2 * _MIB
    stream_requests_max: int = 4096
    """In flight on one stream."""
    stream_watches_max: int = 1000
    keepalive_leases_max: int = 10_000
    replies_max: int = 4096
    """In one message of a stream."""
    replies_bytes_max: int = _MIB
    """In one message of a stream; a larger reply travels alone."""
    stream_queued_bytes_max: int = 64 * _MIB
    """Not yet taken by the client; above it the stream ends."""
    stream_watch_bytes_max: int = 4 * _MIB
    """Not yet taken by the client; above it watches wait."""

    @property
    def carried_bytes_max(self) -> int:
        """Of a message as it comes from a client; above it the stream or call ends.

        It lies well above a request's limit, so that one that is too large gets its
        sentence.
        """
        return max(self.message_bytes_max, 2 * self.request_bytes_max)


DEFAULT_DOOR_LIMITS: Final = DoorLimits()
