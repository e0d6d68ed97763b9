"""Who waits for a lock or an election: tickets in strict order, and what is left over.

Rules:
* A ticket is drawn from the revision line, so the order of tickets is the order of
  arrival; a line is kept sorted by them, whatever is taken back.
* Every ticket gets exactly one decision: the claim, the end of the wait, the end of
  the lease, or the cancellation. A lease's end takes its waiters out before anybody is
  promoted, so nobody is granted anything on a dead lease.
* A claimant that asks again, with a new number or none, gets a ticket of its own with
  a deadline of its own. The turn of one is the turn of all: they share one claim.
* Promotions beyond ``promotions_max`` of a command wait in the backlog. A name is in
  the backlog exactly while its first waiter could have its claim: so the backlog
  follows from the rows and is not stored.

Source: SEMANTICS.md sections 0, 4 and 5.
"""

from collections.abc import Callable, Iterator, MutableMapping
from itertools import islice, takewhile
from typing import Final, Generic, Self, TypeVar

import msgspec
from sortedcontainers import SortedDict

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_growth
from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.module import LeaseKeeper
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.tables import Rank, Table
from raftd.statemachine.timers import TimerId

__all__ = [
    "WAIT_TIMER",
    "Backlog",
    "Waiter",
    "Waiting",
    "names_of",
    "number_of",
]

WAIT_TIMER: Final = 0
"""The kind of the timers that end a wait; their ids are tickets."""

_WAITER_BYTES: Final = 300
_encode: Final = msgspec.msgpack.Encoder().encode


class Waiter(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
):
    """Somebody in a line; the fields are those of its row.

    Attributes:
        since_ms: When it came, on the lease clock.
        deadline_ms: When it gives up, on the lease clock; None = never.
    """

    name: str
    lease: int
    claimant: str
    since_ms: int
    deadline_ms: int | None

    @property
    def size_bytes(self) -> int:
        """What it counts against ``state_bytes_max``."""
        return _WAITER_BYTES + len(self.name) + len(self.claimant)

    def holding_since(self, now_ms: int) -> Self:
        """Return the claim of a holder that this waiter became."""
        if self.since_ms == now_ms and self.deadline_ms is None:
            return self
        return msgspec.structs.replace(self, since_ms=now_ms, deadline_ms=None)


W = TypeVar("W", bound=Waiter)

_Line = MutableMapping[int, None]


