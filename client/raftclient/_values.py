"""What callers may hand in for a value, and how it becomes the API's.

Source: SEMANTICS.md section 0; CONVENTIONS.md (units last).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from raftclient.errors import InvalidRequest

if TYPE_CHECKING:
    from raftclient._core import Core
    from raftclient._held import Held

__all__ = [
    "Data",
    "LeaseLike",
    "LeaseRef",
    "as_bytes",
    "held_now",
    "held_of",
    "lease_id_of",
    "prefix_end",
    "range_of",
]

Data = bytes | str
"""A key, value or payload; text is encoded as UTF-8."""


class LeaseLike(Protocol):
    """A lease that this process keeps alive."""

    @property
    def held(self) -> Held:
        """The claim behind it."""


LeaseRef = LeaseLike | int
"""A lease kept alive here, or the id of any other."""


def as_bytes(data: Data) -> bytes:
    """Return the bytes of a key, value or payload."""
    return data.encode() if isinstance(data, str) else data


def lease_id_of(lease: LeaseRef) -> int:
    """Return a lease's id, after a look at whether it is still safe.

    Raises:
        LeaseLost: It must count as lost.
    """
    if isinstance(lease, int):
        return lease
    lease.held.check()
    return lease.held.id


def held_now(core: Core, lease: LeaseRef | None) -> tuple[Held | None, int] | None:
    """Return what ``held_of`` does, without a turn of the loop; None = it takes one.

    Raises:
        LeaseLost: It must count as lost.
    """
    if isinstance(lease, int):
        return None, lease
    if lease is None:
        main = core.claim_now()  # looked at just now
        return None if main is None else (main, main.id)
    lease.held.check()
    return lease.held, lease.held.id


async def held_of(
    core: Core, lease: LeaseRef | None, timeout_s: float | None
) -> tuple[Held | None, int]:
    """Return what pays for a claim, and its id; None = the client's session.

    The claim is None if the lease is not kept alive here, so that its end is not seen.

    Raises:
        LeaseLost: It must count as lost.
        Unavailable: No session could be opened in time.
    """
    now = held_now(core, lease)
    if now is not None:
        return now
    held = await core.claim(timeout_s)
    held.check()
    return held, held.id


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key after all that begin so; empty = no end."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return b""
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def range_of(
    prefix: Data | None, start: Data | None, end: Data | None
) -> tuple[bytes, bytes]:
    """Return where a range begins and ends; an empty end is the very last key.

    Raises:
        InvalidRequest: Both a prefix and a start or end were given.
    """
    if prefix is None:
        return as_bytes(start or b""), as_bytes(end or b"")
    if start is not None or end is not None:
        raise InvalidRequest("a range is given by its prefix, or by start and end")
    first = as_bytes(prefix)
    return first, prefix_end(first)
