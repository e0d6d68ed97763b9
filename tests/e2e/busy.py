"""Clients that do everything at once while something is done to the cluster.

Some count, some take turns with one lock, one puts jobs into a queue and one works them
off. Their code sees no error, only delay; an error of any of them ends the test.

Rules: a count is one more than the last one of that client, or something was lost or
applied twice; tokens of the lock rise from one grant to the next, and nobody else
holds it; a job is handed out until it is completed, and completed once, since its
effect is a key of version 1. Nothing here asserts how long something took: the longest
time in which no write at all was acknowledged is written down for who wants to read it.

Source: RELIABILITY.md section 5 (codes DUR, XO, MEX, FEN, QNL, QSL, QTR).
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from raftclient import aio, txn
from tests.e2e.tools import eventually_async

__all__ = ["Load", "busy", "tell"]

#: Of a call; and so long may a member be gone before a session is.
PATIENCE_S: Final = 120.0
_COUNTERS: Final = 4
_LOCKERS: Final = 2
_QUEUED_MAX: Final = 50
_PAUSE_S: Final = 0.005
_PADDING: Final = b"x" * 500


class Load:
    """What was acknowledged, and when nothing was."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.acked = 0
        self.pauses_s: list[float] = []
        self.is_over = False
        self._last_ack_s = time.monotonic()
        self._pause_s = 0.0
        self._holder = ""
        self._token = 0
        self._enqueued: dict[int, int] = {}
        self._is_enqueuing = True
        self._done: set[int] = set()

    def ack(self) -> None:
        """Take note that a write was acknowledged."""
        now_s = time.monotonic()
        self._pause_s = max(self._pause_s, now_s - self._last_ack_s)
        self._last_ack_s = now_s
        self.acked += 1

    async def go_on(self, wanted: int = 150) -> None:
        """Wait until so many more writes are acknowledged by all kinds of clients."""
        until, done, token = self.acked + wanted, len(self._done), self._token
        await eventually_async(
            lambda: (
                self.acked >= until
                and len(self._done) > done
                and self._token > token
                and not self.is_over
            ),
            "the clients go on",
            PATIENCE_S,
        )

    def lap(self) -> float:
        """Return the longest pause since the last time that this was asked."""
        pause_s, self._pause_s = self._pause_s, 0.0
        self.pauses_s.append(pause_s)
        return pause_s

    @property
    def summary(self) -> str:
        """For people: how much was written, and the pauses between two laps."""
        pauses_s = sorted([*self.pauses_s, self._pause_s])
        return (
            f"{self.acked} writes acknowledged, none lost, none applied twice;"
            f" longest time without one {pauses_s[-1]:.2f} s,"
            f" median of {len(pauses_s)} rounds {pauses_s[len(pauses_s) // 2]:.2f} s"
        )

    # --- the clients ------------------------------------------------------------------

    async def count(self, endpoints: str, name: str) -> None:
        """Count without a pause."""
        async with _client(endpoints) as client:
            while not self.is_over:
                counted = await client.incr(f"counts/{name}")
                assert counted == self.counts[name] + 1, "lost, or applied twice"
                self.counts[name] = counted
                self.ack()
                await client.put(f"padding/{name}", _PADDING)
                self.ack()
                await asyncio.sleep(_PAUSE_S)

    async def take_turns(self, endpoints: str, name: str) -> None:
        """Take the lock, write under it, give it back."""
        async with _client(endpoints) as client:
            lock = client.lock("turns")
            while not self.is_over:
                grant = await lock.acquire()
                assert not self._holder, f"{self._holder} and {name} hold the lock"
                assert grant.token > self._token, "a token is not above the one before"
                self._holder, self._token = name, grant.token
                self.ack()
                await client.put("holder", name, fences=[grant.fence()])
                self.ack()
                self._holder = ""
                await grant.release()
                self.ack()
                await asyncio.sleep(_PAUSE_S)

    async def enqueue(self, endpoints: str) -> None:
        """Put numbered jobs into the queue, while it is short."""
        async with _client(endpoints) as client:
            queue = client.queue("work")
            while not self.is_over:
                if len(self._enqueued) - len(self._done) < _QUEUED_MAX:
                    number = len(self._enqueued)
                    job = await queue.enqueue(str(number))
                    assert not job.existed
                    self._enqueued[number] = job.job_id
                    self.ack()
                await asyncio.sleep(_PAUSE_S)
            self._is_enqueuing = False

    async def work(self, endpoints: str) -> None:
        """Complete each job, with a key that tells how often it was."""
        async with _client(endpoints) as client:
            queue = client.queue("work")
            while self._is_enqueuing or len(self._done) < len(self._enqueued):
                for job in await queue.reserve(5, wait_s=0.5, reservation_s=600):
                    assert job.delivery == 1, "a job was handed out twice"
                    number = int(job.payload)
                    assert number not in self._done, "a job was worked off twice"
                    await job.complete(ops=[txn.put(_done_key(number), b"")])
                    self._done.add(number)
                    self.ack()

    # --- the proof --------------------------------------------------------------------

    async def check(self, endpoints: str) -> None:
        """Compare what is there with what was acknowledged."""
        async with _client(endpoints) as client:
            counts = {
                kv.key: int(kv.value) async for kv in client.range(prefix="counts/")
            }
            done = {kv.key: kv.version async for kv in client.range(prefix="done/")}
            left = [job async for job in client.queue("work").list(payloads=False)]
        assert counts == {
            f"counts/{name}".encode(): n for name, n in self.counts.items()
        }
        wanted = {_done_key(n).encode(): 1 for n in self._enqueued}
        differ = [key for key in wanted | done if wanted.get(key) != done.get(key)]
        assert not differ, f"{len(differ)} of {len(wanted)} jobs, such as {differ[:5]}"
        assert all(job.state.is_final for job in left), "no job is left over"
        assert {job.job_id for job in left} <= set(self._enqueued.values())


@contextlib.asynccontextmanager
async def busy(endpoints: str) -> AsyncIterator[Load]:
    """Have the clients at work inside the block; the first error of any ends it."""
    load = Load()
    async with asyncio.TaskGroup() as group:
        for index in range(_COUNTERS):
            group.create_task(load.count(endpoints, f"counter{index}"))
        for index in range(_LOCKERS):
            group.create_task(load.take_turns(endpoints, f"locker{index}"))
        group.create_task(load.enqueue(endpoints))
        group.create_task(load.work(endpoints))
        try:
            await load.go_on()
            load.lap()
            load.pauses_s.clear()
            yield load
        finally:
            load.is_over = True


def tell(what: str, load: Load) -> None:
    """Print one line for who runs the tests with `-s`."""
    sys.stdout.write(f"\n{what}: {load.summary}\n")
    sys.stdout.flush()


def _client(endpoints: str) -> aio.Client:
    return aio.connect(endpoints, timeout_s=PATIENCE_S, ttl_s=PATIENCE_S)


def _done_key(number: int) -> str:
    return f"done/{number:08}"
