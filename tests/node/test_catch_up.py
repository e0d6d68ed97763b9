"""Watches that are far behind: each is told all it wants, and one walk serves them all.

Source: SEMANTICS.md section 2 (watch).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import pytest

from raftd.node.service import WatchBatch, WatchKind, WatchSpec
from raftd.node.watch_index import About, Subject
from raftd.node.watches import Watch, Watches
from raftd.statemachine.events import Event
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.kv import CompactHistory, KeyValue, PutKey
from tests.statemachine.harness import Harness

_KEYS = [b"%c%c" % (a, b) for a in b"abc" for b in b"0123456789"]
_FAR = 100
"""Entries; more than a watch looks through by itself."""


class _Tower:
    """A machine whose entries reach its watches, and how often what was asked."""

    def __init__(self, patch: pytest.MonkeyPatch, slice_events: int = 256) -> None:
        patch.setattr("raftd.node.catch_up._SLICE_EVENTS", slice_events)
        self.harness = Harness()
        self.machine = self.harness.machine
        self.watches = Watches(self.machine)
        self.puts: list[tuple[int, bytes]] = []
        self.reads = 0
        self.looks = 0
        read = self.machine.history.read

        def note(from_rev: int, records_max: int) -> object:
            self.reads += 1
            return read(from_rev, records_max)

        patch.setattr(self.machine.history, "read", note)

    def put(self, *keys: bytes) -> None:
        before = self.machine.revision
        applied = self.harness.entry(*(PutKey(key, b"v") for key in keys))
        assert applied.record is not None
        self.puts += [(before + 1 + at, key) for at, key in enumerate(keys)]
        self.watches.publish(applied.record)

    def put_far(self, *keys: bytes) -> None:
        """Put these, one in an entry, until there are many entries."""
        for at in range(_FAR):
            self.put(keys[at % len(keys)])

    def forget_before(self, revision: int) -> None:
        self.harness.entry(CompactHistory(revision))

    def open(
        self, keep: Callable[[bytes], bool], about: About | None, from_rev: int
    ) -> Watch:
        def wants(event: Event) -> bool:
            self.looks += 1
            return isinstance(event, KeyValue) and keep(event.key)

        spec = WatchSpec(keep=wants, about=about, from_rev=from_rev, snapshot=_nothing)
        return self.watches.open(spec)

    def open_key(self, key: bytes, from_rev: int) -> Watch:
        return self.open(key.__eq__, (Subject.KEY, key), from_rev)

    def wanted(self, keep: Callable[[bytes], bool], from_rev: int) -> list[int]:
        return [rev for rev, key in self.puts if rev >= from_rev and keep(key)]


def _nothing(_: Machine) -> list[int]:
    return []


async def _follow(watch: Watch, told: list[int]) -> None:
    """Take revisions of events until cancelled; each batch follows the last."""
    last = 0
    try:
        while True:
            batch = await watch.next()
            assert batch.revision >= last
            last = batch.revision
            told += [event.mod_rev for event in batch.items]
    finally:
        watch.close()


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():
            await _turn()


async def _turn() -> None:
    """Let everybody else have a turn of the loop."""
    await asyncio.sleep(0)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled(), task.exception()


@pytest.mark.parametrize("seed", range(6))
async def test_each_is_told_all_that_it_wants_once(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever it begins, and whatever is written and closed meanwhile."""
    rng = random.Random(seed)
    tower = _Tower(monkeypatch)
    tower.put_far(*_KEYS)
    follows: list[_Follow] = []
    for _ in range(40):
        follows += [_Follow(tower, rng) for _ in range(rng.randrange(4))]
        for _ in range(rng.randrange(30)):
            tower.put(*rng.choices(_KEYS, k=rng.randint(1, 3)))
        if rng.random() < 0.6:
            await _turn()
        if rng.random() < 0.2:
            await _end([follows.pop().task])
    wanted = [tower.wanted(follow.keep, follow.from_rev) for follow in follows]
    await _until(
        lambda: all(len(f.told) >= len(w) for f, w in zip(follows, wanted, strict=True))
    )
    assert [follow.told for follow in follows] == wanted
    await _end([follow.task for follow in follows])
    assert not len(tower.watches.catch_up)


