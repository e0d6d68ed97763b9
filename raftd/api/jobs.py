"""Jobs at the doors.

Rules:
* ``CompleteJob`` with operations is a transaction: if the reservation is held, then the
  completion and the operations, in one entry. Refusals come back as if it were one
  call: of the completion itself, or of an operation by its place in the request.
* A reserve that is sent again finds in its window which jobs it got; their payloads
  are read from the state.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Final

from raftd.api.calls import Call, Query, Read, Watch, Write, fill_nothing
from raftd.api.checks import check_text, enums_of, invalid, optional_of, page_items
from raftd.api.job_messages import fill_enqueued, fill_job, fill_reserved, state_of
from raftd.api.job_watch import plan_watch
from raftd.api.job_writes import JobWrites
from raftd.api.limits import DoorLimits
from raftd.api.ops import Ops, fill_results, op_prefix, refuse_op
from raftd.statemachine.machine import Machine
from raftd.statemachine.queues import JobPage
from raftd.statemachine.refusals import check_name
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    JobCancelled,
    JobCompleted,
    JobExtended,
    JobFailed,
    JobSaved,
    JobsReserved,
    JobState,
)
from raftd.statemachine.schema.txn import (
    Compare,
    CompareTarget,
    Transact,
    Transacted,
)
from raftpb.v1 import queues_pb2

__all__ = ["JobCalls"]


class JobCalls:
    """The calls of QueueService about jobs."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits
        self._writes: Final = JobWrites(limits)
        self._ops: Final = Ops(limits)

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        writes = self._writes
        complete = Write(
            "complete_job",
            self._complete,
            _fill_completed,
            needs_state=_was_not_held,
            mend=_mend_complete,
            is_large=lambda result: isinstance(result, Transacted),
        )
        return (
            Write("enqueue_jobs", writes.enqueue, fill_enqueued),
            Write(
                "reserve_jobs",
                writes.reserve,
                _fill_reserved,
                needs_state=_is_sent_again,
                is_large=lambda result: bool(result.jobs),
                wait_ms=_wait_ms,
            ),
            Write("extend_job", writes.extend, _fill_extended),
            Write("savepoint_job", writes.savepoint, _fill_extended),
            dataclasses.replace(complete, bind=partial(_bind_complete, complete)),
            Write("fail_job", writes.fail, _fill_failed),
            Write("snooze_job", writes.snooze, fill_nothing),
            Write("release_job", writes.release, fill_nothing),
            Write("cancel_job", writes.cancel, _fill_cancelled),
            Read("get_job", self._get),
            Read("list_jobs", self._list),
            Watch("watch_jobs", partial(plan_watch, limits=self._limits)),
        )

    def _complete(
        self, request: queues_pb2.CompleteJobRequest, session: int
    ) -> CompleteJob | Transact | Refusal:
        command = self._writes.complete(request, session)
        if isinstance(command, Refusal) or not request.ops:
            return command
        ops = self._ops.translate(request.ops)
        if isinstance(ops, Refusal):
            return ops
        held = Compare(
            CompareTarget.RESERVATION_HELD, job=command.job, number=command.token
        )
        return Transact((held,), (command, *ops))

    # --- reads -------------------------------------------------------------------

    def _get(self, request: queues_pb2.GetJobRequest) -> Query | Refusal:
        job_id, client_id = request.job_id, request.client_id
        if bool(job_id) == bool(client_id):
            return invalid("a job is named by its id or by the client's own, not both")

        def query(machine: Machine) -> queues_pb2.GetJobResponse | Refusal:
            queues = machine.modules.queues
            job = queues.get(job_id) if job_id else queues.get_by_client_id(client_id)
            if job is None:
                return _unknown_job(job_id, client_id)
            response = queues_pb2.GetJobResponse()
            fill_job(response.job, job, machine, has_payloads=True)
            return response

        return query

    def _list(self, request: queues_pb2.ListJobsRequest) -> Query | Refusal:
        name, after = request.queue, request.after_job_id
        look = _page if request.allow_empty_pages else _first_page
        type_, has_payloads = request.type, not request.no_payloads
        states = enums_of(JobState, request.states)
        if isinstance(states, Refusal):
            return states
        limits = self._limits
        limit = page_items(request.limit, limits)
        refusal = check_name("queue", name, limits.apply.name_bytes_max) or check_text(
            "the type", type_, limits
        )
        if refusal is not None:
            return refusal

        def query(machine: Machine) -> queues_pb2.ListJobsResponse | Refusal:
            page = look(machine, name, states, type_, after, limit)
            if page is None:
                return Refusal(Reason.NOT_FOUND, f'there is no queue "{name}"')
            response = queues_pb2.ListJobsResponse(
                more=page.next_after is not None,
                next_after_job_id=page.next_after or 0,
            )
            room = limits.page_bytes_max
            for job in page.jobs:
                if room <= 0:
                    response.more = True
                    response.next_after_job_id = response.jobs[-1].job_id
                    break
                message = response.jobs.add()
                fill_job(message, job, machine, has_payloads=has_payloads)
                room -= message.ByteSize()
            return response

        return query


