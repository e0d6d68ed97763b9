"""Appends to log.db on the caller's thread: for small ones, while the disk is quick.

The way to the thread of the other connection and back takes as long as such a sync and
costs each member about a sixth of what a lone write costs it. A loop that waits for the
disk itself saves that, but stands still meanwhile.

Rules:

* How long it stands still is bounded: a sync that took more than ``_SLOW_S``, or
  syncs that take more than ``_MEAN_S`` on average, are followed by a rest, in which
  nothing is written here, of ``_REST_TIMES_MIN`` what the slow one took. So slow
  syncs take no more than a fiftieth of the loop's time; far less on a disk that is
  slow time and again, for each one doubles the next rest, up to ``_REST_TIMES_MAX``,
  and only quick ones shorten it again. It begins with a rest: a start has enough to do.
* The connection is used by one thread, the one that came first; that it and the other
  one are never at work at the same time is up to the caller.

Source: DESIGN.md section 6 (log.db); RELIABILITY.md rule 14; PERFORMANCE.md.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from raftd.storage.errors import translate_errors
from raftd.storage.files import connect_writer_here

__all__ = ["LogHere", "SyncPace"]

_SLOW_S: Final = 0.003
_MEAN_S: Final = 0.0015
_MEAN_OF: Final = 16
_REST_TIMES_MIN: Final = 50
_REST_TIMES_MAX: Final = 5000
_REST_S_FIRST: Final = 0.5


class SyncPace:
    """Learns how long syncs take, and tells whether the loop may wait for one."""

    __slots__ = ("_clock", "_mean_s", "_rest_times", "_rest_until_s")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin with a rest.

        Args:
            clock: Seconds that never go back.
        """
        self._clock: Final = clock
        self._mean_s = 0.0
        self._rest_times = float(_REST_TIMES_MIN)
        self._rest_until_s = clock() + _REST_S_FIRST

    @property
    def may_wait(self) -> bool:
        """Whether the loop may wait for the next sync."""
        return self._clock() >= self._rest_until_s

    def note(self, begin_s: float) -> None:
        """Take note of a sync that began at an instant and ends now."""
        now_s = self._clock()
        took_s = now_s - begin_s
        self._mean_s += (took_s - self._mean_s) / _MEAN_OF
        if took_s > _SLOW_S or self._mean_s > _MEAN_S:
            self._rest_until_s = now_s + self._rest_times * took_s
            self._rest_times = min(2 * self._rest_times, _REST_TIMES_MAX)
            self._mean_s = 0.0
        elif self._rest_times > _REST_TIMES_MIN:
            self._rest_times -= self._rest_times / _MEAN_OF


class LogHere:
    """The second connection that writes to one log.db; see the module's rules."""

    def __init__(self, path: Path) -> None:
        """Prepare; ``connect`` comes before the first write."""
        self.pace: Final = SyncPace()
        self._path: Final = path
        self._db: sqlite3.Connection | None = None

    def connect(self) -> None:
        """Open the file, which nobody has had time to exchange.

        Raises:
            DiskFailed: The disk refused.
        """
        with translate_errors(self._path, "open"):
            self._db = connect_writer_here(self._path)

    def execute(self, sql: str, parameters: Sequence[object]) -> None:
        """Run one statement that is a transaction; it is durable when this returns.

        Raises:
            DiskFull: Nothing of it is there; may be tried again.
            DiskFailed: It may or may not be there after a restart.
        """
        begin_s = time.perf_counter()
        assert self._db is not None, "it was connected"
        with translate_errors(self._path, "write"):
            self._db.execute(sql, parameters)
        self.pace.note(begin_s)

    def close(self) -> None:
        """Let the connection go; may be called twice."""
        db, self._db = self._db, None
        if db is not None:
            with translate_errors(self._path, "close"):
                db.close()
