"""The keeper: one thread per process that renews what its clients hold.

It has neither the caller's thread nor its loop, so code that blocks for longer than
the ttl keeps its session. Renewals are plain unary calls on channels of their own: a
second asyncio loop would be woken by every message of the caller's streams, and slow
both down.

Each held thing is renewed every fifth of its ttl; an attempt that fails or takes that
long is followed by one at the next endpoint. The same thread notices the local
deadline, so that the holder is told whatever the network or its own loop does.

Source: SEMANTICS.md section 1 (time); docs/ARCHITECTURE.md, threads.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import grpc

from raftclient._clock import boottime_s
from raftclient._status import error_from_rpc
from raftclient.errors import (
    InternalError,
    LimitExceeded,
    OutcomeUnknown,
    RaftError,
    Unavailable,
)

if TYPE_CHECKING:
    from raftclient._held import Held

__all__ = ["KEEPER", "Keeper", "Send"]

RENEWALS_PER_TTL: Final = 5
ATTEMPT_S_MIN: Final = 0.2
PAUSE_S_MAX: Final = 0.2
SLICE_S_MAX: Final = 1.0
"""Longest wait at a stretch: the clock of waits stands still while a machine sleeps."""

Send = Callable[[float], "grpc.Future[Any]"]
"""Begin one attempt with this timeout; its result has ``ttl_ms``."""


class _Entry:
    __slots__ = (
        "due_s",
        "held",
        "is_removed",
        "pending",
        "per_ttl",
        "send",
        "ttl_ms_of",
    )

    def __init__(
        self, held: Held, send: Send, ttl_ms_of: Callable[[Any], int], per_ttl: int
    ) -> None:
        self.held = held
        self.send = send
        self.ttl_ms_of = ttl_ms_of
        self.per_ttl = per_ttl
        self.due_s = 0.0
        self.pending: grpc.Future[Any] | None = None
        self.is_removed = False

    def interval_s(self) -> float:
        """How long after one renewal was sent the next one is due."""
        return self.held.ttl_s / self.per_ttl


class Keeper:
    """Renews held things on a thread that lives while there are any."""

    def __init__(self) -> None:
        self._changed: Final = threading.Condition()
        self._entries: dict[Held, _Entry] = {}
        self._heap: list[tuple[float, int, _Entry]] = []
        self._order: Final = itertools.count()
        self._thread: threading.Thread | None = None

    def add(
        self,
        held: Held,
        send: Send,
        ttl_ms_of: Callable[[Any], int],
        *,
        per_ttl: int = RENEWALS_PER_TTL,
    ) -> None:
        """Renew it from now on, ``per_ttl`` times in each ttl."""
        entry = _Entry(held, send, ttl_ms_of, per_ttl)
        with self._changed:
            self._entries[held] = entry
            self._schedule(entry, boottime_s() + entry.interval_s())
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="raftclient-keeper", daemon=True
                )
                self._thread.start()

    def remove(self, held: Held) -> None:
        """Renew it no longer; one that is not there is no error."""
        with self._changed:
            entry = self._entries.pop(held, None)
            if entry is None:
                return
            entry.is_removed = True
            pending = entry.pending
            self._changed.notify()
        if pending is not None:
            pending.cancel()

    def _schedule(self, entry: _Entry, due_s: float) -> None:
        entry.due_s = due_s
        heapq.heappush(self._heap, (due_s, next(self._order), entry))
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                due = self._take_due()
                if not due:
                    if not self._entries:
                        self._thread = None
                        return
                    wait_s = self._heap[0][0] - boottime_s() if self._heap else None
                    self._changed.wait(min(SLICE_S_MAX, max(0.0, wait_s or 0.0)))
                    continue
            for entry in due:
                self._step(entry)

    def _take_due(self) -> list[_Entry]:
        now_s = boottime_s()
        due = []
        while self._heap and self._heap[0][0] <= now_s:
            due_s, _, entry = heapq.heappop(self._heap)
            if not entry.is_removed and due_s == entry.due_s:
                due.append(entry)
        return due

    def _step(self, entry: _Entry) -> None:
        held = entry.held
        if held.is_lost():
            self.remove(held)
            return
        late = entry.pending
        if late is not None:
            entry.pending = None
            late.cancel()
        sent_s = boottime_s()
        attempt_s = max(ATTEMPT_S_MIN, entry.interval_s())
        try:
            pending = entry.send(attempt_s)
        except ValueError:  # grpc's word for a channel that was closed meanwhile
            self.remove(held)
            return
        with self._changed:
            entry.pending = pending
            # The deadline is looked at even if no answer ever comes.
            self._schedule(entry, min(sent_s + attempt_s, held.deadline_s))
        pending.add_done_callback(lambda done: self._finish(entry, sent_s, done))

    def _finish(self, entry: _Entry, sent_s: float, done: grpc.Future[Any]) -> None:
        with self._changed:
            if entry.pending is done:
                entry.pending = None
            elif entry.is_removed or done.cancelled():
                return  # an attempt given up; the next one is on its way
        held = entry.held
        try:
            ttl_ms = entry.ttl_ms_of(done.result())
        except grpc.FutureCancelledError:
            return
        except grpc.RpcError as failure:
            error = error_from_rpc(failure)
            if _is_final(error):
                held.lose(error)
                self.remove(held)
                return
            pause_s = min(PAUSE_S_MAX, held.ttl_s / 50)
            due_s = min(boottime_s() + pause_s, held.deadline_s)
        else:
            held.renew(sent_s, ttl_ms)
            due_s = sent_s + entry.interval_s()
        with self._changed:
            if not entry.is_removed:
                self._schedule(entry, due_s)


def _is_final(error: RaftError) -> bool:
    if error.reason == "SESSION_UNKNOWN":
        return True
    return not isinstance(
        error, Unavailable | OutcomeUnknown | LimitExceeded | InternalError
    )


KEEPER: Final = Keeper()
"""The process's own; it costs no thread while nothing is held."""
