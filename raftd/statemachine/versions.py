"""Every version of every key that is still readable.

A record is a ``KeyValue``; version 0 is a tombstone. Present keys lie in ``live``; what
they replaced lies in ``chains``, only for keys with more than one version above the
compaction revision; deleted keys with readable versions are ``ghosts``.

Rules: a version's row is written once, under key and revision, and never changes; it is
only removed, when the version that replaced it falls out of the history. Two writes of
one key under one revision are one version: the second takes the first one's place.

Source: SEMANTICS.md section 2.
"""

from bisect import bisect_right
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from sortedcontainers import SortedList

from raftd.statemachine.context import Context
from raftd.statemachine.loading import STEP_ROWS, in_steps, pop_in_steps
from raftd.statemachine.rows import OWED
from raftd.statemachine.schema.kv import KeyValue
from raftd.statemachine.tables import Table

__all__ = ["REVISION_BYTES", "Versions"]

REVISION_BYTES: Final = 8
_VERSIONS: Final = int(Table.VERSIONS)
_mod_rev: Final = attrgetter("mod_rev")


class Versions:
    """The records by key and revision; undoes itself through the journal."""

    def __init__(self, context: Context) -> None:
        self._context: Final = context
        self._mark_as: Final = context.rows.mark_as
        self._undo: Final = context.journal.undo
        self.live: Final[dict[bytes, KeyValue]] = {}
        self._index: SortedList = SortedList()
        self._chains: Final[dict[bytes, list[KeyValue]]] = {}
        self._ghosts: SortedList = SortedList()
        self._tombstones: Final[list[KeyValue]] = []
        """Those that were loaded, until all records are."""

    # --- reads -------------------------------------------------------------------

    def at(self, key: bytes, rev: int) -> KeyValue | None:
        """Return the key as it stood at a readable revision; None = no such key."""
        record = self.live.get(key)
        if record is None or record.mod_rev > rev:
            record = self._newest(key, rev)
        return record if record is not None and record.version else None

    def exact(self, key: bytes, rev: int) -> KeyValue | None:
        """Return the record (or tombstone) written at exactly this revision."""
        record = self.live.get(key)
        if record is None or record.mod_rev != rev:
            record = self._newest(key, rev)
        return record if record is not None and record.mod_rev == rev else None

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """Yield the present keys in [start, end), rising; empty end = no end."""
        return _between(self._index, start, end)

    def all_keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """Yield present and deleted keys with readable versions, rising."""
        return _merge(
            _between(self._index, start, end), _between(self._ghosts, start, end)
        )

    def count(self, start: bytes, end: bytes) -> int:
        """Return how many keys are present in [start, end)."""
        last = self._index.bisect_left(end) if end else len(self._index)
        first: int = self._index.bisect_left(start)
        return int(max(0, last - first))

    def _newest(self, key: bytes, rev: int) -> KeyValue | None:
        chain = self._chains.get(key)
        if chain is None:
            return None
        place = bisect_right(chain, rev, key=_mod_rev)
        return chain[place - 1] if place else None

    # --- writes ------------------------------------------------------------------

    def put(self, record: KeyValue, previous: KeyValue | None) -> KeyValue | None:
        """Make ``record`` the key's newest version; ``previous`` is the present one.

        Returns:
            The record of this key and revision whose place it took, if there was one:
            its event must be taken back.
        """
        key = record.key
        rev = record.mod_rev
        self._mark_as(_VERSIONS, key + rev.to_bytes(REVISION_BYTES, "big"), record)
        if previous is None:
            self._undo(self._restore, key, None)
            self.live[key] = record
            return self._revive(key, rev)
        if previous.mod_rev == rev:
            self._undo(self._restore, key, previous)
            self.live[key] = record
            return previous
        self._undo(self._unoverwrite, key, previous)
        self.live[key] = record
        chain = self._chains.get(key)
        if chain is None:
            self._chains[key] = [previous]
        else:
            chain.append(previous)
        return None

    def delete(
        self, tombstone: KeyValue, previous: KeyValue
    ) -> tuple[KeyValue | None, bool]:
        """Put a tombstone in the place of the present version.

        Returns:
            The replaced record as ``put``, and whether the tombstone remains: a key
            that was made under this very revision leaves nothing behind, and no event.
        """
        key = tombstone.key
        context = self._context
        # Whether a tombstone remains is not known yet.
        self._mark_as(_VERSIONS, _row_key(tombstone), OWED)
        context.journal.undo(self._restore, key, previous)
        del self.live[key]
        self._index.remove(key)
        chain = self._chains.get(key)
        if previous.mod_rev != tombstone.mod_rev:
            replaced, remains = None, True
            self._supersede(key, previous)
        else:
            replaced, remains = previous, chain is not None and bool(chain[-1].version)
        if remains:
            self._supersede(key, tombstone)
        if remains or chain is not None:
            self._ghosts.add(key)
            context.journal.undo(self._ghosts.remove, key)
        return replaced, remains

    def trim(self, event: KeyValue) -> None:
        """Drop what an event replaced: the event leaves the history.

        A tombstone goes with its own event: nothing is readable before it.
        """
        key = event.key
        chain = self._chains.get(key)
        if chain is None:
            return
        rev = event.mod_rev
        gone = 0  # hardly ever more than one goes
        while gone < len(chain) and chain[gone].mod_rev < rev:
            gone += 1
        if gone < len(chain) and chain[gone].mod_rev == rev and not chain[gone].version:
            gone += 1
        mark_as = self._mark_as
        for record in chain[:gone]:
            mark_as(_VERSIONS, _row_key(record), None)
        if gone < len(chain):
            del chain[:gone]
            return
        del self._chains[key]
        if key not in self.live:
            self._ghosts.remove(key)

    def _supersede(self, key: bytes, record: KeyValue) -> None:
        chain = self._chains.get(key)
        if chain is None:
            self._chains[key] = [record]
        else:
            chain.append(record)
        self._context.journal.undo(self._unsupersede, key)

    def _unsupersede(self, key: bytes) -> None:
        chain = self._chains[key]
        chain.pop()
        if not chain:
            del self._chains[key]

    def _unoverwrite(self, key: bytes, previous: KeyValue) -> None:
        self._mark_as(_VERSIONS, _row_key(self.live[key]), OWED)
        self._unsupersede(key)
        self.live[key] = previous

    def _restore(self, key: bytes, previous: KeyValue | None) -> None:
        undone = self.live.get(key)
        if undone is not None:
            self._mark_as(_VERSIONS, _row_key(undone), OWED)
        if previous is None:
            del self.live[key]
            self._index.remove(key)
        else:
            if key not in self.live:
                self._index.add(key)
            self.live[key] = previous

    def _revive(self, key: bytes, rev: int) -> KeyValue | None:
        self._index.add(key)
        chain = self._chains.get(key)
        if chain is None:
            return None
        journal = self._context.journal
        self._ghosts.remove(key)
        journal.undo(self._ghosts.add, key)
        tombstone = chain[-1]
        if tombstone.mod_rev != rev:
            return None
        chain.pop()
        journal.undo(self._resupersede, key, tombstone)
        if not chain:
            del self._chains[key]
        return tombstone

    def _resupersede(self, key: bytes, record: KeyValue) -> None:
        self._chains.setdefault(key, []).append(record)

    # --- load --------------------------------------------------------------------

    def load(self, record: KeyValue) -> None:
        """Take up a record; a key's records come by rising revision."""
        key = record.key
        previous = self.live.get(key)
        self.live[key] = record
        if previous is not None:
            self._chains.setdefault(key, []).append(previous)
        if not record.version:
            self._tombstones.append(record)

    def loaded(self) -> Iterator[None]:
        """Tell present versions from older ones and build the indexes."""
        yield from in_steps(self._tombstones, self._bury)
        self._tombstones.clear()
        yield from in_steps(self.live, self._index.add)

    def let_go(self) -> Iterator[None]:
        """Free most of it, in steps; it is of no use afterwards."""
        yield from pop_in_steps(self.live)
        yield from pop_in_steps(self._chains)
        while self._index:
            del self._index[-STEP_ROWS:]
            yield

    def _bury(self, tombstone: KeyValue) -> None:
        key = tombstone.key
        if self.live.get(key) is tombstone:
            del self.live[key]
            self._chains.setdefault(key, []).append(tombstone)
            self._ghosts.add(key)


def _row_key(record: KeyValue) -> bytes:
    return record.key + record.mod_rev.to_bytes(REVISION_BYTES, "big")


def _between(keys: SortedList, start: bytes, end: bytes) -> Iterator[bytes]:
    found: Iterator[bytes] = keys.irange(start, end or None, inclusive=(True, False))
    return found


def _merge(left: Iterator[bytes], right: Iterator[bytes]) -> Iterator[bytes]:
    # The two never hold the same key: a ghost is not present.
    ahead = next(right, None)
    for key in left:
        while ahead is not None and ahead < key:
            yield ahead
            ahead = next(right, None)
        yield key
    while ahead is not None:
        yield ahead
        ahead = next(right, None)
