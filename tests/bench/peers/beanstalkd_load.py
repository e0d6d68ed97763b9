"""Loads a beanstalkd server from asyncio, as ``go/beanload`` does from Go.

Each task has a connection of its own and sends its next command when the last one is
answered: a cycle is put, reserve and delete, one job each, on a tube for all tasks.

Source: beanstalkd's protocol.txt.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from typing import Final

import msgspec
import uvloop

from tests.bench.peers.loading import LoadFailed, Measured, tell
from tests.bench.peers.program import Done, Order

__all__: list[str] = []

_VALUE: Final = b"v" * 256
_PUT: Final = b"put 0 0 120 %d\r\n%s\r\n" % (len(_VALUE), _VALUE)


class _Worker:
    """One connection."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.enqueued: list[bytes] = []
        self.completed: list[bytes] = []

    async def watch(self, tube: bytes) -> None:
        await self.ask(b"use %s\r\n" % tube, b"USING ")
        await self.ask(b"watch %s\r\n" % tube, b"WATCHING ")
        await self.ask(b"ignore default\r\n", b"WATCHING ")

    async def cycle(self) -> None:
        self.enqueued.append(await self.ask(_PUT, b"INSERTED "))
        told = await self.ask(b"reserve\r\n", b"RESERVED ")
        job_id, _, size = told.partition(b" ")
        if await self._body(size) != _VALUE:
            raise LoadFailed(f"job {job_id!r} is not as it was put")
        await self.ask(b"delete %s\r\n" % job_id, b"DELETED")
        self.completed.append(job_id)

    async def stats(self, tube: bytes) -> dict[bytes, bytes]:
        size = await self.ask(b"stats-tube %s\r\n" % tube, b"OK ")
        lines = (await self._body(size)).split(b"\n")
        pairs = (line.partition(b": ") for line in lines)
        return {name: value for name, _, value in pairs}

    async def ask(self, request: bytes, begins: bytes) -> bytes:
        self._writer.write(request)
        line = await self._reader.readline()
        if not line.startswith(begins):
            raise LoadFailed(f"beanstalkd answered {line!r}, not {begins!r}")
        return line[len(begins) : -2]

    async def _body(self, size: bytes) -> bytes:
        return (await self._reader.readexactly(int(size) + 2))[:-2]

    def close(self) -> None:
        self._writer.close()


class _Loop:
    """One closed loop of all workers."""

    def __init__(self, order: Order, workers: list[_Worker]) -> None:
        self._workers = workers
        self.measured = Measured(order)
        self.done = 0

    async def run(self) -> None:
        clock = time.perf_counter
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(self._repeat(worker))
            for event, at_s in self.measured.events:
                told = loop.create_future()
                loop.call_later(at_s - clock(), told.set_result, None)
                await told
                tell({"event": event})

    async def _repeat(self, worker: _Worker) -> None:
        clock, measured = time.perf_counter, self.measured
        now_s = clock()
        while now_s < measured.end_s:
            began_s = now_s
            await worker.cycle()
            self.done += 1
            now_s = clock()
            measured.note(began_s, now_s)


async def _run(order: Order) -> Done:
    tube = order.prefix.encode()
    host, _, port = order.endpoints[0].rpartition(":")
    workers = [
        _Worker(*await asyncio.open_connection(host, int(port)))
        for _ in range(order.tasks)
    ]
    try:
        for worker in workers:
            await worker.watch(tube)
        loop = _Loop(order, workers)
        await loop.run()
        found = await _proved(workers, tube)
    finally:
        for worker in workers:
            worker.close()
    return loop.measured.done(loop.done, found)


async def _proved(workers: list[_Worker], tube: bytes) -> int:
    """Compare what was enqueued, completed, and counted; returns how many jobs."""
    enqueued = Counter(job for worker in workers for job in worker.enqueued)
    completed = Counter(job for worker in workers for job in worker.completed)
    stats = await workers[0].stats(tube)
    left = stats[b"current-jobs-ready"], stats[b"current-jobs-reserved"]
    if enqueued != completed or left != (b"0", b"0"):
        raise LoadFailed("not every job was completed once")
    if int(stats[b"cmd-delete"]) != completed.total():
        raise LoadFailed("the server deleted other jobs")
    return int(stats[b"total-jobs"])


def _main() -> None:
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        try:
            tell(uvloop.run(_run(order)))
        except* (LoadFailed, OSError, EOFError) as failed:
            sentence = "; ".join(map(str, failed.exceptions))
            tell({"event": "failed", "sentence": f"{order.measure}: {sentence}"})


if __name__ == "__main__":
    _main()
