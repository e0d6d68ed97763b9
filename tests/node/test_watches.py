"""Watches over a real machine: complete, in order, and over when closed."""

from __future__ import annotations

import asyncio

import pytest

from raftd.node.service import WatchBatch, WatchKind, WatchSpec
from raftd.node.watches import Watch, Watches
from raftd.statemachine.events import Event
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.kv import KeyValue, PutKey
from tests.statemachine.harness import Harness


class _Tower:
    """A machine whose entries reach its watches."""

    def __init__(self) -> None:
        self.harness = Harness()
        self.watches = Watches(self.harness.machine)

    def put(self, *keys: bytes) -> int:
        applied = self.harness.entry(*(PutKey(key, b"v") for key in keys))
        assert applied.record is not None
        self.watches.publish(applied.record)
        return self.harness.machine.revision

    def open(self, *, from_rev: int = 0, wants_initial: bool = False) -> Watch:
        return self.watches.open(
            WatchSpec(
                keep=_is_wanted,
                from_rev=from_rev,
                wants_initial=wants_initial,
                snapshot=_count,
            )
        )


def _is_wanted(event: Event) -> bool:
    return isinstance(event, KeyValue) and event.key.startswith(b"a")


def _count(machine: Machine) -> list[int]:
    return [machine.kv.count_all]


def _keys(batch: WatchBatch) -> list[bytes]:
    assert batch.kind is WatchKind.EVENTS
    return [item.key for item in batch.items]


async def test_events_from_now_on_and_only_those_wanted() -> None:
    tower = _Tower()
    tower.put(b"a0")
    watch = tower.open()
    tower.put(b"b1")
    tower.put(b"a1", b"b2", b"a2")
    last = tower.put(b"a3")
    batch = await watch.next()
    assert _keys(batch) == [b"a1", b"a2", b"a3"]
    assert batch.revision == last


async def test_a_waiting_watch_is_woken_by_what_it_wants_alone() -> None:
    tower = _Tower()
    watch = tower.open()
    waiting = asyncio.create_task(watch.next())
    await asyncio.sleep(0)
    tower.put(b"b1")
    await asyncio.sleep(0)
    assert not waiting.done()
    tower.put(b"a1")
    assert _keys(await waiting) == [b"a1"]


async def test_the_past_comes_from_the_revision_asked_for() -> None:
    tower = _Tower()
    first = tower.put(b"a0")
    tower.put(b"a1")
    assert _keys(await tower.open(from_rev=first).next()) == [b"a0", b"a1"]
    assert _keys(await tower.open(from_rev=first + 1).next()) == [b"a1"]


async def test_the_present_comes_first_if_wanted_and_no_event_twice() -> None:
    tower = _Tower()
    revision = tower.put(b"a0", b"b0")
    watch = tower.open(wants_initial=True)
    tower.put(b"a1")
    initial, synced, events = [await watch.next() for _ in range(3)]
    assert initial == WatchBatch(WatchKind.INITIAL, revision, [2])
    assert synced == WatchBatch(WatchKind.SYNCED, revision, ())
    assert _keys(events) == [b"a1"]


async def test_progress_never_promises_what_has_not_happened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("raftd.node.watches._PROGRESS_S", 0.0)
    tower = _Tower()
    revision = tower.put(b"a0")
    batch = await tower.open(from_rev=revision + 100).next()
    assert (batch.kind, batch.revision) == (WatchKind.PROGRESS, revision)


async def test_a_closed_watch_ends_at_once_also_when_nobody_waited() -> None:
    tower = _Tower()
    watch, other = tower.open(), tower.open()
    waiting = asyncio.create_task(other.next())
    await asyncio.sleep(0)
    for one in (watch, other, other):
        one.close()
    assert not len(tower.watches)
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(0):
            await watch.next()
    with pytest.raises(asyncio.CancelledError):
        await waiting
