"""All nodes are restarted one by one, round after round, under load.

The next one is stopped when the last one has caught up, as an operator would do it:
one of three that is down, and another that has an old state, are no majority.

Source: RELIABILITY.md rule 55, section 5 (rolling restart); codes DUR, XO, MEX, FEN.
"""

from __future__ import annotations

import asyncio

import pytest

from cluster.processes import Processes
from tests.e2e.busy import Load, busy, tell
from tests.e2e.tools import wait_until_agreed, wait_until_caught_up, wait_until_serving

pytestmark = pytest.mark.e2e

_WRITES = 60
_KILLED_EACH = 5
"""In one round of so many the nodes are killed instead of stopped."""


async def _restart_all(nodes: Processes, load: Load, is_killed: bool) -> None:
    for node_id in nodes.ids:
        if is_killed:
            await asyncio.to_thread(nodes.kill, node_id)
        else:
            assert await asyncio.to_thread(nodes.terminate, node_id) == 0
        nodes.start(node_id)
        await asyncio.to_thread(wait_until_serving, nodes)
        await asyncio.to_thread(wait_until_caught_up, nodes)
        await load.go_on(_WRITES)


@pytest.mark.parametrize(
    "rounds",
    [
        2,
        pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
    ],
)
async def test_rolling_restarts_fail_no_write(nodes: Processes, rounds: int) -> None:
    stopped_s, killed_s = [0.0], [0.0]
    async with busy(nodes.endpoints) as load:
        for number in range(1, rounds + 1):
            # Of a short run the last round is one of kills.
            is_killed = number % _KILLED_EACH == 0 or number == rounds
            await _restart_all(nodes, load, is_killed)
            (killed_s if is_killed else stopped_s).append(load.lap())
    await load.check(nodes.endpoints)
    await asyncio.to_thread(wait_until_agreed, nodes)
    tell(
        f"{rounds} rolling restarts (worst pause stopped {max(stopped_s):.2f} s,"
        f" killed {max(killed_s):.2f} s)",
        load,
    )
