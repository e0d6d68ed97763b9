"""The job queue, judged by the life of each job in the log, and by the end.

* QNL: an acknowledged job is there in the end, or has ended. Nobody finds a job that
  was never asked for.
* QSL: a job is handed out again only after its reservation ended; tokens rise; the
  order is priority, then enqueue; a group is strict.
* QTR: one end a life, by the holder of the newest token, or for a reason.
* Not before its time, and not long after; the limits hold; the counters are right.

What a Complete did beside ending its job is a part of the same request, and judged with
the keys in `witness`.

Source: RELIABILITY.md section 4 (Queue); SEMANTICS.md section 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.checkers.finals import replay_with_finals
from tests.checkers.job_replay import JobReplay
from tests.checkers.job_state import is_final
from tests.checkers.places import Places, describe
from tests.checkers.verdict import Illegal, Undecided, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.parts import Fields

__all__ = ["check_jobs"]

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
        lambda final: final.jobs,
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


def _check_final(told: list[Fields], replay: JobReplay) -> None:
    table = replay.table
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
