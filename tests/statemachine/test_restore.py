"""Another life for a state: claims end, jobs are not charged, nothing old is new."""

import random
from collections.abc import Sequence

import pytest

from raftd.statemachine.machine import Machine
from raftd.statemachine.restore import REVISIONS_SKIPPED, Restoring
from raftd.statemachine.rows import Row
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.elections import Campaign
from raftd.statemachine.schema.jobs import CancelJob, ExtendJob, JobSpec, JobState
from raftd.statemachine.schema.kv import KeyPut, PutKey
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.locks import AcquireLock, LockGranted, LockMode
from raftd.statemachine.tables import Table
from tests.statemachine.harness import Harness, refusal
from tests.statemachine.queues_harness import Q, QueueHarness
from tests.statemachine.random_log import LIMITS, random_log


def _rows(harness: Harness) -> list[Row]:
    return [(table, key, value) for (table, key), value in harness.disk.items()]


def _restore(rows: Sequence[Row], index: int) -> tuple[list[Row], bytes]:
    restoring = Restoring(LIMITS, rows, index=index, digest=b"d" * 32)
    digest = restoring.finish()
    return list(restoring.rows()), digest


def _next_life(old: QueueHarness) -> QueueHarness:
    """Save a harness's state, restore it, and go on as another cluster would."""
    old.save()
    limits = old.machine.context.limits
    index = old.machine.applied_index
    restoring = Restoring(limits, _rows(old), index=index, digest=b"")
    digest = restoring.finish()
    rows = list(restoring.rows())
    machine = Machine.load(limits, rows, index=index, digest=digest)
    new = QueueHarness(machine=machine)
    new.now_ms, new.wall_ms = old.now_ms, old.wall_ms
    new.disk = {(t, key): value for t, key, value in rows if value is not None}
    machine.queues.audit()
    return new


