"""Clients that are connected and do nothing, in a process of their own.

``python -m tests.bench.fill_clients ENDPOINTS --clients N [--watches M]`` connects N
clients, each with a connection and a session of its own and M watches of a key each,
prints "ready" and stays until its standard input ends.

Rules: their memory and their processor time are no part of what is measured. All
clients of one process share the connection of its keepalives.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import uvloop

from raftclient import aio
from raftctl.bench_workloads import WorkloadFailed

__all__ = ["idle_clients", "main"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_TIMEOUT_S: Final = 60.0
_TTL_S: Final = 600.0
_AT_ONCE: Final = 16


@asynccontextmanager
async def idle_clients(
    endpoints: str, clients: int, watches: int = 0
) -> AsyncIterator[None]:
    """Have so many clients connected, each with so many watches.

    Raises:
        WorkloadFailed: They did not come to it; they have said why.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.fill_clients", endpoints),
        *("--clients", str(clients), "--watches", str(watches)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_ROOT,
    )
    assert process.stdin is not None, "a pipe was asked for"
    assert process.stdout is not None, "a pipe was asked for"
    try:
        told = await process.stdout.readline()
        if not told:
            code = await process.wait()
            raise WorkloadFailed(f"the idle clients ended with exit code {code}")
        assert told == b"ready\n", "they say nothing else"
        yield
        process.stdin.close()
        code = await process.wait()
        if code:
            raise WorkloadFailed(f"the idle clients ended with exit code {code}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _connect(endpoints: str, clients: int, watches: int) -> None:
    gate = asyncio.Semaphore(_AT_ONCE)

    async def begin(number: int) -> None:
        client = aio.connect(endpoints, ttl_s=_TTL_S, timeout_s=_TIMEOUT_S)
        await stack.enter_async_context(client)
        async with gate:
            await client.put(f"idle/{number}", b"")
            for watch in range(watches):
                feed = client.watch(key=f"watched/{number}/{watch}")
                feeds.append(feed)
        if watches:
            # Sent after the watches, answered after them.
            await client.get(f"idle/{number}")

    feeds: list[aio.KeyWatch] = []
    async with AsyncExitStack() as stack:
        await asyncio.gather(*map(begin, range(clients)))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.buffer.read)


def main(arguments: Sequence[str] | None = None) -> int:
    """Stay connected until standard input ends; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fill_clients")
    parser.add_argument("endpoints")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--watches", type=int, default=0)
    options = parser.parse_args(arguments)
    uvloop.run(_connect(options.endpoints, options.clients, options.watches))
    return 0


if __name__ == "__main__":
    sys.exit(main())
