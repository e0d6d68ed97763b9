"""What an acknowledged request must have done to jobs.

Source: SEMANTICS.md section 6, the table of states.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.checkers.parts import Applied, Fields

__all__ = ["WORKER_CALLS", "Claim", "calls_of", "claims_of"]

WORKER_CALLS: Final = frozenset(
    {"extend", "savepoint", "complete", "fail", "snooze", "release_job"}
)
_ENDS: Final = {
    "complete": frozenset({"DONE"}),
    "fail": frozenset(
        {"SCHEDULED", "READY", "BLOCKED", "DEAD", "CANCELLED", "EXPIRED"}
    ),
    "snooze": frozenset({"SCHEDULED", "READY", "BLOCKED", "CANCELLED", "EXPIRED"}),
    "release_job": frozenset({"READY", "BLOCKED", "CANCELLED", "EXPIRED"}),
}


class Claim(msgspec.Struct, frozen=True):
    """A request says that it moved a job.

    Attributes:
        what: The call.
        job: Which.
        states: Where to; one of them.
        args: Of the call.
        answer: Of the call; of a reserve that of this job.
    """

    what: str
    job: int
    states: frozenset[str]
    args: Fields
    answer: Fields


def calls_of(applied: Applied) -> Iterator[tuple[str, Fields, Fields]]:
    """Yield the calls that a request makes: name, args, answer."""
    if applied.name != "txn":
        yield applied.name, applied.args, applied.answer
        return
    if applied.outcome != "ok":
        return
    branch = "then" if applied.answer["has_succeeded"] else "orelse"
    ops = applied.args.get(branch, [])
    for op, result in zip(ops, applied.answer["results"], strict=True):
        yield op["op"], op, result


def claims_of(name: str, args: Fields, answer: Fields) -> list[Claim]:
    """Return which jobs an ok call says it moved."""
    match name:
        case "enqueue":
            return [
                Claim(name, number, frozenset(_born(state)), spec, answer)
                for number, state, existed, spec in zip(
                    answer["ids"],
                    answer["states"],
                    answer["existed"],
                    args["jobs"],
                    strict=True,
                )
                if not existed
            ]
        case "reserve":
            reserved = frozenset({"RESERVED"})
            return [
                Claim(name, job["id"], reserved, args, job)
                for job in answer.get("jobs", [])
            ]
        case "complete" | "fail" | "snooze" | "release_job":
            return [Claim(name, args["job"], _ENDS[name], args, answer)]
        case "cancel_job":
            return [Claim(name, args["job"], frozenset({"CANCELLED"}), args, answer)]
        case _:
            return []


def _born(state: str) -> set[str]:
    """Return in which states a job may have begun that is in this one at the end."""
    return {state, "READY", "BLOCKED", "SCHEDULED"}
