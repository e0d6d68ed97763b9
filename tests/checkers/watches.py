"""Watches, judged against the log: each watcher was told exactly what happened.

filter: only what was asked for · ordered: revisions never fall · unique: nothing
twice · atomic: a revision is never left before all of it was told · bookmarkable: when
"everything up to R" is said, it was · resumable: nothing is lost or doubled over a
reconnect · reliable: all of it is what the log says · the previous value, and whether a
key is new, are right · alive: where a run must end so, watchers of keys were told all
of it, and those of jobs something.

All of that is: the events told are a contiguous run of the filtered events of the log,
from where the watch began to the last that was told. A run that ends within a revision
is no breach: whoever listened had gone.

Source: RELIABILITY.md section 4 (Watch), code WAT; SEMANTICS.md section 2.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from tests.checkers.history import as_bytes
from tests.checkers.unasked import WHOLE
from tests.checkers.verdict import Illegal, Undecided, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.parts import Event, Fields, Filter
    from tests.checkers.records import Seen

__all__ = ["check_watches", "is_wanted"]

_KEY_FIELDS: Final = ("key", "value", "create_rev", "mod_rev", "version", "lease")


class _Logged(msgspec.Struct, frozen=True):
    """An event of the log, and for a key what it was before."""

    event: Event
    before: Event | None


def check_watches(history: History) -> Verdict:
    """Judge what every watcher was told."""
    return judged("watches", "messages of watches", _check, history)


def _check(history: History) -> int:
    if history.seen and not history.entries:
        raise Undecided("there is no evidence: the log was not read after the run")
    logged = _logged(history)
    watchers: defaultdict[str, list[Seen]] = defaultdict(list)
    for seen in history.seen:
        watchers[seen.watcher].append(seen)
    for watcher, told in watchers.items():
        _Follower(watcher, logged).follow(told)
    if history.meta.made_by in WHOLE:
        _check_alive(history)
    return len(history.seen)


def _check_alive(history: History) -> None:
    """See that somebody was told to the end: silence is not a legal watch.

    Each load that reads what there is in the end has its watches of keys catch up.
    """
    for final in history.finals:
        if not any(
            seen.what == "progress" and seen.revision >= final.revision
            for seen in history.seen
        ):
            raise Illegal(
                "the history is incomplete: no watcher was told all up to revision"
                f" {final.revision}, at which the end was read"
            )
    watched = {
        seen.filter.queue
        for seen in history.seen
        if seen.filter is not None and seen.filter.what == "jobs"
    }
    moves = sum(
        event.what == "job" and event.queue in watched
        for entry in history.entries
        for event in entry.events
    )
    if moves and not any(each.what == "job" for s in history.seen for each in s.events):
        raise Illegal(
            f"the history is incomplete: {moves} jobs of watched queues moved, and no"
            " watcher was told of one"
        )


def _logged(history: History) -> list[_Logged]:
    found: list[_Logged] = []
    newest: dict[str, Event] = {}
    for entry in history.entries:
        for event in entry.events:
            if event.what in {"put", "delete"}:
                before = newest.get(event.key)
                is_there = before is not None and before.what == "put"
                found.append(_Logged(event, before if is_there else None))
                newest[event.key] = event
            else:
                found.append(_Logged(event, None))
    return found


def is_wanted(event: Event, wanted: Filter) -> bool:
    """Tell whether a watch with this filter is told of an event."""
    if wanted.what == "jobs":
        if event.what != "job":
            return False
        return event.job == wanted.job if wanted.job else event.queue == wanted.queue
    if event.what not in {"put", "delete"}:
        return False
    if wanted.no_puts and event.what == "put":
        return False
    if wanted.no_deletes and event.what == "delete":
        return False
    if not wanted.end and not wanted.to_last:
        return event.key == wanted.start
    key = as_bytes(event.key)
    if key < as_bytes(wanted.start):
        return False
    return wanted.to_last or key < as_bytes(wanted.end)


class _Follower:
    """Goes along with one watcher."""

    def __init__(self, watcher: str, logged: list[_Logged]) -> None:
        self._watcher: Final = watcher
        self._logged: Final = logged
        self._filter: Filter | None = None
        self._line: list[_Logged] = []
        self._revisions: list[int] = []
        self._place: int | None = None
        """Of the next event; None = not known, as the watch began "from now on"."""
        self._listed: dict[str, Event] | None = None
        """A list on its way; None = there is none."""

    def follow(self, told: list[Seen]) -> None:
        for seen in told:
            if self._filter is None and seen.what != "began":
                raise Undecided(
                    f"it is not said what watcher {self._watcher} asked for"
                )
            match seen.what:
                case "began":
                    self._begin(seen)
                case "initial":
                    self._list(seen)
                case "synced":
                    self._synced(seen.revision)
                case "resync":
                    self._place, self._listed = None, {}
                case "events":
                    for event in seen.events:
                        self._take(event)
                    self._progress(seen.revision)
                case "progress":
                    self._progress(seen.revision)

    def _begin(self, seen: Seen) -> None:
        wanted = seen.filter
        if wanted is None:
            raise Undecided(f"it is not said what watcher {self._watcher} asked for")
        if wanted != self._filter:
            self._filter = wanted
            self._line = [
                each for each in self._logged if is_wanted(each.event, wanted)
            ]
            self._revisions = [each.event.revision for each in self._line]
        self._listed = None
        self._place = self._after(seen.revision - 1) if seen.revision else None

    def _after(self, revision: int) -> int:
        """Return the place of the first event above a revision."""
        return bisect_left(self._revisions, revision + 1)

    # --- changes -------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        assert self._filter is not None
        if not is_wanted(event, self._filter):
            raise Illegal(f"{self._who(event)}, which it did not ask for")
        if self._place is None:
            self._place = bisect_left(self._revisions, event.revision)
        place = self._place
        wanted = self._line[place] if place < len(self._line) else None
        if wanted is None or not _is_same(event, wanted.event):
            raise Illegal(f"{self._who(event)}, {self._instead(event, place)}")
        if self._filter.previous and self._filter.what == "keys":
            self._check_previous(event, wanted.before)
        self._place = place + 1

    def _instead(self, event: Event, place: int) -> str:
        if any(_is_same(event, each.event) for each in self._line[:place]):
            return "which it was told before"
        wanted = self._line[place] if place < len(self._line) else None
        what = "nothing more" if wanted is None else _shown(wanted.event)
        if any(_is_same(event, each.event) for each in self._line[place:]):
            return f"without {what}, which comes first"
        return f"where the log has {what}"

    def _check_previous(self, event: Event, before: Event | None) -> None:
        told = event.previous
        if _is_other(before, told):
            had = "nothing" if before is None else _shown(before)
            raise Illegal(f"{self._who(event)} over {told}, where the log had {had}")

    def _progress(self, revision: int) -> None:
        """Take in that everything up to a revision was told."""
        if not revision:
            return
        place = self._after(revision)
        if self._place is None:
            self._place = place
        elif place > self._place:
            missing = self._line[self._place].event
            raise Illegal(
                f"watcher {self._watcher} was told that all up to revision {revision}"
                f" was told, but was never told {_shown(missing)}"
            )

    # --- lists ---------------------------------------------------------------------

    def _list(self, seen: Seen) -> None:
        if self._listed is None:
            self._listed = {}
        for event in seen.events:
            if event.key in self._listed:
                raise Illegal(f"{self._who(event)} twice in one list")
            self._listed[event.key] = event

    def _synced(self, revision: int) -> None:
        assert self._filter is not None
        listed, self._listed = self._listed or {}, None
        there: dict[str, Event] = {}
        for each in self._logged:
            event = each.event
            if event.revision > revision:
                break
            if event.what == "delete":
                there.pop(event.key, None)
            elif event.what == "put" and self._is_inside(event):
                there[event.key] = event
        for key in sorted({*there, *listed}):
            found, told = there.get(key), listed.get(key)
            if found is None or told is None or not _is_same_key(told, found):
                raise Illegal(
                    f"watcher {self._watcher} got a list of revision {revision} with"
                    f" {'nothing' if told is None else _shown(told)} under {key}, where"
                    f" the log has {'nothing' if found is None else _shown(found)}"
                )
        self._place = self._after(revision)

    def _is_inside(self, event: Event) -> bool:
        assert self._filter is not None
        both = msgspec.structs.replace(self._filter, no_puts=False, no_deletes=False)
        return is_wanted(event, both)

    def _who(self, event: Event) -> str:
        return f"watcher {self._watcher} was told {_shown(event)}"


def _is_same(told: Event, logged: Event) -> bool:
    """Compare events; of a delete only the key and its revision are told."""
    if (told.what, told.revision) != (logged.what, logged.revision):
        return False
    if told.what == "job":
        return (told.job, told.state, told.previous_state) == (
            logged.job,
            logged.state,
            logged.previous_state,
        )
    return (
        told.key == logged.key if told.what == "delete" else _is_same_key(told, logged)
    )


def _is_same_key(told: Event, logged: Event) -> bool:
    return all(getattr(told, name) == getattr(logged, name) for name in _KEY_FIELDS)


def _is_other(before: Event | None, told: Fields | None) -> bool:
    if before is None or told is None:
        return (before is None) != (told is None)
    return any(
        told[name] != getattr(before, name) for name in _KEY_FIELDS if name in told
    )


def _shown(event: Event) -> str:
    if event.what == "job":
        return (
            f"job {event.job} {event.previous_state or 'new'} to"
            f" {event.state or 'gone'} at {event.revision}"
        )
    if event.what == "put":
        return f"put {event.key} = {event.value!r} at {event.revision}"
    return f"{event.what} {event.key} at {event.revision}"
