"""Leases: time-bound claims that keys, locks, candidacies and reservations hang on.

A session is a lease with numbered writes: the same id, the same clock, the same end.

Rules:
* A lease is alive as long as it is in the table. It ends by its timer, by a revoke or a
  close; there is no expiry command. Beyond the entry's cap a due lease is still alive.
* Renewals of an entry come first: deadline = now + ttl, never lowered, no heap touched.
* An end is one revision: claims go in the order (rank, key), then promotions run once.
* Attachments are not stored: each module attaches again what it loaded.

Source: SEMANTICS.md section 1; RELIABILITY.md rules 35 to 38.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Protocol

import msgspec

from raftd.statemachine import refusals
from raftd.statemachine.answers import Answer
from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.module import EndReason, Handlers, Module
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.leases import (
    GrantLease,
    LeaseGranted,
    LeaseRevoked,
    RevokeLease,
)
from raftd.statemachine.tables import Rank, RowKey, Table
from raftd.statemachine.timers import TimerId

__all__ = ["LeaseView", "Leases", "SessionKeeper"]

_SIZE_BYTES: Final = 400
_EXPIRY: Final = 0
_LEASES: Final = int(Table.LEASES)
_encode: Final = msgspec.msgpack.Encoder().encode
_Stored = tuple[int, str, int, bool]
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class LeaseView(msgspec.Struct, frozen=True, gc=False):
    """A lease as a reader sees it."""

    lease: int
    ttl_ms: int
    remaining_ms: int
    claimant: str
    is_session: bool
    attachments: int


class SessionKeeper(Protocol):
    """What leases ask of sessions."""

    def session_ended(self, session: int, reason: EndReason) -> None:
        """Close the window, or drop it after a clean close."""

    def is_closed(self, session: int) -> bool:
        """Tell whether this is a session whose claims have ended."""

    def closed_count(self) -> int:
        """Return how many windows of closed sessions are remembered."""


class _Lease:
    __slots__ = ("attached", "claimant", "deadline_ms", "is_session", "ttl_ms")

    def __init__(
        self, ttl_ms: int, claimant: str, deadline_ms: int, *, is_session: bool
    ) -> None:
        self.ttl_ms = ttl_ms
        self.claimant = claimant
        self.deadline_ms = deadline_ms
        self.is_session = is_session
        self.attached: dict[tuple[int, RowKey], None] = {}


class Leases(Module):
    """All live leases and sessions, as claims."""

    rank = Rank.LEASES
    tables = (Table.LEASES,)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._leases: dict[int, _Lease] = {}
        self._modules: Mapping[Rank, Module] = {}
        self._sessions: SessionKeeper | None = None
        self._ended: list[int] = []

    def bind(self, modules: Mapping[Rank, Module], sessions: SessionKeeper) -> None:
        """Tell whom to tell when a lease ends."""
        self._modules = modules
        self._sessions = sessions

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {GrantLease: self._grant, RevokeLease: self._revoke}

    # --- reads -----------------------------------------------------------------

    def is_alive(self, lease: int) -> bool:
        """Tell whether the lease or session is alive."""
        return lease in self._leases

    def require(self, lease: int) -> Refusal | None:
        """Refuse unless the lease or session is alive."""
        if lease in self._leases:
            return None
        if self._sessions is not None and self._sessions.is_closed(lease):
            return refusals.session_expired(lease)
        return refusals.lease_expired(lease)

    def holder(self, lease: int) -> str:
        """Return the claimant text of a live lease, else an empty one."""
        found = self._leases.get(lease)
        return found.claimant if found is not None else ""

    def ttl_ms(self, lease: int) -> int:
        """Return the ttl of a live lease."""
        return self._leases[lease].ttl_ms

    def deadline_ms(self, lease: int) -> int | None:
        """Return when a live lease ends unless renewed, None if it is not alive."""
        found = self._leases.get(lease)
        return found.deadline_ms if found is not None else None

    def view(self, lease: int) -> LeaseView | None:
        """Describe a live lease."""
        found = self._leases.get(lease)
        if found is None:
            return None
        return LeaseView(
            lease,
            found.ttl_ms,
            max(0, found.deadline_ms - self.context.now_ms),
            found.claimant,
            found.is_session,
            len(found.attached),
        )

    def attachments(self, lease: int) -> list[tuple[int, RowKey]]:
        """Return (rank, key) of all that hangs on a lease, sorted."""
        found = self._leases.get(lease)
        return [] if found is None else _sorted(found.attached)

    def ids(self, after: int = 0, limit: int = 1000) -> list[int]:
        """Return ids of live leases above ``after``, rising, at most ``limit``."""
        return sorted(lease for lease in self._leases if lease > after)[:limit]

    def count(self) -> int:
        """Return how many leases and sessions are alive."""
        return len(self._leases)

    # --- claims ----------------------------------------------------------------

    def attach(self, lease: int, rank: int, key: RowKey) -> Refusal | None:
        """Hang a claim on a live lease; refused over the limit."""
        attached = self._leases[lease].attached
        attachment = (rank, key)
        if attachment in attached:
            return None
        limit = self.context.limits.lease_attachments_max
        if len(attached) >= limit:
            return refusals.too_many(
                f"attachments of lease {lease}", "lease_attachments_max", limit
            )
        self.context.journal.undo(attached.__delitem__, attachment)
        attached[attachment] = None
        return None

    def detach(self, lease: int, rank: int, key: RowKey) -> None:
        """Take a claim off; nothing happens if it does not hang there."""
        found = self._leases.get(lease)
        if found is None:
            return
        attached, attachment = found.attached, (rank, key)
        if attachment in attached:
            self.context.journal.undo(attached.__setitem__, attachment, None)
            del attached[attachment]

    def reattach(self, lease: int, rank: int, key: RowKey) -> None:
        """Hang a loaded claim on its lease."""
        self._leases[lease].attached[rank, key] = None

    # --- life ------------------------------------------------------------------

    def grant(self, ttl_ms: int, claimant: str, *, is_session: bool) -> int | Refusal:
        """Begin a lease and return its id, or say why not."""
        refusal = self._check_grant(ttl_ms, claimant)
        if refusal is not None:
            return refusal
        context = self.context
        lease = context.mint()
        context.mark(_LEASES, lease)
        context.journal.item(self._leases, lease)
        deadline_ms = context.now_ms + ttl_ms
        self._leases[lease] = _Lease(
            ttl_ms, claimant, deadline_ms, is_session=is_session
        )
        context.size_bytes += _SIZE_BYTES
        context.timers.lease.arm(deadline_ms, self.rank, (_EXPIRY, lease))
        return lease

    def renew(self, lease: int) -> bool:
        """Set the deadline to now + ttl; False if the lease is not alive."""
        found = self._leases.get(lease)
        if found is None:
            return False
        deadline_ms = self.context.now_ms + found.ttl_ms
        if deadline_ms > found.deadline_ms:
            self.context.mark(_LEASES, lease)
            found.deadline_ms = deadline_ms
        return True

    def end(self, lease: int, reason: EndReason) -> int:
        """End a live lease and all that hangs on it; return how much that was."""
        context = self.context
        context.rev()
        context.mark(_LEASES, lease)
        context.journal.item(self._leases, lease)
        found = self._leases.pop(lease)
        context.size_bytes -= _SIZE_BYTES
        context.journal.undo(self._ended.pop)
        self._ended.append(lease)
        for rank, group in groupby(_sorted(found.attached), key=itemgetter(0)):
            keys = [key for _, key in group]
            self._modules[Rank(rank)].lease_ended(lease, keys, reason)
        if found.is_session and self._sessions is not None:
            self._sessions.session_ended(lease, reason)
        return len(found.attached)

    def take_ended(self) -> tuple[int, ...]:
        """Return which leases ended since the last call."""
        if not self._ended:
            return ()
        ended = tuple(self._ended)
        self._ended.clear()
        return ended

    def _check_grant(self, ttl_ms: int, claimant: str) -> Refusal | None:
        limits = self.context.limits
        if not limits.ttl_ms_min <= ttl_ms <= limits.ttl_ms_max:
            return Refusal(
                Reason.INVALID_REQUEST,
                f"a ttl of {ttl_ms} ms is not within {limits.ttl_ms_min} to"
                f" {limits.ttl_ms_max} ms",
                {"limit": str(limits.ttl_ms_max), "size": str(ttl_ms)},
            )
        refusal = refusals.check_text(
            "the claimant text",
            claimant,
            "claimant_bytes_max",
            limits.claimant_bytes_max,
        )
        if refusal is not None:
            return refusal
        closed = self._sessions.closed_count() if self._sessions is not None else 0
        if len(self._leases) + closed >= limits.leases_max:
            return refusals.too_many(
                "leases and sessions", "leases_max", limits.leases_max
            )
        if not self.context.may_grow(_SIZE_BYTES):
            return refusals.quota_reached(
                self.context.size_bytes + _SIZE_BYTES, limits.state_bytes_max
            )
        return None

    def _grant(self, command: GrantLease) -> Answer:
        lease = self.grant(command.ttl_ms, command.claimant, is_session=False)
        if isinstance(lease, Refusal):
            return lease
        return LeaseGranted(lease, command.ttl_ms)

    def _revoke(self, command: RevokeLease) -> Answer:
        if command.lease not in self._leases:
            return Refusal(
                Reason.NOT_FOUND,
                f"there is no live lease {command.lease}",
                {"lease": str(command.lease)},
            )
        return LeaseRevoked(self.end(command.lease, EndReason.REVOKED))

    # --- timers and rows -------------------------------------------------------

    def timer_deadline(self, timer: TimerId) -> int | None:
        """Return when a lease ends unless renewed."""
        found = self._leases.get(_number(timer))
        return found.deadline_ms if found is not None else None

    def fire(self, timer: TimerId) -> int:
        """End a lease whose time is over."""
        return 1 + self.end(_number(timer), EndReason.EXPIRED)

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode a lease without its attachments."""
        assert table == Table.LEASES
        found = self._leases.get(_id(key))
        if found is None:
            return None
        stored: _Stored = (
            found.ttl_ms,
            found.claimant,
            found.deadline_ms,
            found.is_session,
        )
        return _encode(stored)

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up a lease."""
        assert table == Table.LEASES
        ttl_ms, claimant, deadline_ms, is_session = _decode(value)
        self._leases[_id(key)] = _Lease(
            ttl_ms, claimant, deadline_ms, is_session=is_session
        )

    def loaded(self) -> Iterator[None]:
        """Arm every lease's timer."""
        return in_steps(self._leases, self._arm_loaded)

    def _arm_loaded(self, lease: int) -> None:
        deadline_ms = self._leases[lease].deadline_ms
        self.context.timers.lease.arm(deadline_ms, self.rank, (_EXPIRY, lease))


def _id(key: RowKey) -> int:
    assert isinstance(key, int)
    return key


def _number(timer: TimerId) -> int:
    number = timer[1]
    assert isinstance(number, int)
    return number


def _sorted(attached: Mapping[tuple[int, RowKey], None]) -> list[tuple[int, RowKey]]:
    # Keys of one rank have one type, so the pairs compare.
    pairs: Sequence[Any] = list(attached)
    return sorted(pairs)
