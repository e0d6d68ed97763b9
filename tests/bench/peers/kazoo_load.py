"""Contends for a lock through kazoo, as ``java/HandOvers`` does through Java.

Each task is a thread with a client, and so a session, of its own. A holder keeps the
lock for a while, so that another one waits when it releases.

Source: kazoo's documentation of ``kazoo.recipe.lock``.
"""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec

from tests.bench.peers.loading import LoadFailed, Measured, tell
from tests.bench.peers.program import Done, Order

__all__: list[str] = []

_CONNECT_S: Final = 30.0


class _HandOvers:
    """One closed loop; whoever has the lock writes its fields."""

    def __init__(self, order: Order) -> None:
        self.measured = Measured(order)
        self._hold_s = order.hold_s
        self._released: tuple[int, float] | None = None
        self._holders = 0
        self._never = threading.Event()
        self.cycles = 0

    def contend(self, task: int, lock: Any) -> None:
        while time.perf_counter() < self.measured.end_s:
            lock.acquire()
            self._acquired(task, time.perf_counter())
            self._never.wait(self._hold_s)
            self._holders -= 1
            self.cycles += 1
            self._released = task, time.perf_counter()
            lock.release()

    def _acquired(self, task: int, now_s: float) -> None:
        self._holders += 1
        if self._holders != 1:
            raise LoadFailed("two hold the lock")
        if self._released is None or self._released[0] == task:
            return
        self.measured.note(self._released[1], now_s)

    def tell_of_time(self) -> None:
        for event, at_s in self.measured.events:
            self._never.wait(max(at_s - time.perf_counter(), 0.0))
            tell({"event": event})


def _run(order: Order, client_of: Callable[[str], Any]) -> Done:
    clients = [client_of(",".join(order.endpoints)) for _ in range(order.tasks)]
    path = f"/{order.prefix}"
    try:
        for client in clients:
            client.start(timeout=_CONNECT_S)
        clients[0].ensure_path(path)
        loop = _HandOvers(order)
        with ThreadPoolExecutor(order.tasks + 1) as threads:
            running = [
                threads.submit(loop.contend, task, client.Lock(path, f"task {task}"))
                for task, client in enumerate(clients)
            ]
            threads.submit(loop.tell_of_time).result()
            for each in running:
                each.result()
        if clients[0].get_children(path):
            raise LoadFailed("the lock is still held")
    finally:
        for client in clients:
            client.stop()
            client.close()
    return loop.measured.done(loop.cycles, loop.cycles)


def _main(folder: str) -> None:
    sys.path.append(folder)  # last: what we need ourselves comes from where we are
    client_of = importlib.import_module("kazoo.client").KazooClient
    known = importlib.import_module("kazoo.exceptions").KazooException
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=Order)
        try:
            tell(_run(order, client_of))
        except (LoadFailed, OSError, TimeoutError, known) as failed:
            sentence = f"{order.measure}: {failed!r}"
            tell({"event": "failed", "sentence": sentence})


if __name__ == "__main__":
    _main(sys.argv[1])
