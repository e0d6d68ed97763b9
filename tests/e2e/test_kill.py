"""kill -9 of any node at any moment loses nothing and applies nothing twice.

Eight clients write while nodes are killed; their code sees no error, only delay. At
the end every counter reads exactly what was acknowledged, every key is there, and all
nodes hold equal states.

Source: RELIABILITY.md section 5 (kill -9, all nodes at once); codes DUR, XO, DET.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from cluster.processes import Processes
from raftclient import aio
from tests.e2e.tools import (
    eventually_async,
    leader_of,
    told_by,
    wait_until_agreed,
    wait_until_serving,
)

pytestmark = pytest.mark.e2e

CLIENTS = 8
WRITES_BETWEEN_KILLS = 150
PATIENCE_S = 60.0

Victims = Callable[[Processes], list[int]]


class Ledger:
    """What has been acknowledged."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.keys: dict[bytes, bytes] = {}
        self.shared = 0
        self.is_over = False

    @property
    def total(self) -> int:
        return self.shared + len(self.keys) + sum(self.counts.values())


async def write(endpoints: str, name: str, ledger: Ledger) -> None:
    """Count, and put a key no one else puts, until it is over."""
    async with aio.connect(endpoints, timeout_s=PATIENCE_S) as client:
        while not ledger.is_over:
            number = ledger.counts[name] + 1
            key, value = f"keys/{name}/{number:06}".encode(), f"{name}{number}".encode()
            counted, _, _ = await asyncio.gather(
                client.incr(f"counts/{name}"),
                client.put(key, value),
                client.incr("counts/shared"),
            )
            assert counted == number, "an increment was lost or applied twice"
            ledger.counts[name] = number
            ledger.keys[key] = value
            ledger.shared += 1


@contextlib.asynccontextmanager
async def writers(nodes: Processes) -> AsyncIterator[Ledger]:
    """Write with eight clients inside the block; the first error of any ends it."""
    ledger = Ledger()
    async with asyncio.TaskGroup() as group:
        for index in range(CLIENTS):
            group.create_task(write(nodes.endpoints, f"client{index}", ledger))
        try:
            yield ledger
        finally:
            ledger.is_over = True


async def more_writes(ledger: Ledger) -> None:
    """Wait until the writers have gone on for a while."""
    wanted = ledger.total + WRITES_BETWEEN_KILLS
    await eventually_async(lambda: ledger.total >= wanted, "the writers go on")


async def kill_and_restart(nodes: Processes, ledger: Ledger, victims: Victims) -> None:
    """Kill some nodes under load, let the rest go on, and start them again."""
    await more_writes(ledger)
    chosen = await asyncio.to_thread(victims, nodes)
    for node_id in chosen:
        nodes.signal(node_id, signal.SIGKILL)
    for node_id in chosen:
        nodes.kill(node_id)
    if len(chosen) < len(nodes.ids):
        await more_writes(ledger)
    nodes.start(*chosen)
    await asyncio.to_thread(wait_until_serving, nodes)


async def check(nodes: Processes, ledger: Ledger) -> None:
    """Compare the cluster with the ledger, through a client and on every node."""
    wanted = {f"counts/{name}".encode(): n for name, n in ledger.counts.items()}
    wanted[b"counts/shared"] = ledger.shared
    async with aio.connect(nodes.endpoints, timeout_s=PATIENCE_S) as client:
        counts = {kv.key: int(kv.value) async for kv in client.range(prefix="counts/")}
        keys = {kv.key: kv.value async for kv in client.range(prefix="keys/")}
        versions = {kv.version async for kv in client.range(prefix="keys/")}
    assert counts == wanted
    assert keys == ledger.keys
    assert versions == {1}, "a put was applied twice"
    await asyncio.to_thread(wait_until_agreed, nodes)
    found = [await asyncio.to_thread(told_by, nodes, node_id) for node_id in nodes.ids]
    assert [status.keys for status in found] == [len(keys) + len(counts)] * 3


def the_leader(nodes: Processes) -> list[int]:
    return [leader_of(nodes)]


def a_follower(nodes: Processes) -> list[int]:
    leader = leader_of(nodes)
    return [random.choice([node_id for node_id in nodes.ids if node_id != leader])]


def everybody(nodes: Processes) -> list[int]:
    return list(nodes.ids)


async def test_killing_the_leader_in_a_loop_loses_and_doubles_nothing(
    nodes: Processes,
) -> None:
    terms = [_term(nodes)]
    async with writers(nodes) as ledger:
        for _ in range(3):
            await kill_and_restart(nodes, ledger, the_leader)
            terms.append(await asyncio.to_thread(_term, nodes))
    assert terms == sorted(set(terms)), "each killed leader was followed by another"
    await check(nodes, ledger)


async def test_killing_a_follower_loses_and_doubles_nothing(nodes: Processes) -> None:
    async with writers(nodes) as ledger:
        for _ in range(2):
            await kill_and_restart(nodes, ledger, a_follower)
    await check(nodes, ledger)


async def test_killing_all_nodes_at_once_loses_and_doubles_nothing(
    nodes: Processes,
) -> None:
    async with writers(nodes) as ledger:
        for _ in range(2):
            await kill_and_restart(nodes, ledger, everybody)
    await check(nodes, ledger)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
async def test_kills_of_any_node_in_any_order(nodes: Processes, seed: int) -> None:
    chance = random.Random(seed)
    kinds: list[Victims] = [the_leader, the_leader, a_follower, everybody]
    async with writers(nodes) as ledger:
        for _ in range(25):
            await kill_and_restart(nodes, ledger, chance.choice(kinds))
    await check(nodes, ledger)


def _term(nodes: Processes) -> int:
    return told_by(nodes, leader_of(nodes)).term
