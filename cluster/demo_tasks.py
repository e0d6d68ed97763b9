"""What the demo's own processes do: fight over a lock, and count words.

Run as ``python -m cluster.demo_tasks lock|words ENDPOINTS ...``; each prints one JSON
line at its end.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from pathlib import Path

from raftclient import aio
from raftclient.errors import JobFinal, ReservationLost
from raftclient.txn import increment

__all__ = ["WORD_KEYS", "count_words", "main"]

WORD_KEYS = ("import", "def", "class", "return", "self")
"""Words that get a total of their own, beside all words together."""


def count_words(path: Path) -> Counter[str]:
    """Count all words of a file, and a few of them one by one."""
    words = path.read_bytes().split()
    totals = Counter({"all": len(words), "files": 1})
    for word in WORD_KEYS:
        count = words.count(word.encode())
        if count:
            totals[word] = count
    return totals


async def _fight(endpoints: str, rounds: int) -> dict[str, object]:
    """Enter the locked section some times; say as which entry, with which token."""
    seen: list[tuple[int, int]] = []
    async with aio.connect(endpoints) as client:
        for _ in range(rounds):
            async with client.lock("demo/turnstile") as grant:
                entered = await client.incr("demo/entered", fences=[grant.fence()])
                seen.append((entered, grant.token))
    return {"seen": seen}


async def _work(endpoints: str, queue: str, concurrency: int) -> dict[str, object]:
    """Count words of files, job after job, until told to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    told = {"done": 0, "deliveries": 0, "refused": 0}
    async with aio.connect(endpoints, ttl_s=3) as client:

        async def serve() -> None:
            while not stop.is_set():
                for job in await client.queue(queue).reserve(max=4, wait_s=0.5):
                    told["deliveries"] += 1
                    totals = count_words(Path(job.payload.decode()))
                    ops = [
                        increment(f"demo/words/{word}", count)
                        for word, count in totals.items()
                    ]
                    try:
                        await job.complete(ops=ops)
                    except (ReservationLost, JobFinal):
                        told["refused"] += 1
                    else:
                        told["done"] += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(serve())
    return dict(told)


def main() -> None:
    """Run one task."""
    match sys.argv[1:]:
        case ["lock", endpoints, rounds]:
            told = asyncio.run(_fight(endpoints, int(rounds)))
        case ["words", endpoints, queue, concurrency]:
            told = asyncio.run(_work(endpoints, queue, int(concurrency)))
        case _:
            sys.exit(f"usage: {__doc__}")
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
