"""Watches over a real machine: complete, in order, and over when closed."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from raftd.node.service import WatchBatch, WatchKind, WatchSpec
from raftd.node.watches import Watch, Watches
from raftd.statemachine.events import Event
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.kv import KeyValue, PutKey
from tests.node.virtual_loop import in_virtual_time
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


class _Follower:
    """Takes all that a watch tells, and when."""

    def __init__(self, watch: Watch) -> None:
        self.told: list[tuple[float, WatchKind]] = []
        self._loop = asyncio.get_running_loop()
        self._begin_s = self._loop.time()
        self.task = asyncio.create_task(self._follow(watch))

    async def _follow(self, watch: Watch) -> None:
        while True:
            batch = await watch.next()
            self.told.append((self._loop.time() - self._begin_s, batch.kind))


async def _virtually(time_s: float) -> None:
    """Let virtual time pass."""
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.call_later(time_s, over.set_result, None)
    await over


@in_virtual_time
async def test_an_idle_watch_hears_how_far_it_is_each_second() -> None:
    tower = _Tower()
    follower = _Follower(tower.open())
    await _virtually(0.5)
    later = _Follower(tower.open())
    await _virtually(1.9)
    tower.put(b"a1")
    await _virtually(1.5)
    for one in (follower, later):
        assert WatchKind.EVENTS in [kind for _, kind in one.told]
        times_s = [0.0, *(time_s for time_s, _ in one.told)]
        pauses_s = [b - a for a, b in pairwise(times_s)]
        assert max(pauses_s) <= 1.0
        assert sum(pauses_s) > len(pauses_s) * 0.5
        one.task.cancel()


@in_virtual_time
async def test_idle_watches_share_one_timer_and_are_not_all_rung_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    timers = 0

    def count(*args: Any, call_at: Any = loop.call_at, **kwargs: Any) -> Any:
        nonlocal timers
        timers += 1
        return call_at(*args, **kwargs)

    monkeypatch.setattr(loop, "call_at", count)
    tower = _Tower()
    followers = [_Follower(tower.open()) for _ in range(3000)]
    await _virtually(3.0)
    groups = Counter(time_s for follower in followers for time_s, _ in follower.told)
    for follower in followers:
        times_s = [0.0, *(time_s for time_s, _ in follower.told)]
        assert max(b - a for a, b in pairwise(times_s)) <= 1.0
        assert 3 <= len(follower.told) <= 4
        follower.task.cancel()
    assert max(groups.values()) <= 3000 / 30
    assert timers <= len(groups) + 10


async def test_who_idles_no_more_is_not_kept_by_the_clock() -> None:
    tower = _Tower()
    watch = tower.open()
    waiting = asyncio.create_task(watch.next())
    await asyncio.sleep(0)
    assert len(tower.watches.clock) == 1
    waiting.cancel()
    await asyncio.wait([waiting])
    assert not len(tower.watches.clock)
