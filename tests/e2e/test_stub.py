"""A script of ten lines with generated stubs does real work at any member.

Source: DESIGN.md section 7 (any member answers).
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from cluster.processes import Processes
from raftclient import aio

pytestmark = pytest.mark.e2e


async def test_plain_stubs_put_get_acquire_and_enqueue_at_any_member(
    nodes: Processes,
) -> None:
    tokens, jobs = [], []
    for node_id in nodes.ids:
        done = subprocess.run(
            [sys.executable, "-m", "tests.e2e.plain_stub", nodes.endpoint(node_id)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        _, value, _, token, _, job = done.stdout.split()
        assert value == "hello"
        tokens.append(int(token))
        jobs.append(int(job))
    async with aio.connect(nodes.endpoints) as client:
        found = await client.get("greeting")
        assert found is not None
        assert (found.value, found.version) == (b"hello", len(nodes.ids))
        for node_id, granted in zip(nodes.ids, tokens, strict=True):
            info = await client.lock_info(f"door of {nodes.endpoint(node_id)}")
            assert [holder.token for holder in info.holders] == [granted]
        ready = [each.job_id async for each in client.queue("mail").list()]
    assert ready == sorted(set(jobs)) == jobs
