"""Watches of one job or of a whole queue: their transitions.

Rules: the watch of one job begins with its state now, or at a revision; that of a queue
has no beginning list, as a queue can be long: after a RESYNC the client lists anew.

Source: SEMANTICS.md section 6 (Queries).
"""

from __future__ import annotations

from raftd.api.calls import WatchPlan
from raftd.api.checks import invalid
from raftd.api.job_messages import state_of
from raftd.api.limits import DoorLimits
from raftd.api.resync import ResyncJoiner
from raftd.node.service import WatchSpec
from raftd.node.watch_index import Subject
from raftd.statemachine.events import Event, JobEvent
from raftd.statemachine.machine import Machine
from raftd.statemachine.refusals import check_name
from raftd.statemachine.schema.base import Refusal
from raftpb.v1 import queues_pb2

__all__ = ["plan_watch"]


def plan_watch(
    request: queues_pb2.WatchJobsRequest, *, limits: DoorLimits
) -> WatchPlan | Refusal:
    """Translate a watch."""
    queue, job, from_rev = request.queue, request.job_id, request.from_rev
    if bool(queue) == bool(job):
        return invalid("a watch is of one job or of one queue, not of both")
    if queue:
        refusal = check_name("queue", queue, limits.apply.name_bytes_max)
        if refusal is not None:
            return refusal

    def keep(event: Event) -> bool:
        if type(event) is not JobEvent:
            return False
        return event.job == job if job else event.queue == queue

    def snapshot(machine: Machine) -> list[queues_pb2.JobEvent]:
        return [_present(machine, job)] if job else []

    spec = WatchSpec(
        keep=keep,
        about=(Subject.JOB, job) if job else (Subject.QUEUE, queue),
        from_rev=from_rev,
        wants_initial=bool(job) and not from_rev,
        snapshot=snapshot,
        prepare=_to_event,
    )
    return WatchPlan(spec, ResyncJoiner(queues_pb2.WatchJobsResponse).to_messages)


def _present(machine: Machine, job_id: int) -> queues_pb2.JobEvent:
    message = queues_pb2.JobEvent(revision=machine.revision, job_id=job_id)
    job = machine.modules.queues.get(job_id)
    if job is not None:
        message.queue = job.queue
        message.state = state_of(job.state)
        message.client_id = job.client_id
    return message


def _to_event(machine: Machine, event: Event) -> queues_pb2.JobEvent:
    assert isinstance(event, JobEvent)
    job = machine.modules.queues.get(event.job)
    return queues_pb2.JobEvent(
        revision=event.rev,
        queue=event.queue,
        job_id=event.job,
        state=state_of(event.state),
        previous_state=state_of(event.previous),
        client_id=job.client_id if job is not None else "",
    )
