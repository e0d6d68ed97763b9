"""raftd as one of the systems that take turns: three processes and one client process.

Rules: ``raftd serve`` with its defaults, every acknowledged write synced by a majority;
the client is ``raftclient.aio`` in the process of the benchmark. The nodes keep their
data from one run to the next, as a cluster in use does. Between its runs, while others
are measured, the nodes are stopped by a signal and cost nothing.

Source: PERFORMANCE.md (figures are taken side by side).
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cluster.processes import Processes
from raftclient import RaftError, aio
from raftctl.bench_run import connected
from raftctl.bench_workloads import WorkloadFailed
from tests.bench.fill_cluster import pids_of
from tests.bench.measure import measure as run_tasks
from tests.bench.peers.base import Run
from tests.bench.results import OURS
from tests.bench.workloads import WORKLOADS

__all__ = ["Raftd", "cluster"]

_START_S: Final = 30.0
#: What a run may take beyond its time: preparing, proving, and the last operations.
_EXTRA_S: Final = 120.0
_SPECS: Final = {spec.name: spec for spec in WORKLOADS}


class Raftd:
    """Our cluster; ``start`` before ``run``, ``stop`` at the end."""

    def __init__(self) -> None:
        """Start nothing."""
        self.name: Final = OURS
        self.version: Final = importlib.metadata.version("raftd")
        self.measures: Final = frozenset(_SPECS)
        self._processes: Processes | None = None
        self._run_count = 0

    @property
    def processes(self) -> Processes:
        """The nodes, once started."""
        assert self._processes is not None, "started before it is used"
        return self._processes

    async def start(self, folder: Path) -> None:
        """Start three nodes with their data in a folder, and see them serve."""
        self._processes = Processes(folder)
        self._processes.start()
        await self._serves()

    async def stop(self) -> None:
        """Stop the nodes; may be called twice."""
        if self._processes is not None:
            await asyncio.to_thread(self._processes.stop)

    def logs(self) -> list[str]:
        """Return the end of what each node has logged, for who finds it broken."""
        if self._processes is None:
            return []
        return [
            f"node {node_id}:\n{self._processes.log(node_id)[-2000:]}"
            for node_id in self._processes.ids
        ]

    def rest(self) -> None:
        """Hold the nodes still, so that others have the machine."""
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        for node_id in self.processes.ids:
            self.processes.signal(node_id, number)

    async def _serves(self) -> None:
        async with self._connect() as client:
            await client.put("bench", "up", timeout_s=_START_S)

    def _connect(self) -> aio.Client:
        return aio.connect(self.processes.endpoints, timeout_s=_START_S)

    async def run(
        self, measure: str, tasks: int, *, warm_up_s: float, measured_s: float
    ) -> Run:
        """Run a workload, and find its writes again; wakes the nodes if they rest.

        Raises:
            WorkloadFailed: Something did not work; the sentence says what.
        """
        self._signal(signal.SIGCONT)
        await self._serves()
        self._run_count += 1
        prefix = f"bench/{measure}/{self._run_count}"
        spec = _SPECS[measure]
        async with (
            _limit(measure, warm_up_s + measured_s + _EXTRA_S),
            connected(tasks if spec.is_apart else 1, self._connect) as clients,
        ):
            client = clients[0]
            workload = spec.make(clients, prefix, tasks)
            await workload.prepare()
            pids = self._pids(measure, (await client.status()).leader)
            run = await run_tasks(
                workload, pids, warm_up_s=warm_up_s, measured_s=measured_s
            )
            if not run.operations:
                raise WorkloadFailed(f"{measure}: no operation ended in time")
            await workload.verify(client)
        return run

    def _pids(self, what: str, leader: int) -> dict[str, int]:
        """Name the processes by what they do."""
        if leader not in self.processes.ids:
            raise WorkloadFailed(f"{what}: no member leads")
        return pids_of(self.processes, leader)


@asynccontextmanager
async def cluster() -> AsyncIterator[Processes]:
    """Three nodes with their defaults, gone with their data afterwards."""
    with TemporaryDirectory(prefix="raftd-bench-") as folder:
        raftd = Raftd()
        try:
            await raftd.start(Path(folder))
            yield raftd.processes
        except Exception as error:
            for text in raftd.logs():
                error.add_note(text)
            raise
        finally:
            await raftd.stop()


@asynccontextmanager
async def _limit(what: str, limit_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise WorkloadFailed(f"{what}: not done after {limit_s:.0f} s") from None
    except RaftError as error:
        raise WorkloadFailed(f"{what}: {error}") from error
