"""Queues at the doors: settings, verbs of operators, counts.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Query, Read, Write, fill_nothing
from raftd.api.checks import check_text, enums_of, invalid, optional_of, page_items
from raftd.api.job_messages import fill_queue
from raftd.api.job_specs import backoff_of
from raftd.api.limits import DoorLimits
from raftd.statemachine.claim_checks import check_range
from raftd.statemachine.machine import Machine
from raftd.statemachine.refusals import check_name, too_large
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.queues import (
    ConfigureQueue,
    DeleteQueue,
    JobsRedriven,
    PauseQueue,
    PurgeQueue,
    QueueDeleted,
    QueueOptions,
    QueuePurged,
    RedriveJobs,
)
from raftpb.v1 import queues_pb2

__all__ = ["QueueCalls"]

_REDRIVE_JOBS_DEFAULT: Final = 1000
_WAITING: Final = (JobState.SCHEDULED, JobState.READY, JobState.BLOCKED)


class QueueCalls:
    """The calls of QueueService about whole queues."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (
            Write("configure_queue", self._configure, fill_nothing),
            Write("pause_queue", self._pause, fill_nothing),
            Write("resume_queue", self._resume, fill_nothing),
            Write("purge_queue", self._purge, _fill_gone),
            Write("delete_queue", self._delete, _fill_gone),
            Write("redrive_jobs", self._redrive, _fill_redriven),
            Read("get_queue", self._get),
            Read("list_queues", self._list),
        )

    # --- writes ------------------------------------------------------------------

    def _configure(
        self, request: queues_pb2.ConfigureQueueRequest, session: int
    ) -> ConfigureQueue | Refusal:
        options = _options_of(request.options)
        if isinstance(options, Refusal):
            return options
        return self._check_name(request.queue) or ConfigureQueue(request.queue, options)

    def _pause(
        self, request: queues_pb2.PauseQueueRequest, session: int
    ) -> PauseQueue | Refusal:
        name = request.queue
        return self._check_name(name) or PauseQueue(name, is_paused=True)

    def _resume(
        self, request: queues_pb2.ResumeQueueRequest, session: int
    ) -> PauseQueue | Refusal:
        name = request.queue
        return self._check_name(name) or PauseQueue(name, is_paused=False)

    def _purge(
        self, request: queues_pb2.PurgeQueueRequest, session: int
    ) -> PurgeQueue | Refusal:
        states = enums_of(JobState, request.states)
        if isinstance(states, Refusal):
            return states
        if JobState.RESERVED in states:
            return invalid("a purge leaves reserved jobs alone")
        name = request.queue
        return self._check_name(name) or PurgeQueue(name, states or _WAITING)

    def _delete(
        self, request: queues_pb2.DeleteQueueRequest, session: int
    ) -> DeleteQueue | Refusal:
        name = request.queue
        return self._check_name(name) or DeleteQueue(name, request.force)

    def _redrive(
        self, request: queues_pb2.RedriveJobsRequest, session: int
    ) -> RedriveJobs | Refusal:
        states = enums_of(JobState, request.states)
        if isinstance(states, Refusal):
            return states
        jobs_max = request.jobs_max or _REDRIVE_JOBS_DEFAULT
        limit = self._limits.apply.redrive_jobs_max
        refusal = (
            self._check_name(request.queue)
            or check_text("the type", request.type, self._limits)
            or check_range("jobs_max", jobs_max, 1, limit)
        )
        if refusal is not None:
            return refusal
        if len(request.job_ids) > limit:
            return too_large(
                "the number of job ids",
                len(request.job_ids),
                "redrive_jobs_max",
                limit,
            )
        return RedriveJobs(
            request.queue,
            states or (JobState.DEAD,),
            tuple(request.job_ids),
            request.type,
            jobs_max,
            request.force,
        )

    def _check_name(self, name: str) -> Refusal | None:
        return check_name("queue", name, self._limits.apply.name_bytes_max)

    # --- reads -------------------------------------------------------------------

    def _get(self, request: queues_pb2.GetQueueRequest) -> Query | Refusal:
        name = request.queue
        refusal = self._check_name(name)
        if refusal is not None:
            return refusal

        def query(machine: Machine) -> queues_pb2.GetQueueResponse | Refusal:
            response = queues_pb2.GetQueueResponse()
            if not _fill_found(response.queue, machine, name):
                return Refusal(Reason.NOT_FOUND, f'there is no queue "{name}"')
            return response

        return query

    def _list(self, request: queues_pb2.ListQueuesRequest) -> Query:
        prefix, after = request.prefix, request.after_name
        limit = page_items(request.limit, self._limits)

        def query(machine: Machine) -> queues_pb2.ListQueuesResponse:
            response = queues_pb2.ListQueuesResponse()
            queues = machine.modules.queues
            every = queues.list_queues(after, machine.context.limits.queues_max)
            names = [name for name in every if name.startswith(prefix)]
            for name in names[:limit]:
                _fill_found(response.queues.add(), machine, name)
            response.more = len(names) > limit
            return response

        return query


def _options_of(message: queues_pb2.QueueOptions) -> QueueOptions | Refusal:
    backoff = backoff_of(message.backoff)
    if isinstance(backoff, Refusal):
        return backoff
    given = {
        name: optional_of(message, name, getattr(message, name))
        for name in QueueOptions.__struct_fields__
        if name not in {"backoff", "may_complete_late"}
    }
    may_complete_late = None
    if message.HasField("may_complete_late"):
        may_complete_late = message.may_complete_late
    return QueueOptions(backoff=backoff, may_complete_late=may_complete_late, **given)


def _fill_found(message: queues_pb2.Queue, machine: Machine, name: str) -> bool:
    queues = machine.modules.queues
    stats, options = queues.stats(name), queues.options(name)
    if stats is None or options is None:
        return False
    fill_queue(message, stats, options)
    return True


# --- responses -------------------------------------------------------------------


def _fill_gone(
    response: queues_pb2.PurgeQueueResponse | queues_pb2.DeleteQueueResponse,
    result: QueuePurged | QueueDeleted,
    machine: Machine,
) -> None:
    response.jobs = result.jobs


def _fill_redriven(
    response: queues_pb2.RedriveJobsResponse, result: JobsRedriven, machine: Machine
) -> None:
    response.jobs = result.jobs
