"""A history of real processes is judged legal, and each corrupted copy of it is not.

Needs no privilege: nodes on loopback, of which the leader is killed once. What needs
networks, disks and clocks of its own is run by ``make chaos``.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from cluster.processes import Processes
from raftpb.v1 import cluster_pb2
from tests.chaos.ending import agree, finish, gather, read_logs, seal
from tests.chaos.loads import LoadProcess
from tests.checkers import history
from tests.checkers.judge import CHECKERS, judge
from tests.checkers.prove import prove
from tests.e2e.tools import (
    eventually_async,
    leader_of,
    status_of,
    wait_until_serving,
)
from tests.workload.evidence import KEEP_LOG
from tests.workload.setting import Options

pytestmark = pytest.mark.e2e

_STUCK_S = 60.0


class _Nodes(Processes):
    """Nodes on loopback, as an ending sees them."""

    @property
    def members(self) -> list[int]:
        return [*self.ids]

    def files(self, node_id: int) -> Path:
        return self.data_dir(node_id)

    def archives(self) -> list[Path]:
        return []

    def statuses(self) -> dict[int, cluster_pb2.MemberStatus]:
        found = {node_id: status_of(self, node_id) for node_id in self.members}
        return {node_id: status for node_id, status in found.items() if status}


async def _record(nodes: _Nodes, folder: Path) -> history.History:
    """Load the nodes, kill their leader once, and return all that happened."""
    load = await LoadProcess.start(
        nodes.endpoints,
        folder / "load.jsonl",
        seed="1",
        name="a",
        options=Options(),
    )
    try:
        await eventually_async(lambda: load.line.writes > 300, "writes are answered")
        leader = leader_of(nodes)
        nodes.kill(leader)
        nodes.start(leader)
        await eventually_async(lambda: load.line.writes > 800, "writes go on")
        assert await finish([load]) == []
    finally:
        await load.close()
    await seal(nodes)
    entries, troubles = read_logs(nodes)
    assert troubles == []
    gather([load.history], entries, folder / "whole.jsonl", seed=1, options={})
    await agree(nodes, keeps_log=True)
    return history.load(folder / "whole.jsonl")


async def test_a_history_of_real_processes_is_legal_and_no_corrupted_copy_is(
    tmp_path: Path,
) -> None:
    nodes = _Nodes(tmp_path / "nodes", 3, KEEP_LOG)
    try:
        nodes.start()
        wait_until_serving(nodes)
        found = await _record(nodes, tmp_path)
    finally:
        for node_id in nodes.running:
            nodes.kill(node_id)
    verdicts = {each.checker: each for each in judge(found)}
    assert {name: each.sentence for name, each in verdicts.items()} == {
        name: each.sentence
        for name, each in verdicts.items()
        if each.outcome == "legal"
    }
    assert verdicts.keys() == CHECKERS.keys()
    assert all(each.count for each in verdicts.values()), "each looked at something"
    proofs = list(prove(found, random.Random(1).randrange(1 << 32)))
    assert [each for each in proofs if not each.is_good] == []
    proven = Counter(each.checker for each in proofs if each.is_done)
    assert proven.keys() == CHECKERS.keys(), "each said no to something"
