"""Nothing is in the log that nobody asked for, and nothing is missing of a history.

Every numbered write that took effect under a session of a recorded client has its call
in the history: an unknown one, too, and what a client library posts of its own accord.
So a write that the service makes up, or does again under another number, is one too
many.

Allowed: a call that was cut off before its number was noted (its client was killed, or
it was posted before a session was open) counts for one request that asks for the same.
Other programs may write beside the recorded clients where a run has such programs; in
simulated runs there is nobody else.

Source: RELIABILITY.md section 4 (unexpected = seen - attempted), code XO.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

from tests.checkers.likeness import is_asked
from tests.checkers.places import UNLOGGED
from tests.checkers.verdict import Illegal

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.places import Place, Places
    from tests.checkers.records import Op

__all__ = ["WHOLE", "check_complete", "check_unasked", "claimant_of"]

WHOLE: Final = frozenset({"chaos", "service", "synthetic"})
"""What makes histories that end with what was there in the end."""
_ALONE: Final = frozenset({"service", "synthetic"})
"""Runs in which nobody writes but the recorded clients."""
_HOUSEKEEPING: Final = frozenset(
    {"mark", "compact", "open_session", "close_session", "grant", "revoke"}
)
"""Requests without a number that members and libraries make of their own accord."""
_POSTED: Final = "/posted"


def check_complete(history: History) -> None:
    """See that a run of its kind has all that it must have.

    Raises:
        Illegal: It lacks what was there in the end.
    """
    if history.meta.made_by in WHOLE and history.ops and not history.finals:
        raise Illegal("the history is incomplete: it lacks what was there in the end")


def check_unasked(history: History, places: Places) -> None:
    """See that each write of the log was asked for.

    Raises:
        Illegal: One was not.
    """
    claimants = _claimants(history)
    calls = _Calls(history.ops)
    is_alone = history.meta.made_by in _ALONE
    for (session, _), place in sorted(
        places.by_number.items(), key=lambda each: each[1].order
    ):
        claimant = claimants.get(session, "")
        is_judged = is_alone or session in calls.sessions or claimant in calls.clients
        if not is_judged or _has_no_effect(place):
            continue
        if not places.op_of(place.applied) and not calls.take(claimant, place):
            raise Illegal(f"{_shown(place)} was asked for by nobody")
    if is_alone:
        _check_unnumbered(history, places)


def _has_no_effect(place: Place) -> bool:
    """Tell whether a library may have asked again under a later number."""
    is_empty = place.applied.name == "reserve" and not place.answer.get("jobs")
    return place.outcome == "refused" or (place.is_ok and is_empty)


def _check_unnumbered(history: History, places: Places) -> None:
    calls = [op for op in history.ops if not op.number and op.name not in UNLOGGED]
    for name, found in places.unnumbered.items():
        if name in _HOUSEKEEPING:
            continue
        for place in found:
            if _has_no_effect(place):
                continue
            if not any(is_asked(op, place) for op in calls):
                raise Illegal(f"{_shown(place)} was asked for by nobody")


def claimant_of(client: str) -> str:
    """Return whose sessions carry the calls of a client: its name without its life."""
    if _POSTED in client:
        return client.partition(_POSTED)[0]
    return client.rpartition(".")[0] or client


def _claimants(history: History) -> dict[int, str]:
    """Return who opened each session of the log."""
    return {
        applied.answer["session"]: applied.args.get("claimant", "")
        for entry in history.entries
        for applied in entry.requests
        if applied.name == "open_session" and applied.answer
    }


class _Calls:
    """The calls of a history, and those among them whose number is not for certain."""

    def __init__(self, ops: list[Op]) -> None:
        self.sessions: Final = {op.session for op in ops if op.session}
        self.clients: Final = {claimant_of(op.client) for op in ops}
        self._vague: Final[defaultdict[str, list[Op]]] = defaultdict(list)
        for op in ops:
            is_posted = _POSTED in op.client
            is_noted = op.session and op.number and not is_posted
            if op.outcome == "unknown" and not is_noted and op.name not in UNLOGGED:
                self._vague[claimant_of(op.client)].append(op)

    def take(self, claimant: str, place: Place) -> bool:
        """Tell whether a cut-off call asked for this; it counts for one request."""
        for op in self._vague[claimant]:
            if is_asked(op, place):
                self._vague[claimant].remove(op)
                return True
        return False


def _shown(place: Place) -> str:
    applied = place.applied
    told = {"name": applied.name, "args": applied.args}
    return (
        f"entry {place.index} has {told['name']} {told['args']}, number"
        f" {applied.number} of session {applied.session}, which"
    )