class _Follow:
    """A watch of something, from some revision on."""

    def __init__(self, tower: _Tower, rng: random.Random) -> None:
        key = rng.choice(_KEYS)
        about: About | None = None
        self.keep: Callable[[bytes], bool] = key.__lt__
        if rng.random() < 0.5:
            self.keep, about = key.__eq__, (Subject.KEY, key)
        elif rng.random() < 0.7:
            prefix = key[: rng.randint(0, 2)]
            self.keep, about = _begins(prefix), (Subject.PREFIX, prefix)
        self.from_rev = rng.randint(1, tower.machine.revision + 5)
        self.told: list[int] = []
        watch = tower.open(self.keep, about, self.from_rev)
        self.task = asyncio.create_task(_follow(watch, self.told))


def _begins(prefix: bytes) -> Callable[[bytes], bool]:
    return lambda key: key.startswith(prefix)


async def test_one_walk_serves_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = _Tower(monkeypatch)
    tower.put_far(b"x", b"y")
    tower.put(*_KEYS)
    tower.put_far(b"x", b"y")
    told: list[list[int]] = [[] for _ in range(20 * len(_KEYS))]
    tasks = [
        asyncio.create_task(
            _follow(tower.open_key(_KEYS[at % len(_KEYS)], at % _FAR + 1), told[at])
        )
        for at in range(len(told))
    ]
    await _until(lambda: all(len(one) == 1 for one in told))
    await _until(lambda: not len(tower.watches.catch_up))
    # Some reads and looks for each watch, and not as many as there are entries.
    assert tower.reads < 8 * len(told)
    assert tower.looks < 80 * len(told)
    await _end(tasks)


async def test_the_loop_has_turns_during_a_long_walk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = _Tower(monkeypatch, slice_events=10)
    tower.put_far(b"x")
    told: list[int] = []
    task = asyncio.create_task(_follow(tower.open_key(b"a", 1), told))
    turns = 0
    await _turn()
    await _turn()
    while len(tower.watches.catch_up):
        turns += 1
        await asyncio.sleep(0)
    assert turns >= _FAR * 2 // 10 - 1
    await _end([task])


async def test_who_wants_what_the_walk_has_passed_gets_it_from_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = _Tower(monkeypatch, slice_events=10)
    tower.put(b"a")
    tower.put_far(b"x")
    late: list[int] = []
    first = asyncio.create_task(_follow(tower.open_key(b"b", 40), []))
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(tower.watches.catch_up) == 1
    second = asyncio.create_task(_follow(tower.open_key(b"a", 1), late))
    await _until(lambda: bool(late))
    assert late == [1]
    await _end([first, second])


async def test_one_that_is_closed_while_it_waits_ends_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = _Tower(monkeypatch)
    tower.put_far(b"x")
    watch = tower.open_key(b"a", 1)
    waiting = asyncio.create_task(watch.next())
    await asyncio.sleep(0)
    assert len(tower.watches.catch_up) == 1
    watch.close()
    assert not len(tower.watches.catch_up)
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_who_falls_below_the_compaction_is_told_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = _Tower(monkeypatch, slice_events=10)
    tower.put_far(b"x")
    middle = tower.machine.revision
    tower.put_far(b"x")
    tower.put(b"a")
    below, above = tower.open_key(b"a", 1), tower.open_key(b"a", middle)
    batches: list[WatchBatch] = []

    async def first_batch(watch: Watch) -> None:
        batches.append(await watch.next())

    tasks = [asyncio.create_task(first_batch(watch)) for watch in (below, above)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(tower.watches.catch_up) == 2
    tower.forget_before(middle - 20)
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    kinds = sorted(batch.kind.name for batch in batches)
    assert kinds == [WatchKind.EVENTS.name, WatchKind.RESYNC.name]


async def test_what_a_watch_cannot_look_at_ends_it_and_not_the_walks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = _Tower(monkeypatch)
    tower.put_far(b"x")
    tower.put(b"a")

    def fail(key: bytes) -> bool:
        raise RuntimeError("no key of mine")

    broken = tower.open(fail, None, 1)
    with pytest.raises(RuntimeError, match="no key of mine"):
        await broken.next()
    broken.close()
    batch = await tower.open_key(b"a", 1).next()
    assert [event.key for event in batch.items] == [b"a"]
