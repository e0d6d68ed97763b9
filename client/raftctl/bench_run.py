"""Measures a cluster in use, under a prefix of its own, and leaves nothing behind.

Rules: a key that hangs on the run's session marks the prefix, so that two runs never
share one and nobody's data is taken for the run's. The load comes from clients of its
own, closed before the sweep, so that nothing which was under way is written after it.
The sweep is made however the run ends, but for ``kill -9`` and a second Ctrl-C.

Source: PERFORMANCE.md; SEMANTICS.md section 0 (limits of one command).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from raftclient import NotFound, PreconditionFailed, RaftError, aio
from raftctl.bench_loop import Latencies, Load, drive
from raftctl.bench_timeline import Timeline
from raftctl.bench_workloads import WORKLOADS
from raftctl.exit_codes import ExitCode, Failure

__all__ = ["Plan", "Row", "Said", "connected", "run_plan", "sweep"]

_CALL_S: Final = 15.0
"""How long each call before and after the load is tried: longer than an election."""
_DELETE_KEYS_MAX: Final = 5000
"""Of one command; the cluster's limit is 10 000."""
_SWEEPS_MAX: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        workloads: Names, in order.
        prefix: Of every name in the cluster, without the slash at its end.
        in_flight: Operations at once.
        connections: Clients that they are dealt out to.
        value_bytes: Of the value of a key and the payload of a job.
        warm_up_s: Before each measurement.
        measured_s: Of each measurement.
    """

    workloads: Sequence[str]
    prefix: str
    in_flight: int
    connections: int
    value_bytes: int
    warm_up_s: float
    measured_s: float

    @property
    def workload_s(self) -> float:
        """How long the load of one workload lasts."""
        return self.warm_up_s + self.measured_s


@dataclass(slots=True)
class Row:
    """What one workload came to so far.

    Attributes:
        name: Of the workload.
        latencies: Of the operations that were measured.
        timeline: When they ended.
        load: What it all came to; None until that is proved.
    """

    name: str
    latencies: Latencies
    timeline: Timeline
    load: Load | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """What a person is told meanwhile.

    Attributes:
        begun: A workload, by name, whose load begins now.
        note: A sentence.
    """

    begun: Callable[[str], None]
    note: Callable[[str], None]


async def run_plan(
    client: aio.Client,
    plan: Plan,
    connect: Callable[[], aio.Client],
    said: Said,
    rows: list[Row],
) -> None:
    """Run, prove and sweep one workload after the other.

    Args:
        client: Prepares, proves and sweeps.
        plan: What to run.
        connect: Makes a client for the load.
        said: Is told how it goes.
        rows: Gets one with each load that begins, so that what was measured is there
            however the run ends.

    Raises:
        Failure: The prefix is in use, or nothing was acknowledged.
        WorkloadFailed: The cluster does not hold what it acknowledged.
        RaftError: It did not serve.
    """
    await _claim(client, plan.prefix)
    try:
        for name in plan.workloads:
            await _run(client, plan, name, connect, said, rows)
        await sweep(client, f"{plan.prefix}/")
    except BaseException:
        said.note(f"stopped; removing what was written under {plan.prefix}/")
        await _sweep_if_possible(client, plan.prefix, said)
        raise


async def _claim(client: aio.Client, prefix: str) -> None:
    """Take the prefix for this run, as long as its session lasts."""
    mark = f"{prefix}/owner"
    session = await client.session(timeout_s=_CALL_S)
    found: str | None = f"the key {mark}"
    with contextlib.suppress(PreconditionFailed):
        await client.put(
            mark, client.claimant, lease=session, if_mod_rev=0, timeout_s=_CALL_S
        )
        found = await _find(client, f"{prefix}/", but=mark.encode())
    if found is not None:
        raise Failure(
            f"{found} is there already, so that prefix is in use or was left by a run"
            f" that was killed; choose another --prefix, or remove what is under"
            f" {prefix}/",
            ExitCode.PRECONDITION,
        )


async def _run(
    client: aio.Client,
    plan: Plan,
    name: str,
    connect: Callable[[], aio.Client],
    said: Said,
    rows: list[Row],
) -> None:
    row = Row(name, Latencies(), Timeline(plan.measured_s))
    prefix = f"{plan.prefix}/{name}"
    async with connected(plan.connections, connect) as clients:
        value = b"v" * plan.value_bytes
        workload = WORKLOADS[name](clients, prefix, plan.in_flight, value)
        await workload.prepare()
        said.begun(name)
        rows.append(row)
        load = await drive(
            workload,
            warm_up_s=plan.warm_up_s,
            measured_s=plan.measured_s,
            record=row.latencies.add,
            timeline=row.timeline,
        )
        if not load.operations:
            raise Failure(
                f"no {name} was acknowledged in {plan.measured_s:g} s, but there were"
                f" {load.told_errors()}; see raftctl doctor",
                ExitCode.UNAVAILABLE,
            )
        await workload.verify(client)
    row.load = load
    await sweep(client, prefix)


@contextlib.asynccontextmanager
async def connected(
    count: int, connect: Callable[[], aio.Client]
) -> AsyncIterator[list[aio.Client]]:
    """Open so many clients, each with a connection and a session of its own."""
    clients = [connect() for _ in range(count)]
    try:
        await asyncio.gather(*(each.session(timeout_s=_CALL_S) for each in clients))
        yield clients
    finally:
        await asyncio.gather(*(each.close() for each in clients))


async def sweep(client: aio.Client, prefix: str) -> None:
    """Remove all keys, queues and locks whose names begin so.

    Raises:
        Failure: Somebody goes on writing there.
        RaftError: The cluster did not serve.
    """
    for _ in range(_SWEEPS_MAX):
        await _delete_keys(client, prefix)
        async for queue in client.queues(prefix, timeout_s=_CALL_S):
            with contextlib.suppress(NotFound):
                await client.queue(queue.name).delete(force=True, timeout_s=_CALL_S)
        async for lock in client.locks(prefix, timeout_s=_CALL_S):
            with contextlib.suppress(NotFound):
                await client.break_lock(lock.name, timeout_s=_CALL_S)
        if await _find(client, prefix) is None:
            return
    raise Failure(f"somebody else writes under {prefix}", ExitCode.ERROR)


async def _delete_keys(client: aio.Client, prefix: str) -> None:
    while True:
        keys = client.range(
            prefix=prefix, limit=_DELETE_KEYS_MAX, keys_only=True, timeout_s=_CALL_S
        )
        found = [each.key async for each in keys]
        if not found:
            return
        after = found[-1] + b"\0"
        await client.delete_range(start=found[0], end=after, timeout_s=_CALL_S)


async def _sweep_if_possible(client: aio.Client, prefix: str, said: Said) -> None:
    try:
        await sweep(client, f"{prefix}/")
    except (RaftError, Failure) as error:
        said.note(
            f"not all of it could be removed ({error}); when the cluster serves again:"
            f" raftctl del --prefix {prefix}/ and raftctl queue purge {prefix}/job"
        )


async def _find(client: aio.Client, prefix: str, but: bytes = b"") -> str | None:
    """Name something that is there under a prefix, if anything is."""
    keys = client.range(prefix=prefix, limit=2, keys_only=True, timeout_s=_CALL_S)
    async for key in keys:
        if key.key != but:
            return f"the key {key.key.decode(errors='backslashreplace')}"
    async for queue in client.queues(prefix, limit=1, timeout_s=_CALL_S):
        return f"the queue {queue.name}"
    async for lock in client.locks(prefix, limit=1, timeout_s=_CALL_S):
        return f"the lock {lock.name}"
    return None