# --- the whole state ---------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_only_what_hangs_on_no_lease_is_left_and_reads_the_same(seed: int) -> None:
    old = Harness(LIMITS)
    for payload, is_mark in random_log(seed, 250):
        old.apply(payload)
        if is_mark:
            old.write(old.machine.take_checkpoint())
    old.save()
    index = old.machine.applied_index
    rows, digest = _restore(_rows(old), index)
    new = Machine.load(LIMITS, rows, index=index, digest=digest)
    present = old.machine.kv.range(b"", b"", 1000)
    assert not isinstance(present, Refusal)
    lasting = [item for item in present.items if not item.lease]
    assert lasting or not present.items
    found = new.kv.range(b"", b"", 1000)
    assert not isinstance(found, Refusal)
    assert found.items == lasting
    assert new.revision > old.machine.revision + REVISIONS_SKIPPED
    assert new.kv.compacted_rev == new.revision
    assert new.leases.count() == 0
    assert new.sessions.closed_count() == 0
    assert new.context.now_ms == old.machine.context.now_ms
    assert new.context.timers.lease.peek() is None
    assert all(value is not None for _, _, value in rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_result_depends_on_the_state_alone(seed: int) -> None:
    old = Harness(LIMITS)
    for payload, is_mark in random_log(seed, 200):
        old.apply(payload)
        if is_mark:
            old.write(old.machine.take_checkpoint())
    old.save()
    rows = _rows(old)
    index = old.machine.applied_index
    first = _restore(rows, index)
    random.Random(seed).shuffle(rows)
    stale = [(table, key, b"overwritten later") for table, key, _ in rows[::3]]
    gone: list[Row] = [(Table.LOCKS, b"once", b"there"), (Table.LOCKS, b"once", None)]
    assert _restore([*stale, *gone, *rows], index) == first
    assert first[0] == sorted(first[0])
    kept = [row for row in rows if row[0] != Table.META]
    if len(kept) > 1:
        assert _restore(rows, index + 1)[1] != first[1], "the index counts too"


def test_a_restored_state_restores_again_with_only_the_counter_moved_on() -> None:
    old = QueueHarness()
    old.do(PutKey(b"a", b"1"))
    old.add(delay_ms=5000)
    once = _next_life(old)
    twice = _next_life(once)
    changed = {key for key in once.disk if once.disk[key] != twice.disk.get(key)}
    assert {table for table, _ in changed} == {Table.META, Table.HISTORY}
    assert once.disk.keys() == twice.disk.keys()
    assert twice.machine.revision > 2 * REVISIONS_SKIPPED


def test_entries_of_the_log_are_applied_before_the_old_life_ends() -> None:
    old = Harness(LIMITS)
    saved: list[Row] = []
    saved_at = 0
    tail: list[bytes] = []
    for number, (payload, is_mark) in enumerate(random_log(3, 200)):
        old.apply(payload)
        tail.append(payload)
        if is_mark:
            old.write(old.machine.take_checkpoint())
            if number < 100:
                saved, saved_at = _rows(old), old.machine.applied_index
                tail = []
    assert saved
    assert tail
    restoring = Restoring(LIMITS, saved, index=saved_at, digest=b"")
    for index, payload in enumerate(tail, saved_at + 1):
        restoring.apply(index, payload)
    assert restoring.index == old.machine.applied_index
    assert restoring.revision == old.machine.revision
    restoring.finish()
    # A mark of its own, as rows are stored at marks only; it changes nothing else.
    before = old.machine.applied_index
    old.save()
    direct, _ = _restore(_rows(old), before + 1)
    assert list(restoring.rows()) == direct
    assert list(restoring.rows()) == direct, "asked again, the same"


# --- claims ------------------------------------------------------------------------


def test_ephemeral_keys_go_and_old_revisions_are_compacted() -> None:
    old = QueueHarness()
    lease = old.grant()
    old.do(PutKey(b"mine", b"1", lease))
    put = old.do(PutKey(b"ours", b"1"))
    assert isinstance(put, KeyPut)
    old.do(PutKey(b"ours", b"2"))
    new = _next_life(old)
    assert new.value(b"mine") is None
    assert new.value(b"ours") == b"2"
    found = new.machine.kv.get(b"ours", put.mod_rev)
    assert refusal(found) is Reason.COMPACTED
    history = new.machine.history.read(old.machine.revision + 1, 10)
    assert refusal(history) is Reason.COMPACTED
    assert new.machine.history.read(new.machine.revision + 1, 10) == []
    later = new.do(PutKey(b"ours", b"3"))
    assert isinstance(later, KeyPut)
    assert later.mod_rev > REVISIONS_SKIPPED


def test_locks_are_free_at_once_even_those_that_a_delay_kept_closed() -> None:
    old = QueueHarness()
    lease, other, lost = old.grant(), old.grant(), old.grant()
    delayed = AcquireLock("l", lease, "a", LockMode.EXCLUSIVE, 1, 0, 60_000)
    token = old.do(delayed)
    assert isinstance(token, LockGranted)
    old.do(AcquireLock("l", other, "b", LockMode.EXCLUSIVE, 1, None, 0))
    old.do(AcquireLock("closed", lost, "a", LockMode.EXCLUSIVE, 1, 0, 60_000))
    old.do(RevokeLease(lost))
    old.do(Campaign("e", lease, "a", b"v", 0))
    old.do(Campaign("e", other, "b", b"v", None))
    view = old.machine.locks.inspect("closed")
    assert view is not None
    assert view.closed_until_ms
    new = _next_life(old)
    assert new.machine.locks.names() == []
    assert new.machine.elections.names() == []
    mine = new.grant()
    for name in ("l", "closed"):
        again = new.do(AcquireLock(name, mine, "c", LockMode.EXCLUSIVE, 1, 0, 0))
        assert isinstance(again, LockGranted)
        assert again.token > token.token + REVISIONS_SKIPPED


def test_a_number_of_an_old_session_is_neither_answered_nor_applied() -> None:
    old = QueueHarness()
    live = old.open(b"a" * 16)
    closed = old.open(b"b" * 16, ttl_ms=1000)
    for session in (live, closed):
        assert isinstance(old.send(session, 1, PutKey(b"k", b"1")), KeyPut)
    old.entry(renewals=(live,), after_ms=5000)
    assert old.machine.sessions.is_closed(closed)
    new = _next_life(old)
    for session in (live, closed):
        for number in (1, 2):
            answer = new.send(session, number, PutKey(b"k", b"2"))
            assert refusal(answer) is Reason.SESSION_UNKNOWN
    assert new.value(b"k") == b"1"
    assert new.open(b"a" * 16) > live + REVISIONS_SKIPPED


# --- jobs --------------------------------------------------------------------------


def test_reservations_come_back_uncharged_with_what_the_worker_saved() -> None:
    old = QueueHarness()
    old.configure(max_crashes=2)
    waiting, started, fresh = old.add(), old.add(), old.add()
    for job in (old.take(), old.take(), old.take()):
        if job.id == started:
            old.do(ExtendJob(job.id, job.token))
        if job.id == waiting:
            old.fail(job, retry_in_ms=0)
    before = {job: old.machine.queues.get(job) for job in (waiting, started, fresh)}
    new = _next_life(old)
    for number, was in before.items():
        found = new.machine.queues.get(number)
        assert found is not None
        assert was is not None
        assert found.state is JobState.READY
        assert (found.attempt, found.crashes) == (was.attempt, was.crashes)
        assert found.delivery == was.delivery
        assert found.lease == found.reserved_until_ms == 0
    new.session = new.open()
    token = new.take().token
    assert token > REVISIONS_SKIPPED


def test_a_job_in_its_grace_and_one_to_be_cancelled_end_their_reservations() -> None:
    old = QueueHarness()
    old.configure(grace_ms=60_000)
    graced, cancelled = old.add(), old.add()
    lost = old.open(b"w" * 16)
    job = old.take(lease=lost)
    old.do(ExtendJob(job.id, job.token))
    old.take()
    old.do(RevokeLease(lost))
    old.do(CancelJob(cancelled))
    view = old.machine.queues.get(graced)
    assert view is not None
    assert (view.state, view.lease) == (JobState.RESERVED, 0)
    new = _next_life(old)
    found = new.machine.queues.get(graced)
    assert found is not None
    assert (found.state, found.crashes) == (JobState.READY, 0)
    ended = new.machine.queues.get(cancelled)
    assert ended is not None
    assert ended.state is JobState.CANCELLED


def test_groups_and_timers_go_on_where_they_were() -> None:
    old = QueueHarness()
    first = old.add(group="g")
    second = old.add(group="g")
    later = old.add(delay_ms=5000)
    old.take()
    new = _next_life(old)
    assert new.machine.next_due_ms == old.now_ms + 5000
    states = {job: new.machine.queues.get(job) for job in (first, second, later)}
    assert [view.state for view in states.values() if view] == [
        JobState.READY,
        JobState.BLOCKED,
        JobState.SCHEDULED,
    ]
    new.session = new.open()
    new.entry(after_ms=5000)
    view = new.machine.queues.get(later)
    assert view is not None
    assert view.state is JobState.READY
    new.enqueue(JobSpec(Q, b"more"))
