"""A cluster grows from one member to five and shrinks to three, again and again.

All the while clients are at work, which learn where the members are now. What a new
member needs was cut from the logs, so each gets a snapshot; who gets it, or who sends
it, is killed half-way.

Source: RELIABILITY.md rules 28-31, 39-46, section 5 (membership churn, snapshot during
faults); codes CFG, DUR, XO, DET.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from typing import Final

import pytest

from cluster.processes import Processes
from raftclient import MemberKind, PreconditionFailed, aio
from raftpb.v1 import cluster_pb2
from tests.e2e.busy import PATIENCE_S, Load, busy, tell
from tests.e2e.conftest import MakeNodes
from tests.e2e.tools import (
    eventually,
    eventually_asked,
    leader_of,
    status_of,
    told_by,
    wait_until_agreed,
    wait_until_serving,
)

pytestmark = pytest.mark.e2e

_FLAGS: Final = (
    *("--checkpoint-interval-ms", "500", "--checkpoint-log-bytes", "262144"),
    *("--log-keep-bytes", "1048576"),
)
_VALUE: Final = b"v" * 65_536
_VALUES: Final = 320
_WRITES: Final = 60
_TURNS: Final = 5
_PAIR: Final = 2


class _Growing:
    """Members come and go; a node's number is its id, as none is ever used twice."""

    def __init__(self, nodes: Processes, load: Load) -> None:
        self.nodes = nodes
        self.load = load

    async def grow(self, number: int, *, victim: str = "") -> None:
        """Add a node, kill one half-way, and wait until the new one votes."""
        nodes = self.nodes
        assert nodes.add() == number
        async with _operator(nodes) as client:
            added = await client.cluster.add(f"n{number}", nodes.peer_address(number))
        assert (added.node_id, added.kind) == (number, MemberKind.LEARNER)
        leader = await asyncio.to_thread(leader_of, nodes)
        nodes.start_joining(number, number)
        if victim:
            await self.kill(number, leader if victim == "leader" else number)
        await asyncio.to_thread(_wait_for_vote, nodes, number)
        assert "snapshot_installed" in nodes.log(number)
        await self.load.go_on(_WRITES)

    async def kill(self, joining: int, victim: int) -> None:
        """Kill a node while the snapshot is on its way.

        On a busy machine that may come too late; then it needs another one. Of two
        both are needed to write anything: there the next kill has to do.
        """
        nodes = self.nodes
        began = 0
        for _ in range(_TURNS):
            await asyncio.to_thread(_wait_for_snapshot, nodes, joining, began)
            nodes.kill(victim)
            is_in_time = "snapshot_installed" not in nodes.log(joining)[began:]
            nodes.start(victim)
            if is_in_time or len(nodes.running) == _PAIR:
                return
            began = await self._need_another(joining)
        pytest.fail(f"node {joining} always had its snapshot before it was killed")

    async def _need_another(self, number: int) -> int:
        """Keep a node away until the logs of the others begin behind its own.

        Returns:
            How much it has logged before it is started again.
        """
        nodes = self.nodes
        await asyncio.to_thread(wait_until_serving, nodes)
        last = (await asyncio.to_thread(told_by, nodes, number)).last_index
        await asyncio.to_thread(nodes.kill, number)
        async with _operator(nodes) as client:
            await _fill(client)
        await asyncio.to_thread(_wait_for_cut, nodes, last)
        began = len(nodes.log(number))
        nodes.start(number)
        return began

    async def shrink(self, number: int) -> None:
        """Remove a node, which then ends with one sentence."""
        async with _operator(self.nodes) as client:
            removed = await client.cluster.remove(f"n{number}")
        assert removed.kind is MemberKind.REMOVED
        assert await asyncio.to_thread(self.nodes.wait, number) == 1
        assert "removed from the cluster" in _only_error(self.nodes, number)
        await self.load.go_on(_WRITES)


def _operator(nodes: Processes) -> aio.Client:
    """Connect as somebody who knows where the cluster is at present."""
    return aio.connect(list(map(nodes.endpoint, nodes.running)), timeout_s=PATIENCE_S)


def _wait_for_snapshot(nodes: Processes, number: int, began: int) -> None:
    """Wait until a node begins to get a snapshot; look often, it is soon over."""
    end_s = time.monotonic() + PATIENCE_S
    while "snapshot_offered" not in nodes.log(number)[began:]:
        assert time.monotonic() < end_s, f"node {number} was offered no snapshot"
        time.sleep(0.005)


def _wait_for_cut(nodes: Processes, last: int) -> None:
    def look() -> bool:
        found = [status_of(nodes, number) for number in nodes.running]
        return all(status and status.first_index > last + 1 for status in found)

    eventually(look, f"the logs begin behind entry {last}", PATIENCE_S)


