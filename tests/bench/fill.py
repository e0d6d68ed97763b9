"""States of any size, made by the production state machine from entries.

A filler proposes what clients would propose and applies it, without a log, a disk or a
network: a million of anything within a minute. The state is then measured where it is,
or written into data directories (``fill_files``) that nodes start from.

Rules: names and values follow from their numbers alone, so what a state must hold can
be told without keeping it. The clock moves a little with every entry; ``settle`` moves
it on until the history of events is as short as it gets, as in a cluster at rest.

Source: PERFORMANCE.md (cost at a million, memory per thing).
"""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import Final

from raftctl.bench_workloads import VALUE
from raftd.statemachine.answers import Answer, Pending
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import Row
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import (
    AnyCommand,
    MarkEntry,
    encode_batch,
    seal,
)
from raftd.statemachine.schema.jobs import EnqueueJobs, JobSpec, JobState
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import GrantLease, LeaseGranted
from raftd.statemachine.schema.locks import AcquireLock
from raftd.statemachine.schema.queues import ConfigureQueue, QueueOptions
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened

__all__ = [
    "QUEUE",
    "WAITERS_PER_LOCK",
    "Filler",
    "Kind",
    "claimant_of",
    "key_of",
    "lock_of",
    "scattered",
]

QUEUE: Final = "filled"
WAITERS_PER_LOCK: Final = 10
_WAITERS_PER_LEASE: Final = 5000
_COMMANDS_PER_ENTRY: Final = 500
_JOBS_PER_COMMAND: Final = 100
_TTL_MS: Final = DEFAULT_LIMITS.ttl_ms_max
_ENTRY_MS: Final = 5
_STRIDE: Final = 2_654_435_761
_EPOCH_MS: Final = 1_700_000_000_000
_DEPTH_MAX: Final = 10_000_000


class Kind(enum.StrEnum):
    """What there is much of."""

    KEYS = "keys"
    JOBS = "jobs"
    SCHEDULED = "scheduled jobs"
    SESSIONS = "sessions"
    WAITERS = "lock waiters"
    LINE = "waiters of one lock"


def key_of(number: int) -> bytes:
    """Name a key."""
    return b"k/%09d" % number


def lock_of(number: int) -> str:
    """Name a lock."""
    return f"l/{number:06}"


def claimant_of(number: int) -> str:
    """Name a claimant."""
    return f"c/{number:09}"


def scattered(number: int, size: int) -> int:
    """Return a thing's number: neighbours are far apart, and none comes twice soon."""
    return number * _STRIDE % size


