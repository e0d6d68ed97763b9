"""What may happen to a job, and why not.

Source: SEMANTICS.md section 6; RELIABILITY.md section 4 (Queue).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.checkers.job_state import WAITING, JobLife, is_final
from tests.checkers.verdict import Illegal

if TYPE_CHECKING:
    from tests.checkers.job_claims import Claim
    from tests.checkers.job_table import JobTable
    from tests.checkers.parts import Applied, Fields
    from tests.checkers.records import Entry

__all__ = [
    "check_birth",
    "check_claim",
    "check_enqueue",
    "check_ready",
    "check_reserve",
    "check_worker_refusal",
    "why_not",
]

_TOKEN_LOST: Final = frozenset(
    {"RESERVATION_EXPIRED", "RESERVATION_LOST", "JOB_FINAL", "NOT_FOUND"}
)


# --- moves that a call makes -------------------------------------------------------


def check_birth(table: JobTable, job: JobLife, who: str, op: int) -> None:
    """Refuse a new job that must not be: its queue is full, its id is known."""
    queue = table.queue(job.queue)
    limit = queue.options["depth_max"]
    if job.queue != job.spec["queue"]:
        raise Illegal(f"{who} asked for {job.spec['queue']} and got {job.queue}", op)
    if queue.depth >= limit:
        raise Illegal(
            f"{who} put job {job.id} into {job.queue}, which held {queue.depth} of"
            f" {limit} already",
            op,
        )
    known = table.by_client_id.get(job.spec.get("client_id", ""))
    if known is not None and known in table.lives:
        raise Illegal(
            f"{who} made job {job.id} under the client id"
            f" {job.spec['client_id']}, which is job {known}'s",
            op,
            table.lives[known].op,
        )
    if job.id in table.lives or job.id in table.gone:
        raise Illegal(f"{who} made job {job.id} a second time", op)


def check_claim(table: JobTable, claim: Claim, job: JobLife, who: str, op: int) -> None:
    """Refuse a call that must not move this job, which has not moved yet."""
    match claim.what:
        case "reserve":
            _check_taken(table, claim, job, who, op)
        case "complete" | "fail" | "snooze" | "release_job":
            token = claim.args["token"]
            if token != job.token:
                raise Illegal(
                    f"{who} was done with token {token} of job {job.id}, though"
                    f" {job.holder} holds {job.token}",
                    op,
                )
        case _:
            pass


def _check_taken(
    table: JobTable, claim: Claim, job: JobLife, who: str, op: int
) -> None:
    queue = table.queue(job.queue)
    token = claim.answer["token"]
    if token <= job.newest_token:
        raise Illegal(
            f"{who} got token {token} of job {job.id}, after {job.holder} had"
            f" {job.newest_token}",
            op,
        )
    asked = [name for name, _ in claim.args["queues"]]
    if job.queue not in asked:
        raise Illegal(
            f"{who} asked for {asked} and got job {job.id} of {job.queue}", op
        )
    first = table.first_ready(queue, claim.args.get("types", []))
    if first != job.id:
        raise Illegal(
            f"{who} got job {job.id} of {job.queue} before job {first}, which comes"
            " first",
            op,
        )
    if table.slots(queue) <= 0:
        what = "is paused" if queue.is_paused else f"has {queue.reserved} in work"
        raise Illegal(f"{who} got job {job.id} of {job.queue}, which {what}", op)
    if not table.is_open(job):
        raise Illegal(f"{who} got job {job.id}, whose group {job.group} is closed", op)
    job.holder = who


def check_ready(table: JobTable, job: JobLife, entry: Entry) -> None:
    """Refuse a job that became READY while its parents run or its group is closed."""
    if job.waits_for:
        raise Illegal(
            f"entry {entry.index} makes job {job.id} READY, though job"
            f" {min(job.waits_for)} before it has not ended",
            job.op,
        )
    if not table.is_open(job):
        raise Illegal(
            f"entry {entry.index} makes job {job.id} READY, though its group"
            f" {job.group} is closed",
            job.op,
        )


# --- moves without a call ----------------------------------------------------------


def why_not(
    table: JobTable,
    job: JobLife,
    state: str,
    *,
    now_ms: int,
    wall_ms: int,
    is_lost: bool,
) -> str:
    """Return why a job cannot move by itself; empty = it can."""
    queue = table.queue(job.queue)
    if not state:
        return "" if queue.purged else _why_kept(table, job, now_ms)
    if is_final(job.state):
        return "" if queue.redriven and state in WAITING else "it has ended"
    if job.state == "RESERVED":
        return _why_reserved(table, job, state, now_ms, is_lost=is_lost)
    match state:
        case "CANCELLED":
            return "" if job.is_failed else "nobody cancelled it"
        case "EXPIRED":
            deadline_ms = job.deadline_ms
            is_over = deadline_ms is not None and deadline_ms <= now_ms
            return "" if is_over else f"its deadline is {deadline_ms} at {now_ms} ms"
        case "READY" | "BLOCKED" if job.state == "SCHEDULED":
            clock_ms = wall_ms if job.is_wall else now_ms
            if job.due is not None and job.due[0] > clock_ms and not _is_unique(job):
                return f"it is due at {job.due[0]} and it is {clock_ms} ms"
            return ""
        case "READY" if job.state == "BLOCKED":
            return ""
        case "BLOCKED" if job.state == "READY":
            return "" if job.group else "it waits for nobody"
        case _:
            return "" if _is_unique(job) and state in WAITING else "nobody asked for it"


def _is_unique(job: JobLife) -> bool:
    """Tell whether a later enqueue may have moved it to another time."""
    return job.spec.get("unique") is not None


def _why_kept(table: JobTable, job: JobLife, now_ms: int) -> str:
    if not is_final(job.state):
        return "nobody removed it"
    kind = "done" if job.state == "DONE" else "dead"
    kept_ms = table.queue(job.queue).options[f"{kind}_retention_ms"]
    if job.ended_ms + kept_ms <= now_ms:
        return ""
    return f"it ended at {job.ended_ms} ms and is kept for {kept_ms}"


def _why_reserved(
    table: JobTable, job: JobLife, state: str, now_ms: int, *, is_lost: bool
) -> str:
    if state == "DONE":
        return "nobody completed it"
    grace_ms = table.queue(job.queue).options["grace_ms"]
    if is_lost:
        return ""
    if job.until_ms + grace_ms <= now_ms:
        return ""
    return (
        f"{job.holder} holds it until {job.until_ms + grace_ms} and it is {now_ms} ms"
    )


# --- answers -----------------------------------------------------------------------


def check_worker_refusal(table: JobTable, applied: Applied, who: str, op: int) -> None:
    """Refuse that a worker with the current token was turned away."""
    if applied.error not in _TOKEN_LOST:
        return
    job = table.lives.get(applied.args["job"])
    if job is None or table.queue(job.queue).purged:
        return
    if applied.error == "NOT_FOUND":
        raise Illegal(f"{who} was told that job {job.id} is unknown", op, job.op)
    is_current = job.state == "RESERVED" and job.token == applied.args["token"]
    if is_current and not table.queue(job.queue).options["grace_ms"]:
        raise Illegal(
            f"{who} was refused with {applied.error}, though its token is current",
            op,
            job.op,
        )
    if (applied.error == "JOB_FINAL") != is_final(job.state):
        raise Illegal(
            f"{who} was refused with {applied.error}, and job {job.id} is {job.state}",
            op,
            job.op,
        )


def check_reserve(
    table: JobTable, args: Fields, answer: Fields, who: str, op: int
) -> None:
    """Refuse too many jobs, and none where there was one."""
    jobs = answer.get("jobs", [])
    most = args.get("jobs_max", 1)
    if len(jobs) > most:
        raise Illegal(f"{who} asked for {most} jobs and got {len(jobs)}", op)
    if jobs:
        return
    for name, _ in args["queues"]:
        queue = table.queues.get(name)
        if queue is None or table.slots(queue) <= 0:
            continue
        first = table.first_ready(queue, args.get("types", []))
        if first is not None:
            raise Illegal(
                f"{who} got nothing, though job {first} of {name} was ready",
                op,
                table.lives[first].op,
            )


def check_enqueue(
    table: JobTable, applied: Applied, args: Fields, answer: Fields, who: str, op: int
) -> None:
    """Refuse a wrong "it existed", and a full queue that was not."""
    specs = args["jobs"]
    if applied.outcome == "ok":
        told = zip(answer["ids"], answer["existed"], specs, strict=True)
        for number, existed, spec in told:
            known = table.by_client_id.get(spec.get("client_id", ""))
            if known is not None and known != number and known in table.lives:
                raise Illegal(
                    f"{who} was told of job {number}, though {spec['client_id']} is"
                    f" job {known}",
                    op,
                )
            is_known = number in table.lives or number in table.gone
            if existed and not is_known:
                raise Illegal(f"{who} was told of job {number}, which never was", op)
    elif applied.error == "QUEUE_FULL" and len(specs) == 1 and applied.name != "txn":
        queue = table.queue(specs[0]["queue"])
        if queue.depth < queue.options["depth_max"]:
            raise Illegal(
                f"{who} was refused: {queue.name} holds {queue.depth} of"
                f" {queue.options['depth_max']}",
                op,
            )
