"""A holder that sleeps beyond its ttl has lost, knows it at once, and is fenced off.

Source: SEMANTICS.md sections 1 and 4; RELIABILITY.md section 5 (SIGSTOP of a client);
codes MEX, FEN, LSE.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

import pytest

from cluster.processes import Processes
from raftclient import aio
from tests.e2e.tools import eventually_async, leader_of

pytestmark = pytest.mark.e2e

TTL_S = 2.0
KEPT_S = 4.0
"""Of what must not be lost: long beside any moment in which a process stands still."""
TASKS = 100
PATIENCE_S = 60.0


@contextlib.contextmanager
def holder(
    nodes: Processes, name: str, ttl_s: float = TTL_S
) -> Iterator[subprocess.Popen[str]]:
    """Run ``holder`` and end it, stopped or not."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.e2e.holder", nodes.endpoints, name, str(ttl_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None, "a pipe was asked for"
    return stream


async def line_of(process: subprocess.Popen[str]) -> list[str]:
    return (await asyncio.to_thread(pipe(process.stdout).readline)).split()


async def token_of(process: subprocess.Popen[str]) -> int:
    word, token = await line_of(process)
    assert word == "token"
    return int(token)


def tell(process: subprocess.Popen[str]) -> None:
    pipe(process.stdin).write("go on\n")
    pipe(process.stdin).flush()


async def test_a_holder_stopped_beyond_its_ttl_knows_it_lost_and_is_fenced(
    nodes: Processes,
) -> None:
    async with aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client:
        with holder(nodes, "door") as first:
            token = await token_of(first)
            first.send_signal(signal.SIGSTOP)
            async with client.lock("door") as grant:
                assert grant.token > token
                await client.put("door", "mine", fences=[grant.fence()])
                tell(first)
                first.send_signal(signal.SIGCONT)
                assert await line_of(first) == ["lost", "5"]
                assert await line_of(first) == ["Fenced"]
                assert await asyncio.to_thread(first.wait, PATIENCE_S) == 5
                found = await client.get("door")
                assert found is not None
                assert found.value == b"mine"
                grant.check()


async def test_a_holder_that_blocks_its_loop_beyond_its_ttl_keeps_its_lock(
    nodes: Processes,
) -> None:
    async with aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client:
        with holder(nodes, "door", KEPT_S) as first:
            token = await token_of(first)
            await asyncio.sleep(1.25 * KEPT_S)
            info = await client.lock_info("door")
            assert [each.token for each in info.holders] == [token]
            tell(first)
            assert await line_of(first) == ["held"]
            assert await line_of(first) == ["written"]
            assert await asyncio.to_thread(first.wait, PATIENCE_S) == 0


async def test_a_holder_keeps_its_lock_while_the_leader_is_stopped(
    nodes: Processes,
) -> None:
    """The lease clock stands still without a leader, and old leaders renew nothing."""
    async with (
        aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client,
        client.lock("door") as grant,
    ):
        leader = await asyncio.to_thread(leader_of, nodes)
        nodes.signal(leader, signal.SIGSTOP)
        try:
            await client.put("door", "mine", fences=[grant.fence()])
        finally:
            nodes.signal(leader, signal.SIGCONT)
        await asyncio.to_thread(leader_of, nodes)
        await client.put("door", "still mine", fences=[grant.fence()])
        info = await client.lock_info("door")
        assert [each.token for each in info.holders] == [grant.token]


class Room:
    """Counts who is inside, and remembers the tokens in order."""

    def __init__(self) -> None:
        self.inside = 0
        self.tokens: list[int] = []

    async def entered_by(self, count: int) -> None:
        await eventually_async(lambda: len(self.tokens) >= count, "tasks go on")

    @contextlib.contextmanager
    def enter(self, token: int) -> Iterator[None]:
        assert self.inside == 0, "two tasks are inside"
        self.inside += 1
        self.tokens.append(token)
        try:
            yield
        finally:
            self.inside -= 1


async def add_one(client: aio.Client, room: Room) -> None:
    """Read, and write what was read plus one: right only if nobody else is inside."""
    async with client.lock("room") as grant:
        with room.enter(grant.token):
            found = await client.get("sum")
            value = int(found.value) if found else 0
            await client.put("sum", str(value + 1), fences=[grant.fence()])


@pytest.mark.parametrize("kills", [0, 2])
async def test_of_a_hundred_tasks_of_one_client_never_two_are_inside(
    nodes: Processes, kills: int
) -> None:
    room = Room()
    async with aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client:
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(add_one(client, room))
            for number in range(1, kills + 1):
                await room.entered_by(number * TASKS // (kills + 1))
                victim = await asyncio.to_thread(leader_of, nodes)
                nodes.kill(victim)
                nodes.start(victim)
        found = await client.get("sum")
    assert found is not None
    assert int(found.value) == TASKS
    assert room.tokens == sorted(set(room.tokens)), "tokens rise strictly"
    assert len(room.tokens) == TASKS
