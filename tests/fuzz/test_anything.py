"""Any command a codec can carry, against the machine: refused with a code, or done.

Proved: apply never fails; a refusal is one of the error table and changes no row; the
indexes agree with the records; sizes are counted to the byte, so an emptied state
weighs nothing; a machine loaded from checkpoints goes on as if it had never stopped,
and the log applied again from the start gives the same rows and digests.

Source: DESIGN.md section 5; RELIABILITY.md section 6 invariant 9.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from raftd.statemachine.answers import AppliedEntry, Pending
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Command, Fence, Reason, Refusal, Result
from raftd.statemachine.schema.elections import Campaign
from raftd.statemachine.schema.entry import (
    decode_answer,
    encode_answer,
    encode_batch,
    seal,
)
from raftd.statemachine.schema.jobs import EnqueueJobs, JobSpec, ReserveJobs
from raftd.statemachine.schema.kv import CompactHistory, DeleteRange
from raftd.statemachine.schema.leases import GrantLease
from raftd.statemachine.schema.locks import AcquireLock, BreakLock
from raftd.statemachine.schema.queues import DeleteQueue
from raftd.statemachine.schema.sessions import OpenSession
from raftd.statemachine.tables import Table
from tests.fuzz.commands import COMMANDS, FENCES, PICKS, Known
from tests.fuzz.profiles import FuzzMachine, case_of
from tests.fuzz.replay import check_replay, restarted
from tests.statemachine.harness import Harness

SMALL: Final = Limits(
    name_bytes_max=40,
    key_bytes_max=16,
    value_bytes_max=64,
    txn_ops_max=5,
    lease_attachments_max=4,
    range_delete_keys_max=4,
    waiters_max=3,
    claimant_waits_max=2,
    holders_max=3,
    promotions_max=2,
    work_rows_max=3,
    state_bytes_max=9000,
    leases_max=5,
    queues_max=3,
    enqueue_jobs_max=3,
    job_meta_bytes_max=30,
    job_parents_max=2,
    job_error_bytes_max=8,
    job_result_bytes_max=8,
    group_limit_max=3,
    reserve_jobs_max=3,
    done_kept_max=2,
    dead_kept_max=2,
    client_ids_max=2,
    client_id_ms=4000,
    window_answers_max=4,
    window_bytes_max=400,
    dedup_ms=5000,
    history_revisions_min=20,
    history_ms_max=3000,
)
LIMITS: Final = {
    "default": DEFAULT_LIMITS,
    "small": SMALL,
    "small but roomy": dataclasses.replace(SMALL, state_bytes_max=1 << 30),
}
# Whom only a door or a core may say, never the machine.
NOT_OF_THE_MACHINE: Final = frozenset(
    {
        Reason.NOT_LEADER,
        Reason.NO_LEADER,
        Reason.SHUTTING_DOWN,
        Reason.OVERLOADED,
        Reason.LEADERSHIP_LOST,
        Reason.DEADLINE,
        Reason.UNAUTHENTICATED,
        Reason.DENIED,
        Reason.DISK_FULL,
        Reason.CORRUPT,
        Reason.DIVERGED,
        Reason.INTERNAL,
    }
)
DAY_MS: Final = 86_400_000
Said = tuple[int, int, int, Any, tuple[Fence, ...]]
"""Session, number, acknowledged, command, fences."""


class Anything(FuzzMachine):
    """One machine, told whatever the wire can carry."""

    @initialize(limits=st.sampled_from(list(LIMITS)))
    def begin(self, limits: str) -> None:
        self.limits = LIMITS[limits]
        self.known = Known()
        self.harness = Harness(self.limits, Machine(self.limits))
        self.payloads = self.harness.payloads
        self.numbers: dict[int, int] = {}
        for command in (
            OpenSession(b"1" * 16, DAY_MS, "first"),
            GrantLease(DAY_MS, "second"),
            EnqueueJobs((JobSpec("n", b""), JobSpec("m", b""))),
            ReserveJobs(0, (("n", 1),), "w"),
            AcquireLock("n", 0, "a"),
            Campaign("n", 0, "a", b""),
        ):
            self.apply([(0, 0, 0, command, ())])

    # --- rules ---------------------------------------------------------------------

    @rule(command=COMMANDS, fences=FENCES)
    def say(self, command: Command, fences: tuple[Fence, ...]) -> None:
        """One command in one entry; if it is refused, nothing has changed."""
        self.settle()
        before = self.harness.save()
        revision, size = self.harness.machine.revision, self.size_bytes
        applied = self.apply([(0, 0, 0, command, fences)])
        if isinstance(applied.answers[0], Refusal):
            assert self.harness.machine.revision == revision
            assert self.size_bytes == size
            assert applied.record is None
            assert not applied.decided
            assert not applied.closed
            assert self.harness.save() == before

    @rule(commands=st.lists(COMMANDS, min_size=2, max_size=8))
    def say_much(self, commands: list[Command]) -> None:
        self.apply([(0, 0, 0, command, ()) for command in commands])

    @rule(command=COMMANDS, pick=PICKS, ahead=st.integers(-2, 3), behind=PICKS)
    def say_numbered(
        self, command: Command, pick: int, ahead: int, behind: int
    ) -> None:
        session = self.known.leases[pick % len(self.known.leases)]
        number = max(0, self.numbers.get(session, 0) + ahead)
        self.numbers[session] = max(number, self.numbers.get(session, 0))
        self.apply([(session, number, max(0, number - behind), command, ())])

    @rule(after_ms=st.sampled_from([0, 1, 400, 1100, 6000, 90_000]), renewed=PICKS)
    def time_passes(self, after_ms: int, renewed: int) -> None:
        self.harness.now_ms += after_ms
        self.harness.wall_ms += after_ms
        self.apply([], tuple(self.known.leases)[:renewed])

    @rule(stamp=st.integers(0, 1 << 50), renewals=st.lists(st.integers(0, 99)))
    def stamps_fall(self, stamp: int, renewals: list[int]) -> None:
        """Times before those of the log stand still; unknown leases do not matter."""
        now_ms = min(stamp, self.harness.now_ms)
        applied = self.take(encode_batch(now_ms, now_ms, tuple(renewals), []))
        assert not set(applied.lost).intersection(self.harness.machine.leases.ids())

    @rule()
    def restart(self) -> None:
        self.harness = restarted(self.harness, self.limits)

    @precondition(lambda self: self.harness.machine.has_backlog)
    @rule()
    def work_on(self) -> None:
        self.apply([])

    # --- what must hold ------------------------------------------------------------

    @invariant()
    def indexes_agree(self) -> None:
        if not hasattr(self, "harness"):
            return
        self.harness.machine.queues.audit()
        assert self.size_bytes >= 0

    def teardown(self) -> None:
        """Take everything away, then apply the whole log once more."""
        if not hasattr(self, "harness"):
            return
        restarted(self.harness, self.limits)
        self.empty()
        disk = self.harness.save()
        assert {table for table, _ in disk} <= {Table.META, Table.HISTORY}
        assert self.size_bytes == 0
        check_replay(self.harness, self.limits)

    # --- helpers -------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        return self.harness.machine.context.size_bytes

    def apply(
        self,
        said: list[Said],
        renewals: tuple[int, ...] = (),
    ) -> AppliedEntry:
        resolve = self.known.resolve
        requests = [
            seal(session, number, acknowledged, resolve(command), resolve(fences))
            for session, number, acknowledged, command, fences in said
        ]
        harness = self.harness
        applied = self.take(
            encode_batch(harness.now_ms, harness.wall_ms, renewals, requests)
        )
        self.known.learn(harness.machine, applied)
        return applied

    def take(self, payload: bytes) -> AppliedEntry:
        applied = self.harness.apply(payload)
        ends = [decision.answer for decision in applied.decided]
        for answer in (*applied.answers, *ends):
            if isinstance(answer, Refusal):
                assert answer.reason not in NOT_OF_THE_MACHINE, answer
                assert answer.sentence
                assert not answer.sentence.endswith(".")
            assert isinstance(answer, Result | Refusal | Pending)
            if not isinstance(answer, Pending):
                assert decode_answer(encode_answer(answer)) == answer
        return applied

    def settle(self) -> None:
        for _ in range(3000):
            if not self.harness.machine.has_backlog:
                return
            self.apply([])
        raise AssertionError("the backlog does not end")

    def empty(self) -> None:
        """Let all claims end, delete all that stays, and let all memory fade."""
        machine = self.harness.machine
        for _ in range(2):
            self.harness.now_ms += 400 * DAY_MS
            self.harness.wall_ms += 1 << 51
            self.apply([])
            self.settle()
        for command in [
            *(BreakLock(name) for name in machine.locks.names()),
            *(
                DeleteQueue(name, is_forced=True)
                for name in machine.queues.list_queues()
            ),
        ]:
            self.apply([(0, 0, 0, command, ())])
            self.settle()
        while machine.kv.count_all:
            last = machine.kv.range(b"", b"", 3)
            assert not isinstance(last, Refusal)
            self.apply([(0, 0, 0, DeleteRange(b"", last.items[-1].key + b"\0"), ())])
        self.harness.now_ms += 400 * DAY_MS
        self.apply([])
        self.settle()
        self.take(
            encode_batch(
                self.harness.now_ms,
                self.harness.wall_ms,
                (),
                [seal(0, 0, 0, CompactHistory(machine.revision))],
            )
        )
        self.settle()


TestAnything = case_of(Anything, 120, 30)
