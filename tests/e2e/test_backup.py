"""A backup of a busy cluster, restored as three new members: all that was promised.

Source: SEMANTICS.md section 7 (Backup, Restore).
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import raftclient
from cluster.processes import Processes
from raftclient import JobState, WatchKind, aio
from tests.e2e.conftest import MakeNodes
from tests.e2e.tools import wait_until_agreed, wait_until_serving

pytestmark = pytest.mark.e2e

_FLAGS = ("--checkpoint-log-bytes", "65536", "--checkpoint-interval-ms", "1000")
_SKIPPED = 1 << 32


class Before(msgspec.Struct):
    """What is known of the old cluster when its backup begins."""

    first_rev: int = 0
    counted: int = 0
    token: int = 0
    epoch: int = 0
    reserved: tuple[int, ...] = ()
    failed: int = 0
    done: int = 0
    later: int = 0


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def save(nodes: Processes, node_id: int, file: Path) -> None:
    """Back a cluster up through one member, on the command line."""
    done = run(
        *("raftctl.main", "--endpoints", nodes.endpoint(node_id)),
        *("--timeout", "30s", "backup", "save", str(file)),
    )
    assert done.returncode == 0, done.stderr


def restore(nodes: Processes, node_id: int, file: Path) -> None:
    """Restore with the very flags that will serve the member."""
    serve = nodes.command(node_id)
    done = run(*serve[2:3], "restore", str(file), *serve[4:])
    assert done.returncode == 0, done.stderr


async def live(client: aio.Client, known: Before) -> None:
    """Have one of everything."""
    known.first_rev = (await client.put("config", "old")).revision
    await client.put("config", "new")
    lease = await client.lease(60).grant()
    await client.put("presence", "here", lease=lease)
    known.token = (await client.lock("lock", delay_s=60).acquire()).token
    known.epoch = (await client.election("e").campaign("me")).epoch
    queue = client.queue("work")
    done, failed, *_ = await queue.enqueue_many([b"0", b"1", b"2", b"3", b"4"])
    known.later = (await queue.enqueue(b"later", delay_s=3600)).job_id
    first, second, third, fourth = await queue.reserve(4, reservation_s=600)
    await first.complete(b"result")
    await second.fail("once", retry_in_s=0)
    await third.extend()
    known.done, known.failed = done.job_id, failed.job_id
    known.reserved = (third.job_id, fourth.job_id)


async def count_on(client: aio.Client, known: Before, stop: asyncio.Event) -> None:
    while not stop.is_set():
        known.counted = await client.incr("count")


async def test_what_was_acknowledged_before_it_began_is_in_it(
    nodes: Processes, make_nodes: MakeNodes, tmp_path: Path
) -> None:
    known = Before()
    stop = asyncio.Event()
    files: list[tuple[Path, int, int]] = []
    async with aio.connect(nodes.endpoints, ttl_s=60, timeout_s=30) as client:
        await live(client, known)
        counting = asyncio.create_task(count_on(client, known, stop))
        for node_id in nodes.ids:
            file = tmp_path / f"backup{node_id}"
            low = known.counted
            await asyncio.to_thread(save, nodes, node_id, file)
            files.append((file, low, known.counted + 1))
        stop.set()
        await counting
        # Killed, so that nothing ends cleanly: the claims are in the backup.
        for node_id in nodes.ids:
            nodes.kill(node_id)
    new = make_nodes(*_FLAGS)
    file, low, high = files[-1]
    for node_id in new.ids:
        restore(new, node_id, file)
    new.start()
    wait_until_serving(new)
    async with aio.connect(new.endpoints, timeout_s=30) as client:
        count = await client.incr("count") - 1
        assert low <= count <= high
        assert count > 0
        await check_claims(client, known)
        await check_jobs(client, known)
        await check_history(client, known)
        assert (await client.put("config", "newer")).revision > _SKIPPED
    wait_until_agreed(new)
    old_id = old_cluster_id(files[-1][0])
    async with aio.connect(new.endpoints) as client:
        assert (await client.status()).cluster_id not in ("", old_id)


def old_cluster_id(file: Path) -> str:
    told = run("raftd.server.main", "backup-info", "--json", str(file))
    found: dict[str, str] = msgspec.json.decode(told.stdout)
    return found["cluster_id"]


async def check_claims(client: aio.Client, known: Before) -> None:
    """All of them have ended, and what is claimed anew has higher tokens."""
    assert await client.get("presence") is None
    assert all([info.lease_id > _SKIPPED async for info in client.leases()])
    grant = await client.lock("lock", delay_s=60).acquire()
    assert grant.token > known.token + _SKIPPED - 1_000_000
    assert await client.leader("e") is None
    won = await client.election("e").campaign("you", wait_s=0)
    assert won.epoch > known.epoch + _SKIPPED - 1_000_000


async def check_jobs(client: aio.Client, known: Before) -> None:
    """Reservations came back uncharged; the rest is as it was."""
    for job_id in known.reserved:
        job = await client.job(job_id)
        assert (job.state, job.attempt, job.crashes) == (JobState.READY, 0, 0)
        assert job.delivery == 1
    failed = await client.job(known.failed)
    assert (failed.state, failed.attempt, failed.error) == (JobState.READY, 1, "once")
    done = await client.job(known.done)
    assert (done.state, done.result) == (JobState.DONE, b"result")
    assert (await client.job(known.later)).state is JobState.SCHEDULED
    taken = await client.queue("work").reserve(10, wait_s=0)
    assert sorted(job.payload for job in taken) == [b"1", b"2", b"3", b"4"]
    assert all(job.token > _SKIPPED for job in taken)


async def check_history(client: aio.Client, known: Before) -> None:
    """An old watch is told so and begins anew; old revisions are gone."""
    found = await client.get("config")
    assert found is not None
    assert found.value == b"new"
    assert found.mod_rev < _SKIPPED
    with pytest.raises(raftclient.Compacted):
        await client.get("config", at_revision=known.first_rev)
    async with client.watch(key="config", from_rev=known.first_rev) as feed:
        first = await anext(feed)
        assert first.kind is WatchKind.RESYNC