class Waiting(Generic[W]):
    """All lines of one module."""

    def __init__(
        self,
        context: Context,
        leases: LeaseKeeper,
        rank: Rank,
        table: Table,
        kind: type[W],
    ) -> None:
        self._context: Final = context
        self._leases: Final = leases
        self._rank: Final = int(rank)
        self._table: Final = table
        self._decode: Final = msgspec.msgpack.Decoder(kind).decode
        self._waiters: dict[int, W] = {}
        self._lines: dict[str, _Line] = {}
        self._tickets: dict[tuple[str, int, str], tuple[int, ...]] = {}
        """Tickets of a claimant, rising."""

    def __contains__(self, ticket: int) -> bool:
        return ticket in self._waiters

    def __getitem__(self, ticket: int) -> W:
        return self._waiters[ticket]

    def tickets(self, name: str, lease: int, claimant: str) -> tuple[int, ...]:
        """Return the tickets with which a claimant waits for ``name``, rising."""
        return self._tickets.get((name, lease, claimant), ())

    def waiter(self, name: str, lease: int, claimant: str) -> W | None:
        """Return a claimant's oldest wait for ``name``."""
        tickets = self.tickets(name, lease, claimant)
        return self._waiters[tickets[0]] if tickets else None

    def first(self, name: str) -> int | None:
        """Return the ticket whose turn it is, None if nobody waits."""
        line = self._lines.get(name)
        return None if line is None else next(iter(line))

    def line(self, name: str) -> Iterator[tuple[int, W]]:
        """Yield who waits for ``name``, in order."""
        for ticket in self._lines.get(name, ()):
            yield ticket, self._waiters[ticket]

    def names(self) -> Iterator[str]:
        """Yield what is waited for, in no order that means anything."""
        yield from self._lines

    def join(self, waiter: W) -> int | Refusal:
        """Put a waiter at the end of its line and return its ticket."""
        context = self._context
        refusal = self._check_room(waiter)
        if refusal is not None:
            return refusal
        ticket = context.mint()
        refusal = self._leases.attach(waiter.lease, self._rank, ticket)
        if refusal is not None:
            return refusal
        context.mark(self._table, ticket)
        self._insert(ticket, waiter)
        context.size_bytes += waiter.size_bytes
        self._arm(ticket, waiter)
        return ticket

    def leave_all(self, ticket: int) -> tuple[tuple[int, ...], W]:
        """Take a claimant out with all its tickets.

        Returns:
            The tickets, for the caller to decide, and the claim asked for last.
        """
        waiter = self._waiters[ticket]
        tickets = self.tickets(waiter.name, waiter.lease, waiter.claimant)
        for each in tickets:
            waiter = self.leave(each)
        return tickets, waiter

    def leave(self, ticket: int) -> W:
        """Take a waiter out of its line; the caller decides its ticket."""
        context = self._context
        context.rev()
        context.mark(self._table, ticket)
        waiter = self._remove(ticket)
        context.size_bytes -= waiter.size_bytes
        self._leases.detach(waiter.lease, self._rank, ticket)
        return waiter

    def deadline_ms(self, ticket: int) -> int | None:
        """Return when a wait is over, None for no such wait."""
        waiter = self._waiters.get(ticket)
        return None if waiter is None else waiter.deadline_ms

    def encode(self, ticket: int) -> bytes | None:
        """Encode a waiter's row."""
        waiter = self._waiters.get(ticket)
        return None if waiter is None else _encode(waiter)

    def load(self, ticket: int, value: bytes) -> None:
        """Take up a waiter's row."""
        waiter = self._decode(value)
        self._waiters[ticket] = waiter
        party = (waiter.name, waiter.lease, waiter.claimant)
        self._tickets[party] = (*self._tickets.get(party, ()), ticket)
        self._lines.setdefault(waiter.name, SortedDict())[ticket] = None

    def loaded(self) -> Iterator[None]:
        """Attach the loaded waiters to their leases and arm their timers."""
        return in_steps(self._waiters, self._reattach)

    def _reattach(self, ticket: int) -> None:
        waiter = self._waiters[ticket]
        self._leases.reattach(waiter.lease, self._rank, ticket)
        self._arm(ticket, waiter)

    def _check_room(self, waiter: W) -> Refusal | None:
        limits = self._context.limits
        name = waiter.name
        if len(self._lines.get(name, ())) >= limits.waiters_max:
            return refusals.too_many(
                f'waiters for "{name}"', "waiters_max", limits.waiters_max
            )
        waits = self.tickets(name, waiter.lease, waiter.claimant)
        if len(waits) >= limits.claimant_waits_max:
            return refusals.too_many(
                f'waits of {waiter.claimant} for "{name}"',
                "claimant_waits_max",
                limits.claimant_waits_max,
            )
        return check_growth(self._context, waiter.size_bytes)

    def _arm(self, ticket: int, waiter: W) -> None:
        if waiter.deadline_ms is not None:
            self._context.timers.lease.arm(
                waiter.deadline_ms, self._rank, (WAIT_TIMER, ticket)
            )

    def _insert(self, ticket: int, waiter: W) -> None:
        journal = self._context.journal
        line = self._lines.get(waiter.name)
        if line is None:
            line = SortedDict()
            journal.item(self._lines, waiter.name)
            self._lines[waiter.name] = line
        journal.item(line, ticket)
        line[ticket] = None
        party = (waiter.name, waiter.lease, waiter.claimant)
        journal.item(self._tickets, party)
        self._tickets[party] = (*self._tickets.get(party, ()), ticket)
        journal.item(self._waiters, ticket)
        self._waiters[ticket] = waiter

    def _remove(self, ticket: int) -> W:
        journal = self._context.journal
        waiter = self._waiters[ticket]
        journal.item(self._waiters, ticket)
        del self._waiters[ticket]
        party = (waiter.name, waiter.lease, waiter.claimant)
        journal.item(self._tickets, party)
        others = tuple(each for each in self._tickets[party] if each != ticket)
        if others:
            self._tickets[party] = others
        else:
            del self._tickets[party]
        line = self._lines[waiter.name]
        journal.item(line, ticket)
        del line[ticket]
        if not line:
            journal.item(self._lines, waiter.name)
            del self._lines[waiter.name]
        return waiter


class Backlog:
    """Names whose first waiter is due, in the order of names, and the budget."""

    def __init__(self, context: Context) -> None:
        self._context: Final = context
        self._names: MutableMapping[str, None] = SortedDict()
        self._rev = 0
        self._used = 0

    def __bool__(self) -> bool:
        return bool(self._names)

    def room(self) -> int:
        """Return how many more waiters the running command may promote."""
        used = self._used if self._rev == self._context.rev() else 0
        return self._context.limits.promotions_max - used

    def spend(self, promoted: int) -> None:
        """Count promotions of the running command."""
        rev = self._context.rev()
        self._used = promoted + (self._used if self._rev == rev else 0)
        self._rev = rev

    def note(self, name: str, *, is_due: bool) -> None:
        """Say whether the first waiter for ``name`` could have its claim."""
        if is_due == (name in self._names):
            return
        self._context.journal.item(self._names, name)
        if is_due:
            self._names[name] = None
        else:
            del self._names[name]

    def load(self, name: str, *, is_due: bool) -> None:
        """Find the backlog again from the loaded rows."""
        if is_due:
            self._names[name] = None

    def work(self, rows_max: int, promote: Callable[[str, int], int]) -> int:
        """Promote from the backlog, at most ``rows_max`` waiters; return how many."""
        done = 0
        while self._names and done < rows_max:
            name = next(iter(self._names))
            promoted = promote(name, rows_max - done)
            assert promoted, f"nobody was due for {name}"
            done += promoted
        return done


def names_of(named: SortedDict, prefix: str, after: str, limit: int) -> list[str]:
    """Return names with ``prefix`` above ``after``, rising, at most ``limit``."""
    if after and after >= prefix:
        names = named.irange(after, inclusive=(False, True))
    else:
        names = named.irange(prefix)
    wanted = takewhile(lambda name: name.startswith(prefix), names)
    return list(islice(wanted, limit))


def number_of(key: TimerId | int | str | bytes) -> int:
    """Return the ticket or token that a timer or an attachment names."""
    number = key[1] if isinstance(key, tuple) else key
    assert isinstance(number, int)
    return number
