"""Unique keys: at most one job at a time under a key of a queue.

Rules:
* STARTED: the key is free from the job's first reservation on. DONE: from its end,
  whatever end. WINDOW: when the window is over, whatever became of the job.
* A key lives with its job and is found from it again; only a window, which may outlive
  its job, has a row.
* A second job under a taken key is never made: the answer names the first, and says it
  existed. REPLACE gives a waiting first job the new payload, content type and meta;
  DEBOUNCE does that and moves it to the new job's time. One that is in a worker's
  hands, or over, is left as it is.

Source: SEMANTICS.md section 6 (unique).
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.queues.client_ids import hash_text
from raftd.statemachine.queues.jobs import Job, is_final
from raftd.statemachine.queues.table import TimerKind
from raftd.statemachine.schema.jobs import JobState, UniqueSpec, UniqueUntil
from raftd.statemachine.tables import Rank, Table

__all__ = ["UniqueKeys"]

_WINDOW_BYTES: Final = 250


class _Window(
    msgspec.Struct,
    frozen=True,
    array_like=True,
    gc=False,
    forbid_unknown_fields=True,
):
    """A key that is taken for a time.

    Attributes:
        job: By which job.
        until_ms: How long, on the lease clock.
        state: The job's state when it went, if it is gone.
    """

    job: int
    until_ms: int
    state: JobState | None = None


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Window).decode


class UniqueKeys:
    """Who holds which key, by the hash of queue and key."""

    def __init__(self, context: Context, jobs: dict[int, Job]) -> None:
        self._context: Final = context
        self._jobs: Final = jobs
        self._holders: dict[bytes, int | _Window] = {}

    def holder(self, queue: str, unique: UniqueSpec) -> tuple[int, JobState] | None:
        """Return the job that has the key, and its state; None = it is free."""
        found = self._holders.get(_digest(queue, unique))
        if found is None:
            return None
        if isinstance(found, int):
            return found, self._jobs[found].state
        if found.until_ms <= self._context.now_ms:
            return None
        job = self._jobs.get(found.job)
        if job is not None:
            return job.id, job.state
        assert found.state is not None
        return found.job, found.state

    def take(self, job: Job) -> None:
        """Give a free key to a job that comes, or comes back to life."""
        unique = _unique_of(job)
        if unique is None:
            return
        context = self._context
        digest = _digest(job.queue, unique)
        self._note(digest)
        if unique.until is not UniqueUntil.WINDOW:
            self._holders[digest] = job.id
            return
        until_ms = context.now_ms + unique.window_ms
        self._holders[digest] = _Window(job.id, until_ms)
        context.size_bytes += _WINDOW_BYTES
        self._arm(digest, until_ms)

    def started(self, job: Job) -> None:
        """Free the key of a job that is reserved for the first time, if so agreed."""
        unique = _unique_of(job)
        if unique is not None and unique.until is UniqueUntil.STARTED:
            self._free(job, unique)

    def ended(self, job: Job) -> None:
        """Free the key of a job that has ended, if so agreed."""
        unique = _unique_of(job)
        if unique is not None and unique.until is not UniqueUntil.WINDOW:
            self._free(job, unique)

    def gone(self, job: Job, state: JobState) -> None:
        """Keep the last state of a job whose window goes on without it."""
        unique = _unique_of(job)
        if unique is None:
            return
        digest = _digest(job.queue, unique)
        found = self._holders.get(digest)
        if isinstance(found, _Window) and found.job == job.id:
            self._note(digest)
            self._holders[digest] = msgspec.structs.replace(found, state=state)
            self._context.size_bytes += _WINDOW_BYTES

    def deadline_ms(self, digest: str) -> int | None:
        """Return when a window is over."""
        found = self._holders.get(bytes.fromhex(digest))
        return found.until_ms if isinstance(found, _Window) else None

    def fire(self, digest: str) -> int:
        """End a window."""
        self._note(bytes.fromhex(digest))
        del self._holders[bytes.fromhex(digest)]
        return 1

    def encode_row(self, digest: bytes) -> bytes | None:
        """Encode a window."""
        found = self._holders.get(digest)
        return _encode(found) if isinstance(found, _Window) else None

    def load_row(self, digest: bytes, value: bytes) -> None:
        """Take up a window."""
        self._holders[digest] = _decode(value)

    def loaded(self) -> Iterator[None]:
        """Find the keys of loaded jobs again, and arm the windows' timers."""
        yield from in_steps(self._holders, self._arm_loaded)
        yield from in_steps(self._jobs.values(), self._find_key)

    def _arm_loaded(self, digest: bytes) -> None:
        found = self._holders[digest]
        if isinstance(found, _Window):
            self._arm(digest, found.until_ms)

    def _find_key(self, job: Job) -> None:
        unique = _unique_of(job)
        if unique is not None and _has_key(job, unique):
            self._holders[_digest(job.queue, unique)] = job.id

    def _free(self, job: Job, unique: UniqueSpec) -> None:
        digest = _digest(job.queue, unique)
        if self._holders.get(digest) == job.id:
            self._note(digest)
            del self._holders[digest]

    def _note(self, digest: bytes) -> None:
        """Note a change; what a window counted is taken off with it."""
        context = self._context
        context.mark(Table.JOB_UNIQUES, digest)
        context.journal.item(self._holders, digest)
        if isinstance(self._holders.get(digest), _Window):
            context.size_bytes -= _WINDOW_BYTES

    def _arm(self, digest: bytes, until_ms: int) -> None:
        self._context.timers.lease.arm(
            until_ms, Rank.QUEUES, (TimerKind.UNIQUE_WINDOW, digest.hex())
        )


def _unique_of(job: Job) -> UniqueSpec | None:
    return job.extra.unique if job.extra is not None else None


def _has_key(job: Job, unique: UniqueSpec) -> bool:
    if is_final(job.state) or unique.until is UniqueUntil.WINDOW:
        return False
    return unique.until is UniqueUntil.DONE or job.delivery == 0


def _digest(queue: str, unique: UniqueSpec) -> bytes:
    return hash_text(f"{queue}\0{unique.key}")
