"""The stored log as the core reads it, for followers that lag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from raftd.consensus.types import Entry, Index

__all__ = ["LogEntries", "StoredLog"]


class StoredLog(Protocol):
    """A log that can be read beside its writer."""

    def read(self, low: Index, high: Index, bytes_max: int) -> Sequence[Entry]:
        """Read entries from ``low`` up to, not with, ``high``; at least one."""


class LogEntries:
    """See ``raftd.consensus.log.LogReader``."""

    __slots__ = ("_log",)

    def __init__(self, log: StoredLog) -> None:
        self._log: Final = log

    def entries(self, lo: int, hi: int, bytes_max: int) -> Sequence[Entry]:
        """Read entries that have left memory."""
        return self._log.read(Index(lo), Index(hi), bytes_max)
