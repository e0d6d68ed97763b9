"""Proves that counts and indexes say what the records say; for tests and simulations.

Source: SEMANTICS.md section 6; the rules of ``table``, ``groups`` and ``family``.
"""

from collections import Counter

from raftd.statemachine.queues.family import Family
from raftd.statemachine.queues.groups import Groups, group_key
from raftd.statemachine.queues.jobs import Job, is_final, order_of, size_of
from raftd.statemachine.queues.queue import Queue, kept_key
from raftd.statemachine.queues.ready import ReadyJobs
from raftd.statemachine.queues.table import JobTable
from raftd.statemachine.schema.jobs import JobState

__all__ = ["audit_jobs", "jobs_bytes"]


def audit_jobs(table: JobTable, family: Family) -> None:
    """Look at everything.

    Raises:
        AssertionError: An index and the records differ.
    """
    by_queue: dict[str, list[Job]] = {name: [] for name in table.queues}
    for number, job in sorted(table.jobs.items()):
        assert number == job.id
        by_queue[job.queue].append(job)
        _audit_job(job)
    for name, jobs in by_queue.items():
        _audit_queue(table.queues[name], jobs)
    jobs = list(table.jobs.values())
    reserved = {job.token: job.id for job in jobs if job.state is JobState.RESERVED}
    assert table.by_token == reserved
    named = {job.client_id: job.id for job in jobs if job.client_id}
    assert table.by_client_id == named
    for job in jobs:
        for parent in job.waits_for:
            assert family.has_children(parent), f"job {job.id} waits for {parent}"
    _audit_groups(table.groups, jobs)


def jobs_bytes(table: JobTable) -> int:
    """Return what all jobs together count against ``state_bytes_max``."""
    return sum(size_of(job) for job in table.jobs.values())


def _audit_job(job: Job) -> None:
    state = job.state
    assert (job.held is not None) == (state is JobState.RESERVED), job
    assert (job.outcome is not None) == is_final(state), job
    assert not job.waits_for or state in {JobState.SCHEDULED, JobState.BLOCKED}, job
    assert state is not JobState.RESERVED or job.token, job
    if state is JobState.BLOCKED:
        assert job.waits_for or job.group, f"nothing blocks job {job.id}"


def _audit_queue(queue: Queue, jobs: list[Job]) -> None:
    counts = Counter(job.state for job in jobs)
    for state in JobState:
        assert queue.counts[state] == counts[state], f"{queue.name}: {state.name}"
    assert list(queue.ids) == [job.id for job in jobs]
    done = [kept_key(job) for job in jobs if job.state is JobState.DONE]
    assert list(queue.done) == sorted(done)
    dead = [
        kept_key(job)
        for job in jobs
        if is_final(job.state) and job.state is not JobState.DONE
    ]
    assert list(queue.dead) == sorted(dead)
    ready = [job for job in jobs if job.state is JobState.READY]
    _audit_ready(queue.ready, ready)


def _audit_ready(index: ReadyJobs, ready: list[Job]) -> None:
    assert len(index) == len(ready)
    orders = sorted(order_of(job) for job in ready)
    assert index.first() == (orders[0] if orders else None)
    assert index.oldest() == min((job.id for job in ready), default=None)
    for type_ in {job.type: None for job in ready}:
        first = min(order_of(job) for job in ready if job.type == type_)
        assert index.first((type_,)) == first


def _audit_groups(groups: Groups, jobs: list[Job]) -> None:
    members: dict[str, list[Job]] = {}
    for job in jobs:
        if job.group and not is_final(job.state):
            members.setdefault(group_key(job), []).append(job)
    for key, group in members.items():
        in_order = sorted(job.id for job in group)
        assert groups.members(key) == in_order, key
        opened, closed = groups.misplaced(key)
        assert not opened, f"{[job.id for job in opened]} should be ready"
        assert not closed, f"{[job.id for job in closed]} should be blocked"