def _wait_for_vote(nodes: Processes, number: int) -> None:
    def look() -> bool:
        status = status_of(nodes, number)
        return (
            status is not None
            and status.kind == cluster_pb2.MEMBER_KIND_VOTER
            and status.leader != 0
        )

    eventually(look, f"node {number} votes", PATIENCE_S)


def _only_error(nodes: Processes, number: int) -> str:
    (error,) = [x for x in nodes.log(number).splitlines() if x.startswith("error: ")]
    return error


async def _fill(client: aio.Client) -> None:
    """Make the state so large that a snapshot of it takes some time."""
    await asyncio.gather(
        *(client.put(f"large/{index}", _VALUE) for index in range(_VALUES))
    )


async def _check_voters(client: aio.Client, wanted: list[int]) -> None:
    members = await client.cluster.members()
    assert [member.node_id for member in members] == wanted
    assert {member.kind for member in members} == {MemberKind.VOTER}


async def _prove(nodes: Processes, load: Load, left: list[int]) -> None:
    await load.check(",".join(map(nodes.endpoint, left)))
    await asyncio.to_thread(wait_until_agreed, nodes, left)
    async with _operator(nodes) as client:
        await _check_voters(client, left)
        assert await client.count(prefix="large/") == _VALUES


@pytest.mark.parametrize(
    "cycles",
    [
        pytest.param(1, marks=pytest.mark.timeout(400)),
        pytest.param(10, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
async def test_one_to_three_to_five_to_three_by_snapshots(
    make_nodes: MakeNodes, cycles: int
) -> None:
    nodes = make_nodes(*_FLAGS, size=1)
    nodes.start(1)
    assert await asyncio.to_thread(leader_of, nodes) == 1
    left = [1]
    async with _operator(nodes) as client:
        await _fill(client)
    async with busy(nodes.endpoints) as load:
        run = _Growing(nodes, load)
        await run.grow(2, victim="joining")
        await run.grow(3, victim="leader")
        left = [1, 2, 3]
        for cycle in range(cycles):
            load.lap()
            for number, victim in ((4, "leader"), (5, "")):
                await run.grow(2 * cycle + number, victim=victim)
                left.append(2 * cycle + number)
            for is_leader in (True, False):
                leader = await asyncio.to_thread(leader_of, nodes)
                gone = next(n for n in left if (n == leader) == is_leader)
                await run.shrink(gone)
                left.remove(gone)
    await _prove(nodes, load, left)
    tell(f"1 -> 3, {cycles} x 3 -> 5 -> 3 with crashes", load)


@pytest.mark.parametrize("victim", ["joining", "leader"])
@pytest.mark.timeout(300)
async def test_a_wiped_member_is_replaced_whoever_is_killed(
    make_nodes: MakeNodes, victim: str
) -> None:
    nodes = make_nodes(*_FLAGS)
    new = nodes.add()
    nodes.start(1, 2, 3)
    await asyncio.to_thread(wait_until_serving, nodes)
    leader = await asyncio.to_thread(leader_of, nodes)
    lost = next(n for n in (1, 2, 3) if n != leader)
    left = sorted({1, 2, 3, new} - {lost})
    async with _operator(nodes) as client:
        await _fill(client)
        async with busy(nodes.endpoints) as load:
            await _wipe(nodes, load, lost)
            added = await client.cluster.replace(
                f"n{lost}", f"n{lost}", nodes.peer_address(new)
            )
            assert (added.node_id, added.replaces) == (new, lost)
            leader = await asyncio.to_thread(leader_of, nodes)
            nodes.start_joining(new, new)
            killed = leader if victim == "leader" else new
            await _Growing(nodes, load).kill(new, killed)

            async def is_replaced() -> bool:
                members = await client.cluster.members()
                return [member.node_id for member in members] == left

            await eventually_asked(is_replaced, "the lost one is replaced", PATIENCE_S)
            await load.go_on()
        with pytest.raises(PreconditionFailed, match="never used twice"):
            await client.cluster.add("x", "127.0.0.1:9", node_id=lost)
    await _prove(nodes, load, left)
    tell(f"replaced a wiped member, {victim} killed", load)


async def _wipe(nodes: Processes, load: Load, lost: int) -> None:
    """Take a node's data away; then it may not come back as who it was."""
    await asyncio.to_thread(nodes.kill, lost)
    shutil.rmtree(nodes.data_dir(lost))
    nodes.start(lost)
    assert await asyncio.to_thread(nodes.wait, lost) == 1
    assert "`raftctl member replace`" in _only_error(nodes, lost)
    await load.go_on()
