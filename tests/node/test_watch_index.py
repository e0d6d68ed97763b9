"""The watches of an event are found by its subject: all of them, each once."""

from __future__ import annotations

import random

import pytest

from raftd.api.kv_watch import plan_watch
from raftd.api.limits import DoorLimits
from raftd.node.service import WatchKind, WatchSpec
from raftd.node.watch_index import About, Subject, WatchIndex
from raftd.node.watches import Watches
from raftd.statemachine.events import (
    ElectionEvent,
    Event,
    JobEvent,
    LockLost,
    LossReason,
)
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.kv import KeyValue, PutKey
from raftpb.v1 import kv_pb2
from tests.statemachine.harness import Harness

_ABOUTS: tuple[About | None, ...] = (
    None,
    (Subject.KEY, b"a"),
    (Subject.KEY, b"ab"),
    (Subject.PREFIX, b"a"),
    (Subject.PREFIX, b"ab"),
    (Subject.PREFIX, b"b"),
    (Subject.ELECTION, "a"),
    (Subject.QUEUE, "a"),
    (Subject.JOB, 7),
)


def _key(key: bytes) -> KeyValue:
    return KeyValue(key, b"v", 1, 1, 1, 0)


@pytest.mark.parametrize(
    ("event", "wanted"),
    [
        (_key(b"a"), {1, 3}),
        (_key(b"ab"), {2, 3, 4}),
        (_key(b"abc"), {3, 4}),
        (_key(b"c"), set()),
        (ElectionEvent(1, "a", "", b"", 0), {6}),
        (JobEvent(1, "a", 7, None, None), {7, 8}),
        (JobEvent(1, "b", 7, None, None), {8}),
        (LockLost(1, "a", "", 1, LossReason.EXPIRED), set()),
    ],
)
def test_an_event_finds_its_watches_and_those_of_everything(
    event: Event, wanted: set[int]
) -> None:
    index: WatchIndex[int] = WatchIndex()
    for number, about in enumerate(_ABOUTS):
        index.add(number, about)
    found = [*index.find(event)]
    assert sorted(found) == sorted({0} | wanted)


def test_what_is_forgotten_is_found_no_more_and_leaves_nothing() -> None:
    index: WatchIndex[int] = WatchIndex()
    for number, about in enumerate(_ABOUTS):
        index.add(number, about)
        index.add(number + 100, about)
    for number, about in enumerate(_ABOUTS):
        index.discard(number, about)
        index.discard(number, about)
    assert sorted(index.find(_key(b"ab"))) == [100, 102, 103, 104]
    for number, about in enumerate(_ABOUTS):
        index.discard(number + 100, about)
    assert not [*index.find(_key(b"ab"))]
    assert not any(vars(index).values())


@pytest.mark.parametrize(
    ("request_", "about"),
    [
        (kv_pb2.WatchKeysRequest(start=b"a"), (Subject.KEY, b"a")),
        (kv_pb2.WatchKeysRequest(start=b"a", end=b"b"), (Subject.PREFIX, b"a")),
        (kv_pb2.WatchKeysRequest(start=b"a", end=b"c"), None),
        (kv_pb2.WatchKeysRequest(start=b"ab", end=b"b"), None),
        (kv_pb2.WatchKeysRequest(start=b"a\xff", end=b"b"), None),
        (kv_pb2.WatchKeysRequest(start=b"a", to_last=True), None),
        (kv_pb2.WatchKeysRequest(to_last=True), None),
    ],
)
def test_a_watch_of_keys_says_what_it_is_about(
    request_: kv_pb2.WatchKeysRequest, about: About | None
) -> None:
    plan = plan_watch(request_, limits=DoorLimits(apply=DEFAULT_LIMITS))
    assert not isinstance(plan, Refusal)
    assert plan.spec.about == about
    if about is not None:
        rng = random.Random(1)
        index: WatchIndex[str] = WatchIndex()
        index.add("watch", about)
        for _ in range(300):
            event = _key(bytes(rng.choices(b"ab\0\xff", k=rng.randint(1, 4))))
            assert plan.spec.keep(event) <= bool([*index.find(event)])


async def test_what_a_watch_was_not_asked_about_is_read_neither_late_nor_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """History that is gone hurts no watch that wanted nothing of it."""
    monkeypatch.setattr("raftd.node.watches._PROGRESS_S", 0.0)
    harness = Harness()
    watches = Watches(harness.machine)
    reads: list[int] = []
    read = harness.machine.history.read

    def note(from_rev: int, events_max: int) -> object:
        reads.append(from_rev)
        return read(from_rev, events_max)

    monkeypatch.setattr(harness.machine.history, "read", note)

    def put(key: bytes) -> int:
        applied = harness.entry(PutKey(key, b"v"))
        assert applied.record is not None
        watches.publish(applied.record)
        return harness.machine.revision

    watch = watches.open(_about_key(b"a"))
    for _ in range(5):
        last = put(b"b")
        batch = await watch.next()
        assert (batch.kind, batch.revision) == (WatchKind.PROGRESS, last)
    assert not reads
    put(b"b")
    wanted = put(b"a")
    put(b"b")
    batch = await watch.next()
    assert (batch.kind, [e.mod_rev for e in batch.items]) == (
        WatchKind.EVENTS,
        [wanted],
    )
    assert reads == [wanted]


def _about_key(key: bytes) -> WatchSpec:
    def keep(event: Event) -> bool:
        return isinstance(event, KeyValue) and event.key == key

    def snapshot(machine: Machine) -> list[int]:
        return [machine.revision]

    return WatchSpec(keep=keep, about=(Subject.KEY, key), snapshot=snapshot)
