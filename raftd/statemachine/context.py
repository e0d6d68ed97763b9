"""What every module of one machine shares: clocks, counter, journal, marks, events.

Rules of a command:
* It draws one revision R with ``rev()`` for all its events, on first use; each id or
  token takes the next number with ``mint()``.
* It calls ``mark`` (or ``rows.mark_as``) before it changes a row, and notes in
  ``journal`` how to take each change back. Counter, events, decisions, promotions and
  sizes take themselves back.
* It draws R before it counts sizes, emits, decides or asks for a promotion.
* It looks at no clock but ``now_ms`` and, for ``run_at`` and cron, ``wall_ms``.

Source: DESIGN.md section 5.
"""

from typing import Final

from raftd.statemachine.events import Event
from raftd.statemachine.journal import Journal
from raftd.statemachine.limits import Limits
from raftd.statemachine.rows import Rows
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.tables import RowKey
from raftd.statemachine.timers import Timers

__all__ = ["Context"]

_Saved = tuple[int, int, int, int, int]


class Context:
    """One per machine; handed to every module."""

    __slots__ = (
        "_saved",
        "command_rev",
        "decisions",
        "event_bytes",
        "events",
        "journal",
        "limits",
        "mark",
        "now_ms",
        "promotions",
        "revision",
        "rows",
        "size_bytes",
        "timers",
        "wall_ms",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits: Final = limits
        self.now_ms = 0
        self.wall_ms = 0
        self.revision = 0
        self.command_rev = 0
        """R of the running command; 0 = not drawn yet."""
        self.size_bytes = 0
        """What the live rows count against ``state_bytes_max``."""
        self.event_bytes = 0
        """What the entry's events count against ``history_bytes_max``."""
        self.events: list[Event] = []
        self.decisions: list[tuple[int, Result | Refusal]] = []
        self.promotions: dict[tuple[int, RowKey], None] = {}
        self.journal: Final = Journal()
        self.rows: Final = Rows()
        self.mark: Final = self.rows.mark
        self.timers: Final = Timers()
        self._saved: _Saved = (0, 0, 0, 0, 0)

    def rev(self) -> int:
        """Return the running command's one revision R, drawn on first use."""
        drawn = self.command_rev
        if drawn:
            return drawn
        before = self.revision
        self._saved = (
            before,
            self.size_bytes,
            self.event_bytes,
            len(self.events),
            len(self.decisions),
        )
        self.revision = self.command_rev = before + 1
        return before + 1

    def mint(self) -> int:
        """Return a number for an id or a token, unique in the state's life."""
        self.rev()
        self.revision += 1
        return self.revision

    def emit(self, event: Event, size_bytes: int) -> None:
        """Tell the history; the size counts against its bound."""
        assert self.command_rev, "an event needs the command's revision"
        self.events.append(event)
        self.event_bytes += size_bytes

    def decide(self, ticket: int, answer: Result | Refusal) -> None:
        """End the wait that a ``Pending(ticket)`` began."""
        assert self.command_rev, "a decision needs the command's revision"
        self.decisions.append((ticket, answer))

    def promote_later(self, rank: int, key: RowKey) -> None:
        """Have ``promote(key)`` of module ``rank`` called when the command is done."""
        self.promotions[rank, key] = None

    def may_grow(self, by_bytes: int) -> bool:
        """Tell whether the quota allows the live rows to grow so much."""
        return by_bytes <= 0 or (
            self.size_bytes + by_bytes <= self.limits.state_bytes_max
        )

    def begin(self) -> None:
        """Begin a command."""
        self.command_rev = 0

    def commit(self) -> None:
        """End a command that stands; its promotions have run."""
        self.journal.drop()

    def roll_back(self) -> None:
        """End a command that was refused: nothing of it remains but marks."""
        self.journal.roll_back()
        self.promotions.clear()
        if self.command_rev:
            (
                self.revision,
                self.size_bytes,
                self.event_bytes,
                events,
                decisions,
            ) = self._saved
            del self.events[events:]
            del self.decisions[decisions:]
            self.command_rev = 0
