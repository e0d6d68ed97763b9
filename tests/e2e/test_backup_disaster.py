"""Two of three members are gone for good: one goes on alone, and grows again.

Source: RELIABILITY.md rule 53; docs/disaster.md.
"""

from __future__ import annotations

import asyncio
import subprocess
from functools import partial
from pathlib import Path

import pytest

from cluster.processes import Processes
from raftclient import MemberKind, aio
from tests.e2e.conftest import MakeNodes
from tests.e2e.test_backup import restore, save
from tests.e2e.tools import (
    eventually,
    eventually_async,
    leader_of,
    status_of,
    wait_until_serving,
)

pytestmark = pytest.mark.e2e

_SKIPPED = 1 << 32


def recover(
    nodes: Processes, node_id: int, *more: str
) -> subprocess.CompletedProcess[str]:
    """Recover with the very flags that serve the member."""
    serve = nodes.command(node_id)
    words = [*serve[:3], "recover", "--force-single", *more, *serve[4:]]
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False
    )


def says(nodes: Processes, node_id: int, words: str) -> bool:
    return words in nodes.log(node_id)


async def grow(nodes: Processes, client: aio.Client, name: str) -> int:
    """Add a member with an empty directory, and wait until it votes."""
    number = nodes.add()
    added = await client.cluster.add(
        name, nodes.peer_address(number), client_address=nodes.endpoint(number)
    )
    nodes.start_joining(number, added.node_id)
    async with asyncio.timeout(60):
        while True:
            members = {m.name: m for m in await client.cluster.members()}
            if members[name].kind is MemberKind.VOTER:
                return number
            await asyncio.sleep(0.1)


async def test_the_survivor_goes_on_alone_and_grows_back(nodes: Processes) -> None:
    async with aio.connect(nodes.endpoints, timeout_s=30) as client:
        for number in range(200):
            await client.put(f"k{number}", "v")
        last = (await client.put("last", "v")).revision
    survivor = leader_of(nodes)
    others = [node_id for node_id in nodes.ids if node_id != survivor]
    for node_id in others:
        nodes.kill(node_id)
    in_use = recover(nodes, survivor, "--others-are-gone-for-good")
    assert in_use.returncode == 1
    assert "is in use by another raftd" in in_use.stderr
    nodes.kill(survivor)
    told = recover(nodes, survivor)
    assert told.returncode == 2
    assert "WARNING" in told.stderr
    assert "nothing was changed" in told.stderr
    done = recover(nodes, survivor, "--others-are-gone-for-good")
    assert done.returncode == 0, done.stderr

    nodes.start(survivor)
    wait_until_serving(nodes, [survivor])
    async with aio.connect(nodes.endpoint(survivor), timeout_s=30) as client:
        assert await client.count(prefix="k") == 200
        assert (await client.put("alone", "yes")).revision > last + _SKIPPED
        (alone,) = await client.cluster.members()
        assert alone.node_id == survivor

        for node_id in others:
            nodes.start(node_id)
            await eventually_async(
                partial(says, nodes, node_id, "belongs to another cluster"),
                f"old member {node_id} is refused by the cluster's id",
            )
            status = status_of(nodes, node_id)
            assert status is None or not status.leader
            nodes.kill(node_id)
        assert (await client.status()).leader == survivor

        await grow(nodes, client, "new1")
        await grow(nodes, client, "new2")
        voters = [m for m in await client.cluster.members() if m.kind == "voter"]
        assert len(voters) == 3
        assert not {m.node_id for m in voters} & {*others}
        await client.put("grown", "yes")
        nodes.kill(survivor)
    left = list(nodes.running)
    endpoints = ",".join(nodes.endpoint(node_id) for node_id in left)
    async with aio.connect(endpoints, timeout_s=30) as client:
        found = await client.get("grown")
        assert found is not None
        assert await client.count(prefix="k") == 200


async def test_members_restored_from_different_backups_form_no_cluster(
    nodes: Processes, make_nodes: MakeNodes, tmp_path: Path
) -> None:
    async with aio.connect(nodes.endpoints, timeout_s=30) as client:
        files = []
        for number in range(2):
            await client.put("k", str(number))
            files.append(tmp_path / f"backup{number}")
            await asyncio.to_thread(save, nodes, 1, files[-1])
    nodes.stop()
    new = make_nodes()
    for node_id, file in zip(new.ids, (files[0], files[0], files[1]), strict=True):
        restore(new, node_id, file)
    new.start()
    eventually(
        lambda: any("backup" in new.log(node_id) for node_id in (1, 2)),
        "somebody says that the backups differ",
    )
    assert all(
        status is None or not status.leader
        for status in (status_of(new, node_id) for node_id in new.ids)
    )