class Filler:
    """A state machine with a log of its own, that exists only while it is applied."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        """Begin with an empty state."""
        self.machine: Final = Machine(limits)
        self.now_ms = 1
        self.apply_ns = 0
        """Processor time that ``apply`` has taken so far."""
        self.apply_ns_max = 0
        """Of the entry that took longest since this was set to 0."""
        self.counts: Final = dict.fromkeys(Kind, 0)
        self.sessions: Final[list[int]] = []
        self._leases: Final[list[int]] = []

    # --- entries ---------------------------------------------------------------------

    def entry(
        self,
        commands: Sequence[AnyCommand],
        *,
        renewals: tuple[int, ...] = (),
        numbered: Sequence[tuple[int, int]] = (),
    ) -> list[Answer]:
        """Apply one entry, and count the processor time of just that.

        Args:
            commands: In their order.
            renewals: Leases to be renewed.
            numbered: Session and number of each command; empty = none is numbered.
        """
        senders = numbered or ((0, 0),) * len(commands)
        requests = [
            seal(session, number, max(number - 1, 0), command)
            for command, (session, number) in zip(commands, senders, strict=True)
        ]
        self.now_ms += _ENTRY_MS
        payload = encode_batch(self.now_ms, _EPOCH_MS + self.now_ms, renewals, requests)
        index = self.machine.applied_index + 1
        began_ns = time.process_time_ns()
        applied = self.machine.apply(index, payload)
        took_ns = time.process_time_ns() - began_ns
        self.apply_ns += took_ns
        self.apply_ns_max = max(self.apply_ns_max, took_ns)
        return applied.answers

    def must(self, commands: Sequence[AnyCommand]) -> list[Answer]:
        """Apply one entry in which nothing may be refused."""
        answers = self.entry(commands)
        for answer in answers:
            assert not isinstance(answer, Refusal), answer.sentence
        return answers

    def settle(self) -> None:
        """Move the clocks on until there is no work left."""
        self.now_ms += self.machine.context.limits.history_ms_max
        self.entry(())
        while self.machine.has_backlog:
            self.entry(())

    def checkpoint(self) -> Iterator[Row]:
        """Yield all rows changed since the last checkpoint; take them to the end."""
        self.entry((MarkEntry(self.machine.digest_index, self.machine.digest, 0),))
        checkpoint = self.machine.take_checkpoint()
        yield from checkpoint.rows()
        self.machine.checkpoint_written()

    def digest(self) -> str:
        """Return the digest of the state as it is now, in hexadecimal."""
        for _ in self.checkpoint():
            pass
        return self.machine.digest.hex()

    # --- fills -----------------------------------------------------------------------

    def fill(self, kind: Kind, count: int) -> None:
        """Add things until there are ``count``; those that are there stay."""
        first = self.counts[kind]
        assert count >= first, "a state only grows"
        match kind:
            case Kind.KEYS:
                for numbers in _slices(first, count, _COMMANDS_PER_ENTRY):
                    self.must([PutKey(key_of(n), VALUE) for n in numbers])
            case Kind.JOBS:
                self._fill_jobs(first, count, None)
            case Kind.SCHEDULED:
                self._fill_jobs(first, count, _TTL_MS)
            case Kind.SESSIONS:
                self._fill_sessions(first, count)
            case Kind.WAITERS:
                self._fill_waiters(first, count, WAITERS_PER_LOCK)
            case Kind.LINE:
                self._fill_waiters(first, count, _DEPTH_MAX)
        self.counts[kind] = count

    def _fill_jobs(self, first: int, count: int, delay_ms: int | None) -> None:
        options = QueueOptions(depth_max=_DEPTH_MAX)
        self.must([ConfigureQueue(QUEUE, options)])
        for numbers in _slices(first, count, _JOBS_PER_COMMAND):
            # Later ones are due later: no two share a place in the heap of timers.
            jobs = [
                JobSpec(QUEUE, VALUE, delay_ms=delay_ms and delay_ms + n)
                for n in numbers
            ]
            self.must([EnqueueJobs(tuple(jobs))])

    def _fill_sessions(self, first: int, count: int) -> None:
        for numbers in _slices(first, count, _COMMANDS_PER_ENTRY):
            opened = self.must(
                [OpenSession(_hash(n), _TTL_MS, claimant_of(n)) for n in numbers]
            )
            ids = [each.session for each in opened if isinstance(each, SessionOpened)]
            # A session in use keeps the answer that its client has not acknowledged.
            puts = [PutKey(b"s", b"") for _ in ids]
            self.entry(puts, numbered=[(session, 1) for session in ids])
            self.sessions.extend(ids)

    def _fill_waiters(self, first: int, count: int, per_lock: int) -> None:
        for numbers in _slices(first, count, _COMMANDS_PER_ENTRY):
            commands: list[AnyCommand] = []
            for n in numbers:
                lease = self._lease(n // _WAITERS_PER_LEASE)
                name = lock_of(n // per_lock)
                if n % per_lock == 0:
                    commands.append(AcquireLock(name, lease, f"h/{n}"))
                commands.append(AcquireLock(name, lease, claimant_of(n), wait_ms=None))
            answers = self.must(commands)
            waiting = sum(isinstance(answer, Pending) for answer in answers)
            assert waiting == len(numbers), "all but the first of each lock wait"

    def _lease(self, number: int) -> int:
        while number >= len(self._leases):
            (granted,) = self.must([GrantLease(_TTL_MS, f"filler/{number}")])
            assert isinstance(granted, LeaseGranted), "a lease was asked for"
            self._leases.append(granted.lease)
        return self._leases[number]

    def new_lease(self) -> int:
        """Grant a lease for what a measurement does, with nothing on it."""
        (granted,) = self.must([GrantLease(_TTL_MS, "prober")])
        assert isinstance(granted, LeaseGranted), "a lease was asked for"
        return granted.lease

    # --- proofs ----------------------------------------------------------------------

    def found(self, kind: Kind) -> int:
        """Count what the state holds of a kind, by its own accounts."""
        machine = self.machine
        match kind:
            case Kind.KEYS:
                found = machine.kv.count(b"k/", b"k0")
                assert isinstance(found, int), "the present is readable"
                return found
            case Kind.JOBS | Kind.SCHEDULED:
                stats = machine.queues.stats(QUEUE)
                assert stats is not None, "the queue was made"
                is_ready = kind is Kind.JOBS
                return stats.counts[JobState.READY if is_ready else JobState.SCHEDULED]
            case Kind.SESSIONS:
                return sum(map(machine.leases.is_alive, self.sessions))
            case Kind.WAITERS | Kind.LINE:
                names = machine.locks.names("l/", limit=self.counts[kind] + 1)
                views = map(machine.locks.inspect, names)
                return sum(len(view.waiters) for view in views if view is not None)


def _slices(first: int, count: int, size: int) -> Iterator[range]:
    for start in range(first, count, size):
        yield range(start, min(start + size, count))


def _hash(number: int) -> bytes:
    return hashlib.blake2b(b"%d" % number, digest_size=16).digest()
