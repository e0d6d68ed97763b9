"""A cluster of processes grows from one node to five and shrinks to three, under load.

Source: SEMANTICS.md section 7; RELIABILITY.md rules 39-46; codes CFG, DUR, XO, DET.
"""

from __future__ import annotations

import shutil

import pytest

from cluster.processes import Processes
from raftclient import MemberKind, PreconditionFailed, aio
from raftpb.v1 import cluster_pb2
from tests.e2e.conftest import MakeNodes
from tests.e2e.counting import check_counts, counting
from tests.e2e.tools import (
    eventually,
    eventually_asked,
    eventually_async,
    leader_of,
    status_of,
    told_by,
)

pytestmark = pytest.mark.e2e

_FLAGS = ("--checkpoint-interval-ms", "500", "--checkpoint-log-bytes", "262144")
_S = 60.0


async def _grow(nodes: Processes, client: aio.Client, number: int) -> None:
    """Add a prepared node, start it, and wait until it votes."""
    added = await client.cluster.add(
        f"n{number}", nodes.peer_address(number), timeout_s=_S
    )
    assert added.node_id == number
    assert added.kind is MemberKind.LEARNER
    nodes.start_joining(number, added.node_id)
    await eventually_async(
        lambda: (
            (status := status_of(nodes, number)) is not None
            and status.kind == cluster_pb2.MEMBER_KIND_VOTER
            and status.leader != 0
        ),
        f"node {number} votes",
    )


async def _shrink(nodes: Processes, client: aio.Client, number: int) -> None:
    removed = await client.cluster.remove(f"n{number}", timeout_s=_S)
    assert removed.kind is MemberKind.REMOVED
    assert nodes.wait(number) == 1
    errors = [x for x in nodes.log(number).splitlines() if x.startswith("error: ")]
    assert len(errors) == 1
    assert "was removed from the cluster" in errors[0]


async def test_one_to_three_to_five_to_three_under_load(make_nodes: MakeNodes) -> None:
    """The leader is among those who go, and all of the first node's log was cut."""
    nodes = make_nodes(*_FLAGS, size=1)
    for _ in range(4):
        nodes.add()
    nodes.start(1)
    assert leader_of(nodes) == 1
    async with aio.connect(nodes.endpoints, timeout_s=_S) as client:
        async with counting(nodes) as counts:
            for number in (2, 3, 4, 5):
                await _grow(nodes, client, number)
                await counts.go_on()
            leader = leader_of(nodes)
            await _shrink(nodes, client, leader)
            await counts.go_on()
            other = next(n for n in (1, 2) if n != leader)
            await _shrink(nodes, client, other)
            await counts.go_on()
        await check_counts(nodes, counts)
        members = await client.cluster.members()
    left = [n for n in (1, 2, 3, 4, 5) if n not in (leader, other)]
    assert [member.node_id for member in members] == left
    assert {member.kind for member in members} == {MemberKind.VOTER}
    _check_equal(nodes, left)


def _check_equal(nodes: Processes, numbers: list[int]) -> None:
    """Wait until all that are left have compared equal states."""
    last = max(told_by(nodes, n).last_index for n in numbers)

    def look() -> bool:
        found = [status_of(nodes, n) for n in numbers]
        return all(s is not None and s.compared_index > last - 100 for s in found)

    eventually(look, "all that are left hold the same state")


async def test_a_wiped_machine_stops_and_is_brought_back_by_replace(
    nodes: Processes,
) -> None:
    leader = leader_of(nodes)
    lost = next(n for n in nodes.ids if n != leader)
    async with aio.connect(nodes.endpoints, timeout_s=_S) as client:
        await client.put("kept", b"v")
        nodes.kill(lost)
        shutil.rmtree(nodes.data_dir(lost))
        nodes.start(lost)
        assert nodes.wait(lost) == 1
        last = nodes.log(lost).splitlines()[-1]
        assert last.startswith("error: ")
        assert "`raftctl member replace`" in last
        new = nodes.add()
        added = await client.cluster.replace(
            f"n{lost}", f"n{lost}", nodes.peer_address(new), timeout_s=_S
        )
        assert added.replaces == lost
        nodes.start_joining(new, added.node_id)

        async def is_replaced() -> bool:
            members = await client.cluster.members()
            voters = [m.node_id for m in members if m.kind is MemberKind.VOTER]
            return sorted(voters) == sorted({*nodes.ids} - {lost})

        await eventually_asked(is_replaced, "the lost one is replaced")
        with pytest.raises(PreconditionFailed, match="never used twice"):
            await client.cluster.add("x", "127.0.0.1:9", node_id=lost)
        async with aio.connect(nodes.endpoint(new), timeout_s=_S) as at_new:
            found = await at_new.get("kept")
            assert found is not None
            assert found.value == b"v"
