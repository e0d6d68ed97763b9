"""Where each operation of a client stands in the log, and how to speak of both.

Source: RELIABILITY.md section 4: (session, number) says which request a write became.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.parts import Applied, Fields
    from tests.checkers.records import Entry, Op

__all__ = ["READS", "UNLOGGED", "Place", "Places", "describe"]

READS: Final = frozenset(
    {"get", "range", "get_lock", "get_election", "get_job", "get_queue", "list_jobs"}
)
"""Operations that are never in the log."""
UNLOGGED: Final = READS | {"keep_alive"}
"""Operations that are no request of the log: a renewal rides in an entry."""

_TELLING: Final = ("key", "name", "job", "queue", "lease", "session")


class Place(msgspec.Struct, frozen=True):
    """The request that a numbered write became, at its first application.

    Attributes:
        order: Of the request among all requests of the log, from 1.
        index: Of its entry.
        applied: The request.
        revision: The state's, right after its effect (of a wait: after its end).
        outcome: ``pending`` only if its wait never ended.
        error: Of a refused one.
        answer: Of an ok one.
    """

    order: int
    index: int
    applied: Applied
    revision: int
    outcome: str
    error: str
    answer: Fields

    @property
    def is_ok(self) -> bool:
        """Whether it took effect."""
        return self.outcome == "ok"

    def is_done(self, op: Op) -> bool:
        """Whether an operation took effect.

        A complete with more to do is a transaction on the condition that the
        reservation holds; its other branch is a refusal.
        """
        if op.name != "txn" == self.applied.name:
            return self.is_ok and bool(self.answer["has_succeeded"])
        return self.is_ok


class Places:
    """Finds requests by number, and operations by request."""

    def __init__(self, history: History) -> None:
        self.by_number: Final[dict[tuple[int, int], Place]] = {}
        self.unnumbered: Final[dict[str, list[Place]]] = {}
        self._ops: Final[dict[tuple[int, int], int]] = {
            (op.session, op.number): op.id for op in history.ops if op.number
        }
        order = 0
        waiting: dict[int, tuple[int, int]] = {}
        for entry in history.entries:
            for applied in entry.requests:
                order += 1
                self._note(entry, applied, order, waiting)
            self._end_waits(entry, waiting)

    def _note(
        self,
        entry: Entry,
        applied: Applied,
        order: int,
        waiting: dict[int, tuple[int, int]],
    ) -> None:
        place = Place(
            order,
            entry.index,
            applied,
            applied.revision,
            applied.outcome,
            applied.error,
            applied.answer,
        )
        key = (applied.session, applied.number)
        if not applied.number:
            self.unnumbered.setdefault(applied.name, []).append(place)
        elif applied.outcome != "repeat":
            # A number that left no trace may come again, and counts then.
            self.by_number[key] = place
            if applied.outcome == "pending":
                waiting[applied.ticket] = key

    def _end_waits(self, entry: Entry, waiting: dict[int, tuple[int, int]]) -> None:
        for each in entry.decided:
            key = waiting.pop(each.ticket, None)
            if key is not None:
                self.by_number[key] = msgspec.structs.replace(
                    self.by_number[key],
                    index=entry.index,
                    revision=entry.revision,
                    outcome=each.outcome,
                    error=each.error,
                    answer=each.answer,
                )

    def of(self, op: Op) -> Place | None:
        """Return where a numbered write stands, None if nowhere."""
        return self.by_number.get((op.session, op.number)) if op.number else None

    def op_of(self, applied: Applied) -> int:
        """Return the operation that a request comes from, 0 if nobody noted it."""
        if not applied.number:
            return 0
        return self._ops.get((applied.session, applied.number), 0)

    def name(self, entry: Entry, applied: Applied) -> str:
        """Return how a sentence calls a request."""
        op = self.op_of(applied)
        who = f"op {op}" if op else "a request"
        return f"{who} ({_about(applied.name, applied.args)}, entry {entry.index})"


def describe(op: Op) -> str:
    """Return how a sentence calls an operation."""
    return f"op {op.id} ({_about(op.name, op.args)})"


def _about(name: str, args: Fields) -> str:
    found = [str(args[field]) for field in _TELLING if field in args]
    return " ".join([name, *found[:2]])
