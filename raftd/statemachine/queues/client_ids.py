"""Client ids of jobs that are gone: remembered for a while, as hashes.

Rules: while a job is kept, its record knows its client id. When it goes, the hash of
the id stays for ``client_id_ms``, and at most ``client_ids_max`` of them: the oldest go
first, those that came at one instant by hash.

Source: SEMANTICS.md section 6 (final → gone); RELIABILITY.md scenario 59.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec
from sortedcontainers import SortedList

from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.queues.table import TimerKind
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.tables import Rank, Table

__all__ = ["ClientIds", "hash_text"]

_HASH_BYTES: Final = 16
_ROW_BYTES: Final = 250
_PER_FIRE: Final = 100

_Remembered = tuple[int, JobState, int]
"""Job, its last state, and when it went."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Remembered).decode


class ClientIds:
    """The remembered ones."""

    def __init__(self, context: Context) -> None:
        self._context: Final = context
        self._ids: dict[bytes, _Remembered] = {}
        self._line: Final[SortedList] = SortedList()
        """(when it went, hash)."""

    def __len__(self) -> int:
        return len(self._ids)

    def find(self, client_id: str) -> tuple[int, JobState] | None:
        """Return id and last state of a job that is gone."""
        if not self._ids:
            return None
        found = self._ids.get(hash_text(client_id))
        return None if found is None else found[:2]

    def remember(self, client_id: str, job: int, state: JobState) -> None:
        """Keep a client id whose job goes now."""
        context = self._context
        now_ms = context.now_ms
        digest = hash_text(client_id)
        context.mark(Table.JOB_CLIENT_IDS, digest)
        context.journal.undo(self._drop, digest)
        if not self._line:
            self._arm(now_ms)
        self._put(digest, (job, state, now_ms))
        context.size_bytes += _ROW_BYTES
        if len(self._ids) > context.limits.client_ids_max:
            self._forget(self._line[0][1])

    def deadline_ms(self) -> int | None:
        """Return when the oldest is forgotten."""
        if not self._line:
            return None
        went_ms: int = self._line[0][0]
        return went_ms + self._context.limits.client_id_ms

    def fire(self) -> int:
        """Forget some of those whose time is over; return how many."""
        done = 0
        while done < _PER_FIRE:
            deadline_ms = self.deadline_ms()
            if deadline_ms is None or deadline_ms > self._context.now_ms:
                break
            self._forget(self._line[0][1])
            done += 1
        return done

    def audit(self, kept: Iterable[str]) -> None:
        """Prove that the order holds what is remembered, and no job that is kept.

        Raises:
            AssertionError: It does not.
        """
        line = sorted((found[2], digest) for digest, found in self._ids.items())
        assert list(self._line) == line
        if self._ids:
            assert not any(hash_text(name) in self._ids for name in kept)

    def encode_row(self, digest: bytes) -> bytes | None:
        """Encode a remembered id."""
        found = self._ids.get(digest)
        return None if found is None else _encode(found)

    def load_row(self, digest: bytes, value: bytes) -> None:
        """Take up a remembered id."""
        self._ids[digest] = _decode(value)

    def loaded(self) -> Iterator[None]:
        """Rebuild the order, and arm the timer."""
        yield from in_steps(self._ids, self._line_up)
        if self._line:
            self._arm(self._line[0][0])

    def _line_up(self, digest: bytes) -> None:
        self._line.add((self._ids[digest][2], digest))

    def _arm(self, went_ms: int) -> None:
        self._context.timers.lease.arm(
            went_ms + self._context.limits.client_id_ms,
            Rank.QUEUES,
            (TimerKind.CLIENT_IDS, 0),
        )

    def _forget(self, digest: bytes) -> None:
        context = self._context
        context.mark(Table.JOB_CLIENT_IDS, digest)
        context.journal.undo(self._put, digest, self._ids[digest])
        self._drop(digest)
        context.size_bytes -= _ROW_BYTES

    def _put(self, digest: bytes, remembered: _Remembered) -> None:
        self._ids[digest] = remembered
        self._line.add((remembered[2], digest))

    def _drop(self, digest: bytes) -> None:
        self._line.remove((self._ids.pop(digest)[2], digest))


def hash_text(text: str) -> bytes:
    """Return the hash that stands for a text in a row's key."""
    return hashlib.blake2b(text.encode(), digest_size=_HASH_BYTES).digest()
