"""Each fault happens to an idle world, is taken back, and leaves nothing behind.

Rules: what a fault asserts of the cluster counts here too; nothing is asserted about
how long anything took.

Source: RELIABILITY.md section 5.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import raftclient
from raftclient import aio
from tests.chaos.disks import HARMS, harm
from tests.chaos.fault import why_no_world
from tests.chaos.faults import FAULTS, Want, why_not_here
from tests.chaos.membership import settle_members
from tests.chaos.shim import Page
from tests.chaos.world import World
from tests.e2e.tools import eventually, eventually_asked, leader_of, wait_until_serving

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
needs_world = pytest.mark.skipif(bool(why_no_world()), reason=why_no_world())

_CALL_S: Final = 120.0
_HELD_S: Final = 0.3
_QUICK: Final = ("kill_leader", "partition_ring", "frozen_disk_leader", "deleted_data")
"""One of each kind: the others are slow."""

_PLAIN: Final[frozenset[Want]] = frozenset()


class _Worlds:
    """One world for all faults that want the same; a broken one is not used again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._worlds: dict[frozenset[Want], World] = {}

    def get(self, wants: frozenset[Want], *, is_once: bool) -> World:
        if is_once:
            self.drop(wants)
        if wants not in self._worlds:
            self._made += 1
            world = World(self._folder / f"world{self._made}", seed="test", wants=wants)
            self._worlds[wants] = world
            world.start()
            leader_of(world)
        return self._worlds[wants]

    def drop(self, wants: frozenset[Want]) -> None:
        world = self._worlds.pop(wants, None)
        if world is not None:
            world.close()

    def close(self) -> None:
        for wants in [*self._worlds]:
            self.drop(wants)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Worlds]:
    made = _Worlds(tmp_path_factory.mktemp("worlds"))
    yield made
    made.close()


def _cases() -> list[object]:
    return [
        name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow)
        for name in FAULTS
    ]


@needs_world
@pytest.mark.parametrize("name", _cases())
async def test_a_fault_comes_and_goes(worlds: _Worlds, name: str) -> None:
    if reason := why_not_here(name):
        pytest.skip(reason)
    kind = FAULTS[name]
    world = await asyncio.to_thread(worlds.get, kind.wants, is_once=kind.is_once)
    try:
        await _happen(world, name)
    except BaseException:
        worlds.drop(kind.wants)
        raise


async def _happen(world: World, name: str) -> None:
    fault = FAULTS[name]()
    async with aio.connect(world.endpoints, timeout_s=_CALL_S) as client:
        await client.put("before", name)
        try:
            await fault.inject(world, random.Random(name))
            await asyncio.sleep(_HELD_S)
        finally:
            await fault.heal(world)
        await fault.heal(world)
        assert not world.taken
        assert not world.ground.is_shaped
        assert await eventually_asked(
            lambda: settle_members(world), "somebody says who is a member"
        )
        await asyncio.to_thread(wait_until_serving, world, world.members)
        world.check()
        found = await client.get("before")
        assert found is not None
        assert found.value == name.encode()


@needs_world
def test_a_world_without_majority_is_healed_whole(tmp_path: Path) -> None:
    """Everything at once, and nobody takes it back but the world."""
    rng = random.Random(1)
    with World(tmp_path, seed="heal") as world:
        leader_of(world)
        one, two, three = world.members
        world.freeze(one)
        world.pause(two)
        world.fill(three)
        world.pages[three].hang_syncs()
        assert world.take(rng, "any", "test")
        world.heal()
        assert not world.taken
        with raftclient.connect(world.endpoints, timeout_s=_CALL_S) as client:
            client.put("a", b"1")
        world.check()


_MAKER: Final = """
import sys, time
from pathlib import Path
from tests.chaos.world import World
with World(seed="killed") as world:
    world.wait_for_leader()
    world.freeze(1)
    print(world.name, world.folder, flush=True)
    time.sleep(600)
"""


@needs_world
def test_nothing_is_left_of_a_world_whose_maker_was_killed(tmp_path: Path) -> None:
    """A node waits for a frozen disk, in a state that no signal ends."""
    maker = subprocess.Popen(
        [sys.executable, "-c", _MAKER], stdout=subprocess.PIPE, text=True
    )
    with maker:
        assert maker.stdout is not None
        name, folder = maker.stdout.readline().split()
        maker.kill()
    eventually(lambda: not _processes_of(name), "all its processes have ended")
    assert Path(folder).exists()
    World(tmp_path, size=1).close()
    assert not Path(folder).exists()
    assert folder not in _text_of(["losetup", "--all"])


@needs_world
def test_a_router_that_was_killed_too_leaves_nothing_either(tmp_path: Path) -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", _MAKER], stdout=subprocess.PIPE, text=True
    )
    with maker:
        assert maker.stdout is not None
        name, folder = maker.stdout.readline().split()
        for pid in (*_processes_of(name, "tests.chaos.router"), maker.pid):
            os.kill(pid, signal.SIGKILL)
    assert _processes_of(name), "its nodes are still there"
    World(tmp_path, size=1).close()
    eventually(lambda: not _processes_of(name), "all its processes have ended")
    assert not Path(folder).exists()


def _processes_of(world: str, word: str = "") -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            is_ours = f"CHAOS_WORLD={world}\0" in (entry / "environ").read_text()
            is_wanted = word in (entry / "cmdline").read_text()
        except (OSError, UnicodeDecodeError):
            continue
        if is_ours and is_wanted:
            found.append(int(entry.name))
    return found


def _text_of(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("how", HARMS)
def test_harm_is_done_to_a_file_and_to_nothing_else(tmp_path: Path, how: str) -> None:
    whole = random.Random(0).randbytes(20_000)
    for seed in range(20):
        path = tmp_path / "file"
        path.write_bytes(whole)
        done = harm(path, how, random.Random(seed))
        assert not done.is_same
        assert done.file == "file"
        assert not path.exists() or path.read_bytes() != whole
        if how in {"byte", "page", "zeros"}:
            now = path.read_bytes()
            differing = [i for i, byte in enumerate(now) if byte != whole[i]]
            assert len(now) == len(whole)
            assert differing[0] >= done.offset
            assert differing[-1] < done.offset + (1 if how == "byte" else 4096)


def test_monotonic_time_that_is_bent_never_jumps(tmp_path: Path) -> None:
    page = Page(tmp_path / "page")
    shifts = []
    for second, rate in ((10, 40_000), (20, -40_000), (40, 0), (50, 10)):
        page.bend_clock(second * 1_000_000_000, rate_ppm=rate)
        shifts.append(page["clock_shift_ns"] // 1_000_000)
    page.close()
    assert shifts == [0, 400, -400, -400]


@needs_world
def test_power_loss_takes_what_was_not_synced_and_only_that(tmp_path: Path) -> None:
    lost = 0
    with World(tmp_path, size=1, seed="power", wants={Want.UNSYNCED}) as world:
        with raftclient.connect(world.endpoints, timeout_s=_CALL_S) as client:
            for turn in range(5):
                leader_of(world)
                for number in range(20):
                    client.put(f"k{turn}.{number}", b"v" * 3000)
                lost += world.lose_power(random.Random(turn), 1)
                world.ensure_running(1)
            assert client.count(prefix="k") == 100
        world.check()
    assert lost > 0, "checkpoints of state.db are not synced at each write"
