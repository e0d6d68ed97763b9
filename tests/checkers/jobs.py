"""The job queue, judged by the life of each job in the log, and by the end.

* QNL: an acknowledged job is there in the end, or has ended. Nobody finds a job that
  was never asked for (`evidence` looks for what each was asked by).
* QSL: a job is handed out again only after its reservation ended; tokens rise; the
  order is priority, then enqueue; a group is strict.
* QTR: one end a life, by the holder of the newest token, or for a reason.
* Not before its time, and not long after; the limits hold; the counters of a job are
  right, and so is what a queue says in the end of how many it has in each state.

What a Complete did beside ending its job is a part of the same request: `evidence`
compares it with what was asked and told, `witness` with the keys.

Source: RELIABILITY.md section 4 (Queue); SEMANTICS.md section 6.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.checkers.finals import replay_with_finals
from tests.checkers.job_replay import JobReplay
from tests.checkers.job_state import is_final
from tests.checkers.places import Places, describe
from tests.checkers.verdict import Illegal, Undecided, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.job_table import JobTable
    from tests.checkers.parts import Fields
    from tests.checkers.records import FinalState

__all__ = ["check_jobs"]

_STATES: Final = (
    *("scheduled", "ready", "blocked", "reserved"),
    *("done", "dead", "cancelled", "expired"),
)
_COUNTERS: Final = ("queue", "state", "attempt", "delivery", "crashes")


def check_jobs(history: History) -> Verdict:
    """Judge every job."""
    return judged("jobs", "transitions of jobs", _check, history)


def _check(history: History) -> int:
    if not history.entries and any(op.name == "enqueue" for op in history.ops):
        raise Undecided("there is no evidence: the log was not read after the run")
    replay = JobReplay(Places(history))
    replay_with_finals(
        history,
        replay.entry,
        lambda told: _check_final(told, replay),
        lambda final: final,
    )
    _check_acknowledged(history, replay)
    return replay.transitions


def _check_acknowledged(history: History, replay: JobReplay) -> None:
    table = replay.table
    for op in history.ops:
        if op.name != "enqueue" or op.outcome != "ok":
            continue
        for number in op.answer["ids"]:
            if number not in table.lives and number not in table.gone:
                raise Illegal(
                    f"{describe(op)} got job {number}, which never was", op.id
                )


def _check_final(told: FinalState, replay: JobReplay) -> None:
    if told.jobs is not None:
        _check_jobs(told.jobs, replay.table)
    if told.queues is not None:
        _check_queues(told.queues, replay.table)


def _check_jobs(told: list[Fields], table: JobTable) -> None:
    listed = {each["job"]: each for each in told}
    for number, job in table.lives.items():
        each = listed.pop(number, None)
        if each is None:
            raise Illegal(
                f"job {number} of {job.who} is lost: in the end it is not there, and"
                f" the log has it {job.state}",
                job.op,
            )
        for field in _COUNTERS:
            wanted = getattr(job, field)
            if field in each and each[field] != wanted:
                raise Illegal(
                    f"in the end {field} of job {number} is {each[field]}, where the"
                    f" log has {wanted}",
                    job.op,
                )
        is_stuck = job.state == "BLOCKED" and not job.waits_for and table.is_open(job)
        if is_stuck and not is_final(job.state):
            raise Illegal(f"job {number} is BLOCKED in the end for no reason", job.op)
    if listed:
        number = next(iter(listed))
        known = "has it gone" if number in table.gone else "never had it"
        raise Illegal(f"in the end there is job {number}, where the log {known}")


def _check_queues(told: list[Fields], table: JobTable) -> None:
    counts = Counter((job.queue, job.state.lower()) for job in table.lives.values())
    names = {each["name"] for each in told}
    unlisted = sorted({queue for queue, _ in counts} - names)
    if unlisted:
        raise Illegal(f"in the end there is no queue {unlisted[0]}, which has jobs")
    for each in told:
        name = each["name"]
        wanted = {state: counts[name, state] for state in _STATES}
        queue = table.queues.get(name)
        if queue is not None and not queue.purged:  # else it may have begun anew
            wanted |= {
                "enqueued_total": queue.enqueued,
                "completed_total": queue.completed,
            }
        for field, count in wanted.items():
            if field in each and each[field] != count:
                raise Illegal(
                    f"in the end queue {name} says {field} {each[field]}, where the"
                    f" log has {count}"
                )