def _page(
    machine: Machine,
    name: str,
    states: tuple[JobState, ...],
    type_: str,
    after: int,
    limit: int,
) -> JobPage | None:
    """Return the next page, which may be empty: one look, and the node's turn ends."""
    return machine.modules.queues.list_jobs(name, states, type_, after, limit)


def _first_page(
    machine: Machine,
    name: str,
    states: tuple[JobState, ...],
    type_: str,
    after: int,
    limit: int,
) -> JobPage | None:
    """Return the next page that is not empty: the client goes on from its last job."""
    while True:
        page = _page(machine, name, states, type_, after, limit)
        if page is None or page.jobs or page.next_after is None:
            return page
        after = page.next_after


def _unknown_job(job_id: int, client_id: str) -> Refusal:
    shown = str(job_id) if job_id else f'"{client_id}"'
    return Refusal(Reason.NOT_FOUND, f"there is no job {shown}", {"job": shown})


# --- complete with operations ----------------------------------------------------


def _bind_complete(
    call: Write,
    request: queues_pb2.CompleteJobRequest,
    command: CompleteJob | Transact,
) -> Write:
    if type(command) is CompleteJob:
        return call
    fill = partial(_fill_with_ops, request.job_id, request.token)
    return dataclasses.replace(call, fill=fill)


def _fill_completed(
    response: queues_pb2.CompleteJobResponse, result: JobCompleted, machine: Machine
) -> None:
    response.SetInParent()


def _fill_with_ops(
    job: int,
    token: int,
    response: queues_pb2.CompleteJobResponse,
    result: Transacted,
    machine: Machine,
) -> Refusal | None:
    response.SetInParent()
    if not result.has_succeeded:
        return machine.modules.queues.why_not_completed(job, token)
    fill_results(response.results, result.results[1:], machine)
    return None


def _was_not_held(result: JobCompleted | Transacted) -> bool:
    return isinstance(result, Transacted) and not result.has_succeeded


def _mend_complete(refusal: Refusal) -> Refusal:
    """Give operations the places they have in the request: 0 was the completion."""
    place = int(refusal.details.get("op", "-1"))
    if place < 0:
        return refusal
    sentence = refusal.sentence.removeprefix(op_prefix(place))
    details = {name: each for name, each in refusal.details.items() if name != "op"}
    inner = Refusal(refusal.reason, sentence, details)
    return inner if place == 0 else refuse_op(place - 1, inner)


# --- other responses -------------------------------------------------------------


def _wait_ms(request: queues_pb2.ReserveJobsRequest) -> int | None:
    return optional_of(request, "wait_ms", request.wait_ms)


def _is_sent_again(result: JobsReserved) -> bool:
    # The window keeps ids and tokens; a job always has a queue.
    return bool(result.jobs) and not result.jobs[0].queue


def _fill_reserved(
    response: queues_pb2.ReserveJobsResponse, result: JobsReserved, machine: Machine
) -> None:
    response.SetInParent()
    now_ms = machine.context.now_ms
    if _is_sent_again(result):
        result = machine.modules.queues.refill(result)
    for job in result.jobs:
        fill_reserved(response.jobs.add(), job, now_ms)


def _fill_extended(
    response: queues_pb2.ExtendJobResponse | queues_pb2.SavepointJobResponse,
    result: JobExtended | JobSaved,
    machine: Machine,
) -> None:
    response.remaining_ms = result.remaining_ms
    response.cancel_requested = result.cancel_requested


def _fill_failed(
    response: queues_pb2.FailJobResponse, result: JobFailed, machine: Machine
) -> None:
    response.state = state_of(result.state)
    response.retry_in_ms = result.retry_in_ms


def _fill_cancelled(
    response: queues_pb2.CancelJobResponse, result: JobCancelled, machine: Machine
) -> None:
    response.state = state_of(result.state)
