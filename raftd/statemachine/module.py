"""What the machine asks of a module, and what modules may know of each other.

A module owns row tables, handles command types, and meets its siblings only through
the Protocols of this file, handed to its constructor by ``registry.py``.

Life of a command: fences, then the handler; if it is not a refusal, the promotions it
asked for (waiters, unblocked jobs), in the order (rank, key), until there are none.
A refusal takes all of it back. Timers and tasks run the same way, without an answer;
they and ``promote`` and ``lease_ended`` cannot be refused.

Source: DESIGN.md section 5.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from raftd.statemachine.answers import Answer
from raftd.statemachine.context import Context
from raftd.statemachine.schema.base import Command, Refusal
from raftd.statemachine.schema.kv import KeyValue
from raftd.statemachine.tables import Rank, RowKey, Table
from raftd.statemachine.timers import TimerId

__all__ = [
    "EndReason",
    "Handler",
    "Handlers",
    "JobFacts",
    "KeyReader",
    "LeaseKeeper",
    "Module",
    "TokenKeeper",
    "handlers_of",
]

Handler = Callable[[Any], Answer]
"""Takes a command of the type it is registered for."""

Handlers = Mapping[type[Command], Handler]


class EndReason(enum.IntEnum):
    """Why a lease ended (the numbers of ``events.LossReason``)."""

    EXPIRED = 1
    REVOKED = 2
    CLOSED = 3


class Module:
    """A part of the state; what a module does not need, it does not override."""

    rank: Rank
    tables: tuple[Table, ...] = ()

    def __init__(self, context: Context) -> None:
        self.context = context

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {}

    def timer_deadline(self, timer: TimerId) -> int | None:
        """Return when a timer is due, None if it is gone; see ``timers.py``."""
        raise AssertionError(f"{self.rank.name} has no timers, asked for {timer}")

    def fire(self, timer: TimerId) -> int:
        """Do what a due timer says, so that it is gone or later afterwards.

        Returns:
            How many rows it touched, counted against ``work_rows_max``.
        """
        raise AssertionError(f"{self.rank.name} has no timers, told of {timer}")

    def lease_ended(
        self, lease: int, keys: Sequence[RowKey], reason: EndReason
    ) -> None:
        """End the claims attached to a lease, given in sorted order."""
        raise AssertionError(f"{self.rank.name} attaches nothing: {lease} {keys}")

    def promote(self, key: RowKey) -> None:
        """Do what ``Context.promote_later`` asked for."""
        raise AssertionError(f"{self.rank.name} promotes nothing, asked for {key!r}")

    def has_tasks(self) -> bool:
        """Tell whether background work is left."""
        return False

    def run_tasks(self, rows_max: int) -> int:
        """Do background work on at most ``rows_max`` rows; return how many."""
        raise AssertionError(f"{self.rank.name} has no tasks, not even {rows_max}")

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode a row as it is now; None = there is none."""
        raise AssertionError(f"{self.rank.name} has no table {table} with {key!r}")

    def encode_record(self, table: int, record: Any) -> bytes:
        """Encode a row from what ``Rows.mark_as`` was given for it."""
        raise AssertionError(f"{self.rank.name} gives no records of table {table}")

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up a row; rows of a table come sorted by their packed keys."""
        raise AssertionError(f"{self.rank.name} has no table {table} with {key!r}")

    def loaded(self) -> Iterator[None]:
        """All rows are loaded: rebuild indexes, attach claims, arm timers.

        Called in the order of ranks, and done in small steps; see ``loading.in_steps``.
        """
        return iter(())

    def let_go(self) -> Iterator[None]:
        """Free most of a state that nobody uses any more, in small steps."""
        return iter(())


class LeaseKeeper(Protocol):
    """Leases and sessions as what claims hang on."""

    def require(self, lease: int) -> Refusal | None:
        """Refuse unless the lease or session is alive."""

    def is_alive(self, lease: int) -> bool:
        """Tell whether the lease or session is alive."""

    def attach(self, lease: int, rank: int, key: RowKey) -> Refusal | None:
        """Hang a claim on a live lease; refused over the limit.

        A rank is best given as a plain number: an enum's hashes slowly. All keys of a
        rank have one type. Attaching twice is one attachment. Undone by itself on a
        refusal.
        """

    def detach(self, lease: int, rank: int, key: RowKey) -> None:
        """Take a claim off; nothing happens if it does not hang there."""

    def reattach(self, lease: int, rank: int, key: RowKey) -> None:
        """Hang a loaded claim on its lease, in ``loaded``."""

    def holder(self, lease: int) -> str:
        """Return the claimant text of a live lease, else an empty one."""


class KeyReader(Protocol):
    """The present keys."""

    def find(self, key: bytes) -> KeyValue | None:
        """Return the key as it is now, inside the running command."""


class TokenKeeper(Protocol):
    """Locks and elections as what a fence asks about."""

    def holds(self, name: str, token: int) -> bool:
        """Tell whether this token is current."""

    def current_token(self, name: str) -> int:
        """Return the current (of several, the newest) token; 0 = nobody holds."""


class JobFacts(Protocol):
    """Reservations and queues as what fences and compares ask about."""

    def holds_reservation(self, job: int, token: int) -> bool:
        """Tell whether this token is the job's live reservation."""

    def reservation_token(self, job: int) -> int:
        """Return the job's current token; 0 = not reserved."""

    def queue_depth(self, name: str) -> int:
        """Return how many jobs of a queue are not final; 0 for an unknown one."""


def handlers_of(modules: Iterable[Module]) -> dict[type[Command], Handler]:
    """Gather the handlers of all modules.

    Raises:
        AssertionError: Two modules handle one command.
    """
    gathered: dict[type[Command], Handler] = {}
    for module in modules:
        for command, handler in module.handlers().items():
            assert command not in gathered, f"two modules handle {command.__name__}"
            gathered[command] = handler
    return gathered
