"""Watchers and observers of a synthetic history: they are told what happened, in time.

Each is told events in messages of random size, loses its connection now and then, and
goes on from where it was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftd.statemachine.events import ElectionEvent, JobEvent
from raftd.statemachine.schema.kv import KeyValue
from tests.checkers.logbook import event_of, plain
from tests.checkers.parts import Event, Filter
from tests.checkers.watches import is_wanted

if TYPE_CHECKING:
    from raftd.statemachine.events import Event as LogEvent
    from tests.checkers.parts import Fields
    from tests.checkers.synthetic import Synthetic

__all__ = ["Watching"]

_FILTERS: Final = {
    "all": Filter(to_last=True, previous=True),
    "keys": Filter(start="k/", end="k0"),
    "puts": Filter(start="k/", end="k0", no_deletes=True),
    "sums": Filter(start="t/", end="t0", previous=True),
    "done": Filter(start="done/q"),
    "jobs": Filter(what="jobs", queue="q"),
}
_ELECTIONS: Final = ("e/0", "e/1")
_SPLIT: Final = 0.3


class _Watcher:
    def __init__(self, name: str, filter_: Filter) -> None:
        self.name: Final = name
        self.filter: Final = filter_
        self.told = 0
        self.is_new = False


class Watching:
    """All of them."""

    def __init__(self, world: Synthetic) -> None:
        self._world: Final = world
        self._line: Final[list[Event]] = []
        self._before: Final[dict[str, Fields]] = {}
        self._watchers: Final = [
            _Watcher(name, filter_) for name, filter_ in _FILTERS.items()
        ]
        self._observed: Final[dict[str, int]] = dict.fromkeys(_ELECTIONS, 0)

    def begin(self) -> None:
        """Have all watches asked for: half with a list, the others from 1 on."""
        recorder = self._world.recorder
        for place, watcher in enumerate(self._watchers):
            is_listed = place % 2 == 1 and watcher.filter.what == "keys"
            from_rev = 0 if is_listed else 1
            recorder.watching(watcher.name, watcher.filter, from_rev)
            if is_listed:
                recorder.seen(watcher.name, "initial", [])
                revision = self._world.machine.revision
                recorder.seen(watcher.name, "synced", revision=revision)
        self._later()

    def take(self, events: list[LogEvent]) -> None:
        """Take up what an entry brought."""
        for logged in events:
            event = event_of(logged)
            if isinstance(logged, KeyValue):
                previous = self._before.pop(event.key, None)
                if logged.version:
                    self._before[event.key] = plain(logged)
                event = _with(event, previous)
            if isinstance(logged, ElectionEvent | JobEvent | KeyValue):
                self._line.append(event)

    def end(self) -> None:
        """Tell everybody the rest."""
        for watcher in self._watchers:
            self._tell(watcher, len(self._line))
        self._observe()

    def _later(self) -> None:
        self._world.later(3000, 30_000, self._turn)

    def _turn(self) -> None:
        rng = self._world.rng
        watcher = rng.choice(self._watchers)
        if rng.random() < 0.1:
            watcher.is_new = True
        self._tell(watcher, len(self._line))
        if rng.random() < 0.3:
            self._observe()
        self._later()

    def _tell(self, watcher: _Watcher, upto: int) -> None:
        recorder, rng = self._world.recorder, self._world.rng
        part: list[Event] = []
        for event in self._line[watcher.told : upto]:
            if is_wanted(event, watcher.filter):
                if part and rng.random() < _SPLIT:
                    self._message(watcher, part)
                    part = []
                part.append(event if watcher.filter.previous else _with(event, None))
        watcher.told = upto
        if part:
            self._message(watcher, part)
        revision = self._world.machine.revision
        recorder.seen(watcher.name, "progress", revision=revision)

    def _message(self, watcher: _Watcher, events: list[Event]) -> None:
        self._world.recorder.seen(
            watcher.name, "events", events, resumed=watcher.is_new
        )
        watcher.is_new = False

    def _observe(self) -> None:
        for name, told in self._observed.items():
            for event in self._line[told:]:
                if event.what == "election" and event.name == name:
                    self._world.recorder.observed(
                        f"observer of {name}",
                        name,
                        epoch=event.epoch,
                        claimant=event.claimant,
                        value=event.value,
                        revision=event.revision,
                    )
            self._observed[name] = len(self._line)


def _with(event: Event, previous: Fields | None) -> Event:
    return Event(**{**plain(event), "previous": previous})
