"""A narrated tour of raftd on three real nodes, with faults, and a proof at the end.

Three candidates campaign; ten processes fight over one lock; then the words of every
file of Python's standard library are counted by four worker processes, each job
completed together with its increments of the totals, while the leader and a worker are
killed. The totals must equal a plain sequential count, exactly; otherwise the exit
code is 1.

``python -m cluster.demo`` starts the nodes as processes, with ``--containers`` as the
compose cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from cluster.containers import Containers
from cluster.demo_tasks import count_words
from cluster.processes import Processes
from raftclient import aio

__all__ = ["main"]

_QUEUE = "demo/words"
_FIGHTERS = 10
_ROUNDS = 5
_WORKERS = 4
_TASKS_PER_WORKER = 4
_START_S = 60.0


class _Nodes(Protocol):
    """What the demo needs of its cluster."""

    @property
    def endpoints(self) -> str: ...

    def kill(self, node_id: int) -> None: ...

    def start(self, *nodes: int) -> None: ...


class _Story:
    """Prints the tour, each line with the seconds since the start."""

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self.failures: list[str] = []

    def say(self, line: str) -> None:
        print(f"[{time.monotonic() - self._begin:5.1f}s] {line}", flush=True)

    def check(self, is_right: bool, line: str) -> None:
        self.say(("ok    " if is_right else "WRONG ") + line)
        if not is_right:
            self.failures.append(line)


def main() -> int:
    """Run the tour; returns the exit code."""
    story = _Story()
    arguments = sys.argv[1:]
    if arguments not in ([], ["--containers"]):
        print(f"error: unknown argument {arguments[0]!r}", file=sys.stderr)
        return 2
    with _cluster(story, in_containers=bool(arguments)) as nodes:
        asyncio.run(_tour(story, nodes))
    if story.failures:
        print("FAILED: " + "; ".join(story.failures))
        return 1
    print("All of it held.")
    return 0


@contextlib.contextmanager
def _cluster(story: _Story, *, in_containers: bool) -> Iterator[_Nodes]:
    if in_containers:
        story.say("building the image and starting three containers ...")
        with Containers(f"raftd-demo-{os.getpid()}") as containers:
            yield containers
        return
    with tempfile.TemporaryDirectory(prefix="raftd-demo-") as folder:
        story.say("starting three nodes ...")
        with Processes(Path(folder)) as processes:
            yield processes


async def _tour(story: _Story, nodes: _Nodes) -> None:
    async with aio.connect(nodes.endpoints, timeout_s=_START_S) as client:
        await client.put("demo/hello", "world")
        leader = await _leader(client)
        story.say(f"node {leader} leads; clients use {nodes.endpoints}")
        await _elect(story, nodes.endpoints)
        await _fight(story, nodes.endpoints)
        await _count(story, nodes, client)


async def _leader(client: aio.Client) -> int:
    status = await client.status()
    return next(m.node_id for m in status.members if m.role == "leader")


# --- elections ---------------------------------------------------------------------


async def _elect(story: _Story, endpoints: str) -> None:
    story.say("three candidates campaign for 'demo/chief' ...")
    epochs: list[int] = []
    inside = 0

    async def stand(name: str) -> None:
        nonlocal inside
        async with aio.connect(endpoints) as client:
            leadership = await client.election("demo/chief").campaign(name)
            async with leadership:
                inside += 1
                story.check(
                    inside == 1, f"{name} leads alone, epoch {leadership.epoch}"
                )
                epochs.append(leadership.epoch)
                inside -= 1

    async with asyncio.TaskGroup() as group:
        for name in ("ada", "grace", "edsger"):
            group.create_task(stand(name))
    story.check(
        len(epochs) == 3 and epochs == sorted(set(epochs)), "the epochs only rose"
    )


# --- one lock, ten processes ---------------------------------------------------------


async def _fight(story: _Story, endpoints: str) -> None:
    story.say(f"{_FIGHTERS} processes fight over one lock, {_ROUNDS} times each ...")
    fighters = [await _task("lock", endpoints, str(_ROUNDS)) for _ in range(_FIGHTERS)]
    seen: list[tuple[int, int]] = []
    for fighter in fighters:
        out, _ = await fighter.communicate()
        seen += [(entered, token) for entered, token in json.loads(out)["seen"]]
    seen.sort()
    tokens = [token for _, token in seen]
    story.check(
        [entered for entered, _ in seen] == list(range(1, _FIGHTERS * _ROUNDS + 1)),
        f"{len(seen)} entries, none beside another",
    )
    story.check(
        all(a < b for a, b in pairwise(tokens)),
        f"the tokens rose strictly, from {tokens[0]} to {tokens[-1]}",
    )


async def _task(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "cluster.demo_tasks",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parent.parent,
    )


# --- counting words, exactly ---------------------------------------------------------


async def _count(story: _Story, nodes: _Nodes, client: aio.Client) -> None:
    files = _library()
    queue = client.queue(_QUEUE)
    await queue.configure(reservation_s=5)
    for begin in range(0, len(files), 100):
        await queue.enqueue_many([str(path) for path in files[begin : begin + 100]])
    story.say(f"enqueued {len(files)} jobs, one per *.py file of the library")
    workers = [
        await _task("words", nodes.endpoints, _QUEUE, str(_TASKS_PER_WORKER))
        for _ in range(_WORKERS)
    ]
    async with _probe(client) as gaps:
        await _break_things(story, nodes, client, workers[0], len(files))
        await _drained(client)
    told = Counter[str]()
    for worker in workers[1:]:
        worker.send_signal(signal.SIGTERM)
        out, _ = await worker.communicate()
        told.update(json.loads(out))
    await _judge(story, client, files)
    story.say(f"jobs {len(files)}, words {await _total(client, 'all')}")
    story.say(
        f"the three workers left had {told['deliveries']} deliveries and completed"
        f" {told['done']}; duplicates refused: {told['refused']}"
    )
    story.say(f"longest time without an acknowledged write: {max(gaps):.2f} s")


def _library() -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    return sorted(
        path
        for path in root.rglob("*.py")
        if "site-packages" not in path.parts and path.is_file()
    )


async def _break_things(
    story: _Story,
    nodes: _Nodes,
    client: aio.Client,
    worker: asyncio.subprocess.Process,
    jobs: int,
) -> None:
    """Half-way: kill -9 the leader and a worker, then start the node again."""
    while await _total(client, "files") < jobs // 2:  # noqa: ASYNC110  # polls the cluster
        await asyncio.sleep(0.02)
    leader = await _leader(client)
    story.say(f"half-way: kill -9 of the leader (node {leader}) and of one worker")
    await asyncio.to_thread(nodes.kill, leader)
    worker.kill()
    await worker.wait()
    await client.put("demo/after", "the leader's death")
    story.say(f"node {await _leader(client)} leads now; node {leader} starts again")
    await asyncio.to_thread(nodes.start, leader)


async def _drained(client: aio.Client) -> None:
    while True:
        stats = await client.queue(_QUEUE).stats()
        if not (stats.ready or stats.reserved or stats.scheduled):
            return
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def _probe(client: aio.Client) -> AsyncIterator[list[float]]:
    """Write all the time, and note how long each acknowledgement took."""
    gaps = [0.0]

    async def write() -> None:
        while True:
            begin = time.monotonic()
            await client.incr("demo/probe", timeout_s=_START_S)
            gaps.append(time.monotonic() - begin)
            await asyncio.sleep(0.01)

    task = asyncio.create_task(write())
    try:
        yield gaps
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _total(client: aio.Client, word: str) -> int:
    found = await client.get(f"demo/words/{word}")
    return int(found.value) if found is not None else 0


async def _judge(story: _Story, client: aio.Client, files: list[Path]) -> None:
    """Compare the cluster's totals with a plain sequential count."""
    expected: Counter[str] = Counter()
    for path in files:
        expected.update(count_words(path))
    counted = {word: await _total(client, word) for word in sorted(expected)}
    story.check(
        counted == dict(sorted(expected.items())),
        f"the cluster's totals equal a sequential count: {counted}",
    )
    stats = await client.queue(_QUEUE).stats()
    story.check(
        stats.done == len(files) and not stats.dead, f"every job is done: {stats.done}"
    )


if __name__ == "__main__":
    sys.exit(main())
