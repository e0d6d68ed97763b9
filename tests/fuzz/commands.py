"""Commands that a client may make up: any type, any values, some of them sensible.

A small number in a field that names something (a lease, a token, a job ...) stands for
one that exists: ``Known.resolve`` puts it in. So drawn values stay small and shrink,
and yet many commands reach past the first check.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Fence, FenceKind
from raftd.statemachine.schema.elections import Campaign, CampaignWon
from raftd.statemachine.schema.entry import AnyCommand, MarkEntry
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    EnqueueJobs,
    FailJob,
    JobsEnqueued,
    JobsReserved,
    JobState,
    ReserveJobs,
)
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import GrantLease
from raftd.statemachine.schema.locks import AcquireLock, LockGranted
from raftd.statemachine.schema.sessions import OpenSession
from raftd.statemachine.schema.txn import Transact
from tests.fuzz.structs import fields_of, values_of

__all__ = ["COMMANDS", "FENCES", "PICKS", "Known"]

PICKS: Final = st.integers(0, 5)
"""Which of the known things is meant."""

NOBODY: Final = 6
"""Stands for no lease at all."""

_NAMES = st.sampled_from(["n", "n", "m"])
_SPANS = st.sampled_from([0, 1, 300, 1000, 2500, 60_000, 86_400_000])
_MAYBE_SPANS = st.one_of(st.none(), _SPANS)
_COUNTS = st.integers(1, 4)
_KEYS = st.sampled_from([b"k", b"k1", b"l", b"k\0"])
_REVS = st.sampled_from([None, None, None, None, 0, 1, 2, 3])
_FEW = st.one_of(st.none(), st.integers(1, 3))

_FIELDS: Final[dict[str, Any]] = {
    # What is named by number.
    "lease": PICKS,
    "session": PICKS,
    "token": PICKS,
    "epoch": PICKS,
    "job": PICKS,
    "RedriveJobs.jobs": st.lists(PICKS, max_size=2).map(tuple),
    "PutKey.lease": st.sampled_from([NOBODY, NOBODY, NOBODY, 0, 1]),
    "IncrementKey.lease": st.sampled_from([NOBODY, NOBODY, NOBODY, 0, 1]),
    "if_mod_rev": _REVS,
    "revision": st.integers(1, 5),
    "number": st.integers(0, 4),
    "by": st.integers(-3, 3),
    # What is named by text.
    "name": _NAMES,
    "queue": _NAMES,
    "claimant": st.sampled_from("abc"),
    "worker": st.just("w"),
    "to": st.sampled_from("abc"),
    "client_id": st.sampled_from(["", "", "c", "d"]),
    "group": st.sampled_from(["", "", "g", "h"]),
    "type": st.sampled_from(["", "", "t"]),
    "content_type": st.just(""),
    "error": st.sampled_from(["", "why"]),
    "key_hash": st.sampled_from([b"1" * 16, b"2" * 16, b"3" * 16]),
    "key": _KEYS,
    "UniqueSpec.key": st.sampled_from("uv"),
    "start": _KEYS,
    "end": st.one_of(_KEYS, st.just(b"")),
    "value": st.sampled_from([b"", b"1", b"-7", b"text"]),
    "payload": st.sampled_from([b"", b"p" * 30]),
    "result": st.sampled_from([b"", b"r" * 9]),
    # Spans and counts, all of them allowed.
    "ttl_ms": st.sampled_from([1000, 4000, 80_000_000]),
    "wait_ms": _MAYBE_SPANS,
    "delay_ms": st.sampled_from([0, 0, 500]),
    "JobSpec.delay_ms": st.sampled_from([None, None, 0, 700]),
    "run_at_ms": st.none(),
    "deadline_ms": st.sampled_from([None, None, 900, 5000]),
    "reservation_ms": st.sampled_from([None, None, 700, 5000]),
    "max_runtime_ms": st.sampled_from([None, None, 4000]),
    "for_ms": _SPANS,
    "retry_in_ms": _MAYBE_SPANS,
    "window_ms": st.sampled_from([500, 3000]),
    "limit": _COUNTS,
    "group_limit": st.integers(1, 2),
    "jobs_max": _COUNTS,
    "bytes_max": st.just(1 << 20),
    "priority": st.integers(0, 9),
    "meta": st.just({}),
    "after": st.lists(PICKS, max_size=2).map(tuple),
    "depth_max": st.one_of(st.none(), st.integers(1, 9)),
    "max_attempts": _FEW,
    "max_crashes": _FEW,
    "backoff_base_ms": _MAYBE_SPANS,
    "backoff_cap_ms": _MAYBE_SPANS,
    "backoff_jitter": st.one_of(st.none(), st.integers(0, 100)),
    "grace_ms": st.sampled_from([None, 0, 600]),
    "concurrency_max": st.sampled_from([None, 0, 1, 2]),
    "done_retention_ms": st.sampled_from([None, 0, 2000]),
    "dead_retention_ms": st.sampled_from([None, 0, 2000]),
    "progress": st.one_of(st.none(), st.integers(0, 1000)),
    "states": st.lists(st.sampled_from(JobState), min_size=1, max_size=4).map(tuple),
    "ReserveJobs.queues": st.lists(
        st.tuples(_NAMES, _COUNTS), min_size=1, max_size=2, unique_by=itemgetter(0)
    ).map(tuple),
    "types": st.sampled_from([(), (), ("t",)]),
    "compares": st.just(()),
}
_TYPES = [
    info.cls
    for info in msgspec.inspect.type_info(AnyCommand).types  # type: ignore[attr-defined]  # the info of a union
    if info.cls is not MarkEntry
]
_SENSIBLE: Final = {cls: values_of(cls, _FIELDS, items_max=3) for cls in _TYPES}
_WILD: Final = {cls: fields_of(cls) for cls in _TYPES}
# What makes the others possible comes more often.
_DRAWN: Final = [
    *_TYPES,
    *[GrantLease, OpenSession, AcquireLock, Campaign] * 2,
    *[EnqueueJobs, ReserveJobs] * 4,
    *[CompleteJob, FailJob, PutKey, Transact] * 2,
]


@st.composite
def _commands(draw: st.DrawFn) -> Any:
    cls = draw(st.sampled_from(_DRAWN))
    command = draw(_SENSIBLE[cls])
    if draw(st.integers(0, 4)) == 4:
        name, values = draw(st.sampled_from(list(_WILD[cls].items())))
        command = msgspec.structs.replace(command, **{name: draw(values)})
    return command


COMMANDS: Final[st.SearchStrategy[Any]] = _commands()
"""Sensible commands; in one of five a field is anything at all."""

FENCES: Final[st.SearchStrategy[tuple[Fence, ...]]] = st.one_of(
    st.just(()),
    st.just(()),
    st.just(()),
    st.lists(values_of(Fence, _FIELDS), min_size=1, max_size=2).map(tuple),
)

_LEASES = frozenset({"lease", "session"})
_REVISIONS = frozenset({"if_mod_rev", "revision", "number"})


class Known:
    """The newest of each kind of thing that was made."""

    def __init__(self) -> None:
        self.leases: list[int] = [1]
        self.jobs: Final[deque[int]] = deque([1], 6)
        self.reservations: Final[deque[tuple[int, int]]] = deque([(1, 1)], 6)
        self.claims: Final[deque[tuple[str, int]]] = deque([("n", 1)], 6)
        self.revision = 0

    def learn(self, machine: Machine, applied: AppliedEntry) -> None:
        """Take up what an entry made."""
        self.revision = machine.revision
        gone = [lease for lease in self.leases if not machine.leases.is_alive(lease)]
        self.leases = machine.leases.ids()[:-6:-1] + gone[:1]
        ends = [decision.answer for decision in applied.decided]
        for answer in (*applied.answers, *ends):
            match answer:
                case LockGranted(token=token):
                    self._learn(machine.locks.name_of(token), token)
                case CampaignWon(epoch=token):
                    self._learn(machine.elections.name_of(token), token)
                case JobsEnqueued(ids=ids):
                    self.jobs.extendleft(ids)
                case JobsReserved(jobs=jobs):
                    self.reservations.extendleft((job.id, job.token) for job in jobs)
                case _:
                    pass

    def _learn(self, name: str | None, token: int) -> None:
        if name is not None:
            self.claims.appendleft((name, token))

    def resolve(self, value: Any) -> Any:
        """Return a command with what exists in the place of small numbers."""
        match value:
            case msgspec.Struct():
                changed = {
                    name: self._resolve_field(name, getattr(value, name))
                    for name in value.__struct_fields__
                }
                changed |= self._resolve_pair(value)
                return msgspec.structs.replace(value, **changed)
            case tuple():
                return tuple(map(self.resolve, value))
            case _:
                return value

    def _resolve_pair(self, value: Any) -> dict[str, Any]:
        """Return a token and what it belongs to, as one."""
        match value:
            case Fence(kind=FenceKind.LEASE, token=pick):
                return {"token": _pick(self.leases, pick)}
            case _ if hasattr(value, "job") and hasattr(value, "token"):
                if 0 <= value.token < NOBODY:
                    job, token = _pick(self.reservations, value.token)
                    return {"job": job, "token": token}
            case _ if hasattr(value, "name") and hasattr(value, "token"):
                if 0 <= value.token < NOBODY:
                    name, token = _pick(self.claims, value.token)
                    return {"name": name, "token": token}
            case _ if hasattr(value, "name") and hasattr(value, "epoch"):
                if 0 <= value.epoch < NOBODY:
                    name, token = _pick(self.claims, value.epoch)
                    return {"name": name, "epoch": token}
            case _:
                pass
        return {}

    def _resolve_field(self, name: str, value: Any) -> Any:
        match name, value:
            case "after" | "jobs", tuple():
                return tuple(
                    _pick(self.jobs, each)
                    if isinstance(each, int)
                    else self.resolve(each)
                    for each in value
                )
            case "job", int():
                return _pick(self.jobs, value)
            case _, bool():
                return value
            case _, int() if name in _LEASES and value == NOBODY:
                return 0
            case _, int() if name in _LEASES:
                return _pick(self.leases, value)
            case _, int() if name in _REVISIONS and 0 < value < 6:
                return max(0, self.revision - value)
            case _:
                return self.resolve(value)


def _pick(known: Sequence[Any], value: int) -> Any:
    return known[value % len(known)] if 0 <= value < NOBODY else value
