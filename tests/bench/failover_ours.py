"""Our cluster under a writer that begins a write every few milliseconds.

Rules: the same as ``peers.etcd`` and its load program: a write is begun every 10 ms
whatever becomes of those before, each tries for 10 s, and the pause lasts from the
strike to the first acknowledgement of a write begun after it. Every acknowledged write
must be there at the end. Nodes and client have their defaults.

Source: PERFORMANCE.md (leader killed, next acknowledged write).
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from cluster.processes import Processes
from raftclient import aio
from raftclient.errors import RaftError
from raftctl.bench_workloads import VALUE, WorkloadFailed
from tests.bench.fill_cluster import await_in_sync, leader_of
from tests.chaos.ground import Ground
from tests.chaos.leftovers import WORLD
from tests.chaos.stage import CLIENT_PORT, PEER_PORT

__all__ = ["GroundNodes", "Ours", "lose_leader"]

_WRITE_EVERY_S: Final = 0.01
_WRITE_TIMEOUT_S: Final = 10.0
_WRITES_BEFORE: Final = 50
_PAUSE_MAX_S: Final = 60.0
_START_S: Final = 60.0
_HTTP_PORT: Final = 7402


class GroundNodes(Processes):
    """Nodes with a network namespace each, and nothing else of their own."""

    def __init__(self, folder: Path, ground: Ground, world: str, size: int = 3) -> None:
        """Give each node, from 1, the leg of its number."""
        self._ground: Final = ground
        self._world: Final = world
        super().__init__(folder, size)

    def host(self, node_id: int) -> str:
        """The node's own address."""
        return self._ground.host(node_id)

    def new_ports(self, count: int) -> list[int]:
        """Return the same ports for each node: it has an address of its own."""
        third = count // 3
        return [p for p in (CLIENT_PORT, PEER_PORT, _HTTP_PORT) for _ in range(third)]

    def command(self, node_id: int) -> list[str]:
        """Enter the node's network."""
        return [*self._ground.enter(node_id), *super().command(node_id)]

    def environment(self, node_id: int) -> dict[str, str]:
        """Mark the process as the ground's, to be ended with it."""
        return super().environment(node_id) | {WORLD: self._world}


@dataclasses.dataclass(slots=True)
class _Writer:
    """Writes that begin at their times, with when each began and ended."""

    client: aio.Client
    prefix: str
    acknowledged: list[int] = dataclasses.field(default_factory=list)
    struck_s: float = float("inf")
    begun: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    first_after: asyncio.Future[float] = dataclasses.field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    async def run(self) -> None:
        """Begin writes until cancelled; those under way are then seen to their end."""
        async with asyncio.TaskGroup() as group:
            next_s = time.perf_counter()
            for number in itertools.count():
                if self.first_after.done():
                    return
                group.create_task(self._write(number))
                next_s = max(next_s + _WRITE_EVERY_S, time.perf_counter())
                await asyncio.sleep(next_s - time.perf_counter())

    async def _write(self, number: int) -> None:
        began_s = time.perf_counter()
        try:
            key = f"{self.prefix}/{number:06}"
            await self.client.put(key, VALUE, timeout_s=_WRITE_TIMEOUT_S)
        except RaftError:
            return  # not applied, or unknown: it counts for nothing
        ended_s = time.perf_counter()
        self.acknowledged.append(number)
        if len(self.acknowledged) == _WRITES_BEFORE:
            self.begun.set()
        if began_s > self.struck_s and not self.first_after.done():
            self.first_after.set_result(ended_s)


async def lose_leader(
    client: aio.Client,
    prefix: str,
    strike: Callable[[], Awaitable[None]],
) -> float:
    """Take the leader away under a writer; returns the pause in seconds.

    Raises:
        WorkloadFailed: No write was acknowledged, or one was lost.
    """
    writer = _Writer(client, prefix)
    running = asyncio.create_task(writer.run())
    try:
        async with asyncio.timeout(_PAUSE_MAX_S):
            await writer.begun.wait()
            writer.struck_s = time.perf_counter()
            await strike()
            ended_s = await asyncio.shield(writer.first_after)
            await running
    except TimeoutError as error:
        raise WorkloadFailed(f"no write in {_PAUSE_MAX_S:g} s") from error
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    found = {key.key async for key in client.range(prefix=f"{prefix}/")}
    lost = [
        n for n in writer.acknowledged if b"%s/%06d" % (prefix.encode(), n) not in found
    ]
    if lost:
        raise WorkloadFailed(f"{prefix}: acknowledged writes were lost: {lost[:9]}")
    return ended_s - writer.struck_s


class Ours:
    """Our cluster as one of those that lose their leaders in turn."""

    name: Final = "raftd"

    def __init__(self, nodes: Processes) -> None:
        """Start nothing; ``start`` starts."""
        self._nodes: Final = nodes
        self._runs: Final = itertools.count(1)

    async def start(self) -> None:
        """Start the nodes and see them serve."""
        self._nodes.start()
        async with self._connect() as client:
            await client.put("failover", "up", timeout_s=_START_S)

    async def stop(self) -> None:
        """End the nodes."""
        self.wake()
        await asyncio.to_thread(self._nodes.stop)

    def rest(self) -> None:
        """Stop the processes where they are until the next run."""
        self._signal(signal.SIGSTOP)

    def wake(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for node_id in self._nodes.running:
            self._nodes.signal(node_id, number)

    async def kill_leader(self) -> float:
        """Kill the leader with kill -9, then start it again; returns the pause."""

        async def strike(leader: int) -> None:
            self._nodes.kill(leader)

        return await self.lose_leader(strike, self._nodes.start)

    async def lose_leader(
        self,
        strike: Callable[[int], Awaitable[None]],
        mend: Callable[[int], None],
    ) -> float:
        """Take the leader away, then bring it back and wait until all are in sync.

        Args:
            strike: Takes away the node with this id.
            mend: Brings it back.

        Returns:
            Seconds from the strike to the acknowledgement of a write begun after it.

        Raises:
            WorkloadFailed: No write was acknowledged, or one was lost.
        """
        self.wake()
        async with self._connect() as client:
            await client.put("failover", "woken", timeout_s=_START_S)
            await await_in_sync(client)
            leader = (await leader_of(client)).node_id
            prefix = f"failover/{next(self._runs)}"
            try:
                return await lose_leader(client, prefix, lambda: strike(leader))
            finally:
                mend(leader)
                await await_in_sync(client)

    def _connect(self) -> aio.Client:
        return aio.connect(self._nodes.endpoints)
