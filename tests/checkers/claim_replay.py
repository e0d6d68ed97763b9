"""What replays of locks and of elections have in common: lines of those who wait.

The model says who leaves a line, when and why; with which token is taken from the log.
Every wait that the model ends must be decided so in that entry, and no other.

Source: SEMANTICS.md sections 4 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from tests.checkers.lease_replay import LeaseReplay, Timer
from tests.checkers.verdict import Illegal

if TYPE_CHECKING:
    from tests.checkers.parts import Applied, Decided
    from tests.checkers.places import Places
    from tests.checkers.records import Entry

__all__ = ["ClaimReplay", "Party", "Wait"]

Party = tuple[int, str]
"""Lease and claimant."""

_WAIT: Final = 0
_GONE: Final = frozenset({"LEASE_EXPIRED", "SESSION_EXPIRED"})
_CHECKED: Final = frozenset({"put", "cas", "delete", "incr"})
"""Requests that are refused as FENCED for a fence only."""


class Wait(msgspec.Struct):
    """Somebody in a line.

    Attributes:
        who: How a sentence calls the request.
        op: The operation; 0 = not known.
        kind: Mode and limit of a lock; empty of an election.
        delay_ms: Of a lock.
        value: Of a candidate.
    """

    ticket: int
    name: str
    party: Party
    who: str
    op: int
    kind: tuple[int, int] = (0, 0)
    delay_ms: int = 0
    value: str = ""


class ClaimReplay(LeaseReplay):
    """Lines of waiters by name.

    Args:
        places: Names operations in sentences.
        rank: Of the timers: locks 5, elections 6.
        command: ``acquire`` or ``campaign``.
        token: What its answer calls the token.
    """

    def __init__(self, places: Places, rank: int, command: str, token: str) -> None:
        super().__init__(places)
        self.rank: Final = rank
        self.command: Final = command
        self.token_field: Final = token
        self.lines: Final[dict[str, list[Wait]]] = {}
        self.touched: Final[dict[str, None]] = {}
        """Names where somebody may come in at the end of the command."""
        self.newest: Final[dict[str, int]] = {}
        """The highest token of each name."""
        self._waits: Final[dict[int, Wait]] = {}
        self._decided: dict[int, Decided] = {}

    # --- entries -------------------------------------------------------------------

    def opening(self, entry: Entry) -> None:
        """Note which waits the entry says it ended."""
        self._decided = {each.ticket: each for each in entry.decided}

    def closing(self, entry: Entry) -> None:
        """Refuse decisions that the model does not know of."""
        for ticket in self._decided:
            wait = self._waits.get(ticket)
            if wait is not None:
                raise Illegal(
                    f"the wait of {wait.who} was ended by entry {entry.index} for no"
                    " reason",
                    wait.op,
                )

    def fire(self, entry: Entry, timer: Timer) -> None:
        """End a wait whose time is over."""
        if timer[2] != _WAIT:
            self.fire_other(entry, timer)
            return
        wait = self._waits.get(int(timer[3]))
        if wait is not None:
            self.leave(entry, wait, {"LOCK_HELD"})

    def fire_other(self, entry: Entry, timer: Timer) -> None:
        """Do what another kind of timer says."""

    def settle(self, entry: Entry) -> None:
        """Let in whoever may come in, name by name."""
        for name in sorted(self.touched):
            self.promote(entry, name)
        self.touched.clear()

    def promote(self, entry: Entry, name: str) -> None:
        """Let in whoever may come in."""
        raise NotImplementedError

    # --- lines ---------------------------------------------------------------------

    def join(self, wait: Wait, wait_ms: int | None) -> None:
        """Put somebody at the end of a line."""
        self._waits[wait.ticket] = wait
        self.lines.setdefault(wait.name, []).append(wait)
        if wait_ms is not None:
            self.arm((self.now_ms + wait_ms, self.rank, _WAIT, wait.ticket))

    def line(self, name: str) -> list[Wait]:
        """Return who waits, first come first."""
        return self.lines.get(name, [])

    def _remove(self, wait: Wait) -> None:
        line = self.lines[wait.name]
        line.remove(wait)
        if not line:
            del self.lines[wait.name]
        del self._waits[wait.ticket]

    def leave(self, entry: Entry, wait: Wait, reasons: set[str]) -> None:
        """Take somebody out of its line without the claim."""
        told = self._decided.pop(wait.ticket, None)
        if told is None or told.outcome == "ok" or told.error not in reasons:
            said = "nothing" if told is None else told.error or f"{told.answer}"
            raise Illegal(
                f"the wait of {wait.who} must end in entry {entry.index} with"
                f" {'/'.join(sorted(reasons))}, and ends with {said}",
                wait.op,
            )
        self._remove(wait)
        self.touched[wait.name] = None

    def let_in(self, entry: Entry, first: Wait) -> tuple[Wait, int]:
        """Take all waits of the first one's party out of the line, with a claim.

        Returns:
            The last of them, and the token.
        """
        mine = [wait for wait in self.line(first.name) if wait.party == first.party]
        tokens: dict[int, None] = {}
        for wait in mine:
            told = self._decided.pop(wait.ticket, None)
            if told is None or told.outcome != "ok":
                said = "nothing" if told is None else told.error
                raise Illegal(
                    f"{wait.who} is next and must be let in by entry {entry.index},"
                    f" which says {said}",
                    wait.op,
                )
            tokens[told.answer[self.token_field]] = None
            self._remove(wait)
        if len(tokens) > 1:
            raise Illegal(
                f"{first.who} was let in with tokens {list(tokens)}", first.op
            )
        return mine[-1], next(iter(tokens))

    def drop_waits(self, entry: Entry, lease: int) -> None:
        """Take out all who wait on a lease that ended."""
        for wait in [each for each in self._waits.values() if each.party[0] == lease]:
            self.leave(entry, wait, set(_GONE))

    def rise(self, name: str, token: int, who: str, op: int) -> None:
        """Refuse a token that is not above all earlier ones of its name."""
        newest = self.newest.get(name, 0)
        if token <= newest:
            raise Illegal(
                f"{who} was given token {token} of {name}, after {newest} was given",
                op,
            )
        self.newest[name] = token

    # --- fences --------------------------------------------------------------------

    def check_alive(self, who: str, op: int, applied: Applied) -> bool:
        """Tell whether the lease that pays is alive; refuse an answer that is wrong."""
        lease = applied.args["lease"]
        if applied.outcome == "refused":
            is_about_it = applied.session in {0, lease}
            if applied.error in _GONE and lease in self.leases and is_about_it:
                raise Illegal(f"{who} was refused: lease {lease} is alive", op)
            return lease in self.leases
        if lease not in self.leases:
            raise Illegal(
                f"{who} was {applied.outcome} on lease {lease}, which is not alive", op
            )
        return True

    def check_fences(self, entry: Entry, applied: Applied, kind: str) -> None:
        """Compare the outcome of a request with the fences of one kind it carries."""
        for fence in applied.fences:
            if fence["kind"] != kind:
                continue
            is_held = self.holds(fence["name"], fence["token"])
            who, op = self.places.name(entry, applied), self.places.op_of(applied)
            if not is_held and applied.outcome in {"ok", "pending"}:
                raise Illegal(
                    f"{who} was done with token {fence['token']} of {fence['name']},"
                    " which is not current",
                    op,
                )
            is_alone = len(applied.fences) == 1 and applied.name in _CHECKED
            if is_held and is_alone and applied.error == "FENCED":
                raise Illegal(
                    f"{who} was fenced, though token {fence['token']} of"
                    f" {fence['name']} is current",
                    op,
                )

    def check_compares(self, entry: Entry, applied: Applied, target: str) -> None:
        """Compare a transaction's branch with its compares of one target."""
        if applied.outcome != "ok" or not applied.answer["has_succeeded"]:
            return
        for compare in applied.args["compares"]:
            if compare["target"] == target and not self.holds(
                compare["name"], compare["number"]
            ):
                raise Illegal(
                    f"{self.places.name(entry, applied)} went on with token"
                    f" {compare['number']} of {compare['name']}, which is not current",
                    self.places.op_of(applied),
                )

    def holds(self, name: str, token: int) -> bool:
        """Tell whether a token is current."""
        raise NotImplementedError
