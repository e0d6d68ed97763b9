"""Operations on a state of any size, for the growth of the state machine's own cost.

Rules: a probe leaves as many things as it found. Entries have the same number of
commands at every size, and touch things spread over all of them. Only ``apply``, or
the read itself, is timed, in processor time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

from raftctl.bench_workloads import VALUE
from raftd.node.service import WatchSpec
from raftd.node.watch_index import Subject
from raftd.node.watches import Watches
from raftd.statemachine.events import Event, HistoryRecord
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.jobs import (
    CancelJob,
    CompleteJob,
    EnqueueJobs,
    JobsEnqueued,
    JobSpec,
    JobsReserved,
    ReserveJobs,
)
from raftd.statemachine.schema.kv import DeleteKey, KeyValue, PutKey
from raftd.statemachine.schema.locks import AcquireLock, ReleaseLock
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionOpened,
)
from tests.bench.fill import (
    QUEUE,
    WAITERS_PER_LOCK,
    Filler,
    Kind,
    key_of,
    lock_of,
    scattered,
)

__all__ = ["PROBES", "Probe", "Timed", "watch_wake_us"]

_ENTRY: Final = 64
_ENTRIES: Final = 32
_DELAY_MS: Final = 3_600_000
R = TypeVar("R", bound=Result)


@dataclasses.dataclass(frozen=True, slots=True)
class Timed:
    """What a round of operations took."""

    operations: int
    ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """An operation; ``run`` is told the state, its size, and which round it is."""

    kind: Kind
    name: str
    run: Callable[[Filler, int, int], Timed]


def _spread(size: int, turn: int, count: int) -> list[int]:
    """Return numbers of things, none twice as far as there are enough."""
    first = turn * count
    return [scattered(n, size) for n in range(first, first + count)]


def _applied(filler: Filler, entries: Iterator[Sequence[AnyCommand]]) -> Timed:
    began_ns, operations = filler.apply_ns, 0
    for commands in entries:
        operations += len(filler.must(commands))
    return Timed(operations, filler.apply_ns - began_ns)


def _read(calls: int, read: Callable[[int], object]) -> Timed:
    began_ns = time.process_time_ns()
    for number in range(calls):
        read(number)
    return Timed(calls, time.process_time_ns() - began_ns)


def _only(kind: type[R], answers: Sequence[object]) -> list[R]:
    found = [answer for answer in answers if isinstance(answer, kind)]
    assert len(found) == len(answers), answers
    return found


# --- keys ----------------------------------------------------------------------------


def _put(filler: Filler, size: int, turn: int) -> Timed:
    return _applied(
        filler,
        (
            [
                PutKey(key_of(n), VALUE)
                for n in _spread(size, turn * _ENTRIES + k, _ENTRY)
            ]
            for k in range(_ENTRIES)
        ),
    )


def _add_and_delete(filler: Filler, size: int, turn: int) -> Timed:
    def entries() -> Iterator[list[AnyCommand]]:
        for k in range(_ENTRIES // 2):
            numbers = _spread(size, turn * _ENTRIES + k, _ENTRY)
            keys = [key_of(n) + b"+%d" % place for place, n in enumerate(numbers)]
            yield [PutKey(key, VALUE) for key in keys]
            yield [DeleteKey(key) for key in keys]

    return _applied(filler, entries())


def _page(filler: Filler, size: int, turn: int) -> Timed:
    starts = [key_of(n) for n in _spread(size, turn, _ENTRY * _ENTRIES)]
    kv = filler.machine.kv
    return _read(len(starts), lambda n: kv.range(starts[n], b"k0", 10))


def _count(filler: Filler, size: int, turn: int) -> Timed:
    starts = [key_of(n) for n in _spread(size, turn, _ENTRY * _ENTRIES)]
    kv = filler.machine.kv
    return _read(len(starts), lambda n: kv.count(starts[n], b"k0"))


# --- jobs ----------------------------------------------------------------------------


def _job_cycle(filler: Filler, _size: int, _turn: int) -> Timed:
    lease, began_ns = filler.new_lease(), filler.apply_ns
    take = ReserveJobs(lease, ((QUEUE, 1),), "w")
    for _ in range(_ENTRIES // 2):
        filler.must([EnqueueJobs((JobSpec(QUEUE, VALUE),))] * _ENTRY)
        taken = _only(JobsReserved, filler.must([take] * _ENTRY))
        jobs = [answer.jobs[0] for answer in taken]
        filler.must([CompleteJob(job.id, job.token) for job in jobs])
    return Timed(_ENTRIES // 2 * _ENTRY, filler.apply_ns - began_ns)


def _job_stats(filler: Filler, _size: int, _turn: int) -> Timed:
    return _read(_ENTRY, lambda _: filler.machine.queues.stats(QUEUE))


def _schedule_and_cancel(filler: Filler, _size: int, turn: int) -> Timed:
    began_ns = filler.apply_ns
    for k in range(_ENTRIES // 2):
        job = JobSpec(QUEUE, VALUE, delay_ms=_DELAY_MS + turn * _ENTRIES + k)
        added = _only(JobsEnqueued, filler.must([EnqueueJobs((job,))] * _ENTRY))
        filler.must([CancelJob(answer.ids[0]) for answer in added])
    return Timed(_ENTRIES // 2 * _ENTRY, filler.apply_ns - began_ns)


# --- sessions ------------------------------------------------------------------------


def _numbered_put(filler: Filler, size: int, turn: int) -> Timed:
    sessions, began_ns = filler.sessions, filler.apply_ns
    command = PutKey(b"s", VALUE)
    for k in range(_ENTRIES):
        chosen = [sessions[n] for n in _spread(size, turn * _ENTRIES + k, _ENTRY)]
        numbers = map(filler.machine.sessions.number_max, chosen)
        senders = [(s, n + 1) for s, n in zip(chosen, numbers, strict=True)]
        answers = filler.entry([command] * _ENTRY, numbered=senders)
        assert not any(isinstance(answer, Refusal) for answer in answers), answers
    return Timed(_ENTRY * _ENTRIES, filler.apply_ns - began_ns)


def _renew(filler: Filler, size: int, turn: int) -> Timed:
    sessions, began_ns = filler.sessions, filler.apply_ns
    for k in range(_ENTRIES):
        numbers = _spread(size, turn * _ENTRIES + k, _ENTRY)
        filler.entry((), renewals=tuple([sessions[n] for n in numbers]))
    return Timed(_ENTRY * _ENTRIES, filler.apply_ns - began_ns)


def _open_and_close(filler: Filler, _size: int, turn: int) -> Timed:
    began_ns = filler.apply_ns
    for k in range(_ENTRIES // 2):
        first = (turn * _ENTRIES + k) * _ENTRY
        keys = [b"n%015d" % n for n in range(first, first + _ENTRY)]
        opened = filler.must([OpenSession(key, 10_000, "p") for key in keys])
        ids = [answer.session for answer in _only(SessionOpened, opened)]
        filler.must([CloseSession(session) for session in ids])
    return Timed(_ENTRIES // 2 * _ENTRY, filler.apply_ns - began_ns)


# --- locks ---------------------------------------------------------------------------


def _hand_over(filler: Filler, size: int, turn: int) -> Timed:
    """Each holder releases, the next gets the lock, and one more gets in line."""
    lease, began_ns = filler.new_lease(), filler.apply_ns
    locks = size // WAITERS_PER_LOCK
    for k in range(_ENTRIES):
        at = turn * _ENTRIES + k
        _pass_on(filler, [lock_of(n) for n in _spread(locks, at, _ENTRY)], lease, at)
    return Timed(_ENTRY * _ENTRIES, filler.apply_ns - began_ns)


def _hand_over_one(filler: Filler, _size: int, turn: int) -> Timed:
    lease, began_ns = filler.new_lease(), filler.apply_ns
    rounds = _ENTRY * _ENTRIES // 4
    for k in range(rounds):
        _pass_on(filler, [lock_of(0)], lease, turn * rounds + k)
    return Timed(rounds, filler.apply_ns - began_ns)


def _pass_on(filler: Filler, names: Sequence[str], lease: int, at: int) -> None:
    commands: list[AnyCommand] = []
    for place, name in enumerate(names):
        token = filler.machine.locks.current_token(name)
        commands.append(ReleaseLock(name, token))
        commands.append(AcquireLock(name, lease, f"p/{at}/{place}", wait_ms=None))
    filler.must(commands)


PROBES: Final = (
    Probe(Kind.KEYS, "put", _put),
    Probe(Kind.KEYS, "add and delete a key, each", _add_and_delete),
    Probe(Kind.KEYS, "read a page of 10", _page),
    Probe(Kind.KEYS, "count a range", _count),
    Probe(Kind.JOBS, "enqueue, reserve, complete", _job_cycle),
    Probe(Kind.JOBS, "statistics", _job_stats),
    Probe(Kind.SCHEDULED, "schedule and cancel", _schedule_and_cancel),
    Probe(Kind.SCHEDULED, "statistics", _job_stats),
    Probe(Kind.SESSIONS, "numbered put", _numbered_put),
    Probe(Kind.SESSIONS, "renewal", _renew),
    Probe(Kind.SESSIONS, "open and close", _open_and_close),
    Probe(Kind.WAITERS, "release, grant, wait again", _hand_over),
    Probe(Kind.LINE, "release, grant, wait again", _hand_over_one),
)


def watch_wake_us(watches: int, publications: int) -> float:
    """Return what an event of one key costs with so many watches of a key each."""
    owner = Watches(Machine())

    def keep_only(key: bytes) -> Callable[[Event], bool]:
        return lambda event: isinstance(event, KeyValue) and event.key == key

    for number in range(watches):
        spec = WatchSpec(
            keep=keep_only(key_of(number)),
            about=(Subject.KEY, key_of(number)),
            snapshot=lambda _: (),
        )
        owner.open(spec)
    assert len(owner) == watches
    event = KeyValue(key_of(0), VALUE, 1, 1, 1, 0)
    record = HistoryRecord(1, 1, 1, 400, [event])
    return _read(publications, lambda _: owner.publish(record)).ns / publications / 1000
