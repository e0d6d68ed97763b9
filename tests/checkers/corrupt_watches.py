"""Corruptions of watches: for `watches`."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from tests.checkers.corruption import corruption, pick

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.checkers.history import History
    from tests.checkers.parts import Event
    from tests.checkers.records import Seen

__all__: list[str] = []

_Place = tuple[int, int]
"""Of a message, and of an event in it."""


def _told(history: History, wanted: Callable[[Event], bool]) -> list[_Place]:
    """Return events of messages that are not the first or last of their watcher."""
    lines: dict[str, list[int]] = {}
    for at, seen in enumerate(history.seen):
        if seen.what == "events":
            lines.setdefault(seen.watcher, []).append(at)
    return [
        (at, place)
        for line in lines.values()
        for at in line[1:-1]
        for place, event in enumerate(history.seen[at].events)
        if wanted(event)
    ]


def _set(history: History, at: int, events: list[Event]) -> None:
    before: Seen = history.seen[at]
    history.seen[at] = msgspec.structs.replace(before, events=events)


@corruption("watches", "a watcher is not told of one event")
def _dropped_event(history: History, rng: random.Random) -> None:
    """As if a slow stream had thrown something away."""
    at, place = pick(rng, _told(history, lambda _: True), "event between others")
    events = list(history.seen[at].events)
    del events[place]
    _set(history, at, events)


@corruption("watches", "a watcher is told of one event twice")
def _repeated_event(history: History, rng: random.Random) -> None:
    """As if a reconnect had begun one revision too early."""
    at, place = pick(rng, _told(history, lambda _: True), "event between others")
    events = list(history.seen[at].events)
    events.insert(place, events[place])
    _set(history, at, events)


@corruption("watches", "a watcher is told of two events in the wrong order")
def _swapped_events(history: History, rng: random.Random) -> None:
    """As if two entries had been published by two tasks."""
    lines: dict[str, list[_Place]] = {}
    for at, place in _told(history, lambda _: True):
        lines.setdefault(history.seen[at].watcher, []).append((at, place))
    pairs = [pair for line in lines.values() for pair in pairwise(line)]
    (at, place), (other_at, other) = pick(rng, pairs, "pair of events")
    first, second = history.seen[at].events[place], history.seen[other_at].events[other]
    for where, which, event in ((at, place, second), (other_at, other, first)):
        events = list(history.seen[where].events)
        events[which] = event
        _set(history, where, events)


@corruption("watches", "a watcher is told another value than was written")
def _wrong_event(history: History, rng: random.Random) -> None:
    """As if an event showed a later version of its key."""
    found = _told(history, lambda event: event.what == "put")
    at, place = pick(rng, found, "put that was told")
    events = list(history.seen[at].events)
    events[place] = msgspec.structs.replace(events[place], value="never written")
    _set(history, at, events)


@corruption("watches", "a watcher is told a wrong previous value")
def _wrong_previous(history: History, rng: random.Random) -> None:
    """As if the version before had been compacted away."""
    found = _told(history, lambda event: event.previous is not None)
    at, place = pick(rng, found, "event with a previous value")
    events = list(history.seen[at].events)
    events[place] = msgspec.structs.replace(events[place], previous=None)
    _set(history, at, events)


@corruption("watches", "a new key is told as a changed one")
def _wrong_create(history: History, rng: random.Random) -> None:
    """As if a deletion between two puts had been overlooked."""
    found = _told(history, lambda event: event.what == "put" and event.version == 1)
    at, place = pick(rng, found, "new key that was told")
    events = list(history.seen[at].events)
    changed = msgspec.structs.replace(events[place], create_rev=1, version=2)
    events[place] = changed
    _set(history, at, events)


@corruption("watches", "all up to a revision is said to be told before it was")
def _early_progress(history: History, rng: random.Random) -> None:
    """As if a progress message had overtaken the events."""
    at, place = pick(rng, _told(history, lambda _: True), "event between others")
    seen = history.seen[at]
    ahead = msgspec.structs.replace(
        seen, what="progress", events=[], revision=seen.events[place].revision
    )
    history.seen.insert(at, ahead)


@corruption("watches", "a watcher is told of what it did not ask for")
def _unasked_event(history: History, rng: random.Random) -> None:
    """As if a filter were not applied."""
    at, place = pick(rng, _told(history, lambda _: True), "event between others")
    events = list(history.seen[at].events)
    changed = msgspec.structs.replace(
        events[place],
        what="put",
        key="\x7f not asked for",
        queue="not asked for",
        job=1,
    )
    if changed.what == events[place].what == "put":
        changed = msgspec.structs.replace(changed, key="\x01 not asked for")
    events[place] = changed
    _set(history, at, events)


@corruption("watches", "no watcher was told anything")
def _deaf(history: History, rng: random.Random) -> None:
    """As if watches had begun, and nothing had ever come."""
    pick(rng, [seen for seen in history.seen if seen.what != "began"], "message")
    history.seen[:] = [seen for seen in history.seen if seen.what == "began"]


@corruption("watches", "no watcher of jobs was told anything")
def _deaf_to_jobs(history: History, rng: random.Random) -> None:
    """As if the watches of queues alone had never told anything."""
    of_jobs = {
        seen.watcher
        for seen in history.seen
        if seen.filter is not None and seen.filter.what == "jobs"
    }
    pick(rng, sorted(of_jobs), "watcher of jobs")
    history.seen[:] = [
        seen
        for seen in history.seen
        if seen.watcher not in of_jobs or seen.what == "began"
    ]
