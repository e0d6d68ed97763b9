"""When things of jobs fall due, and what a reservation's end counts.

Early is judged where a job moves (`job_rules`), late at the end of each entry: what was
due before the entry must have happened in it.

Source: SEMANTICS.md section 6; RELIABILITY.md section 4 (run_at, counters).
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from tests.checkers.job_state import JobLife, is_final, retry_span
from tests.checkers.verdict import Illegal

if TYPE_CHECKING:
    from tests.checkers.job_claims import Claim
    from tests.checkers.job_table import JobTable
    from tests.checkers.parts import Fields
    from tests.checkers.records import Entry

__all__ = ["JobTimes"]


class JobTimes:
    """Sets the times and counters of jobs."""

    def __init__(self, table: JobTable) -> None:
        self._table: Final = table
        self._lease_due: Final[list[tuple[int, int]]] = []
        self._wall_due: Final[list[tuple[int, int]]] = []

    # --- what a claim sets ---------------------------------------------------------

    def claimed(self, claim: Claim, job: JobLife, state: str, now_ms: int) -> None:
        """Take in that a call moves a job to ``state``; it has not moved yet."""
        options = self._table.queue(job.queue).options
        match claim.what:
            case "enqueue":
                self._schedule(job, now_ms)
            case "reserve":
                self._reserved(claim, job, now_ms)
            case "fail":
                job.attempt += 1
                delay_ms = claim.args.get("retry_in_ms")
                span = (
                    retry_span(job, options, job.attempt)
                    if delay_ms is None
                    else (delay_ms, delay_ms)
                )
                self._check_failure(claim, job, state, span)
                self._due_in(job, now_ms, span)
            case "snooze":
                self._due_in(job, now_ms, (claim.args["for_ms"], claim.args["for_ms"]))
            case _:
                pass
        if is_final(state) and "token" in claim.args:
            job.ended_by = (claim.what, claim.args["token"])

    def _schedule(self, job: JobLife, now_ms: int) -> None:
        spec = job.spec
        if spec.get("delay_ms") is not None:
            self._due_in(job, now_ms, (spec["delay_ms"], spec["delay_ms"]))
        elif spec.get("run_at_ms") is not None:
            job.due, job.is_wall = (spec["run_at_ms"], spec["run_at_ms"]), True

    def _reserved(self, claim: Claim, job: JobLife, now_ms: int) -> None:
        answer = claim.answer
        job.delivery += 1
        if answer.get("delivery", 0) != job.delivery or (
            answer.get("attempt", 0) != job.attempt
        ):
            raise Illegal(
                f"job {job.id} was handed out as delivery {answer.get('delivery', 0)}"
                f" with {answer.get('attempt', 0)} failed attempts, and it is"
                f" {job.delivery} with {job.attempt}",
                job.op,
            )
        job.token = job.newest_token = answer["token"]
        job.lease = claim.args["lease"]
        job.since_ms, job.reservation_ms = now_ms, answer["reservation_ms"]
        job.until_ms = self._until_ms(job, now_ms, job.reservation_ms)
        job.is_started = job.is_cancel_requested = False

    def _until_ms(self, job: JobLife, now_ms: int, for_ms: int) -> int:
        runtime_ms = job.spec.get("max_runtime_ms")
        until_ms = now_ms + for_ms
        if runtime_ms is None:
            return until_ms
        return max(now_ms, min(until_ms, job.since_ms + int(runtime_ms)))

    def _check_failure(
        self, claim: Claim, job: JobLife, state: str, span: tuple[int, int]
    ) -> None:
        options = self._table.queue(job.queue).options
        most: int = {**options, **job.spec}["max_attempts"]
        is_last = claim.args.get("is_fatal", False) or job.attempt >= most
        must = "CANCELLED" if job.is_cancel_requested else "DEAD" if is_last else ""
        if (must or state in {"DEAD", "CANCELLED"}) and state != must:
            raise Illegal(
                f"job {job.id} failed {job.attempt} of {most} times and is {state}",
                job.op,
            )
        if state == "SCHEDULED" and not (
            span[0] <= claim.answer["retry_in_ms"] <= span[1]
        ):
            raise Illegal(
                f"job {job.id} is tried again in {claim.answer['retry_in_ms']} ms after"
                f" {job.attempt} failures, not in {span[0]} to {span[1]}",
                job.op,
            )

    def _due_in(self, job: JobLife, now_ms: int, span: tuple[int, int]) -> None:
        job.due, job.is_wall = (now_ms + span[0], now_ms + span[1]), False

    def extended(
        self, args: Fields, answer: Fields, who: str, op: int, now_ms: int
    ) -> None:
        """Take in an extension, which only the newest token may ask for."""
        job = self._table.lives.get(args["job"])
        if job is None or job.state != "RESERVED" or job.token != args["token"]:
            raise Illegal(
                f"{who} was done with token {args['token']}, which is not current", op
            )
        for_ms = args.get("for_ms") or job.reservation_ms
        job.until_ms = self._until_ms(job, now_ms, for_ms)
        job.is_started = True
        self.moved(job)
        if answer["remaining_ms"] != job.until_ms - now_ms:
            raise Illegal(
                f"{who} was told {answer['remaining_ms']} ms, and has"
                f" {job.until_ms - now_ms}",
                op,
                job.op,
            )

    # --- what an end without its worker counts --------------------------------------

    def returned(
        self, job: JobLife, state: str, now_ms: int, *, may_charge: bool
    ) -> None:
        """Take in that a reservation is over without a word."""
        options = self._table.queue(job.queue).options
        if job.is_cancel_requested:
            wanted = {"CANCELLED"}
        elif may_charge and job.is_started:
            job.crashes += 1
            span = retry_span(job, options, job.crashes)
            wanted = {"SCHEDULED", "READY", "BLOCKED", "EXPIRED"}
            if job.crashes >= options["max_crashes"]:
                wanted = {"DEAD"}
            self._due_in(job, now_ms, span)
        else:
            wanted = {"READY", "BLOCKED", "EXPIRED"}
        if state not in wanted and not (
            not state and self._table.queue(job.queue).purged
        ):
            raise Illegal(
                f"job {job.id} lost its worker ({job.crashes} crashes) and is"
                f" {state or 'gone'}, not {'/'.join(sorted(wanted))}",
                job.op,
            )

    # --- late ----------------------------------------------------------------------

    def moved(self, job: JobLife) -> None:
        """Remember when a job must move again."""
        if job.state == "SCHEDULED" and job.due is not None:
            heap = self._wall_due if job.is_wall else self._lease_due
            heappush(heap, (job.due[1], job.id))
        elif job.state == "RESERVED":
            heappush(self._lease_due, (job.until_ms, job.id))

    def check(self, entry: Entry, now_ms: int, wall_ms: int, ended: list[int]) -> None:
        """Refuse what should have happened by the end of this entry."""
        for heap, clock_ms in ((self._lease_due, now_ms), (self._wall_due, wall_ms)):
            while heap and heap[0][0] < clock_ms:
                job = self._table.lives.get(heappop(heap)[1])
                if job is not None:
                    self._check_late(entry, job, now_ms, wall_ms)
        for lease in ended:
            for number in self._table.by_lease[lease]:
                job = self._table.lives[number]
                if not self._table.queue(job.queue).options["grace_ms"]:
                    raise Illegal(
                        f"job {number} is still reserved after entry {entry.index},"
                        f" though its worker's lease {lease} has ended",
                        job.op,
                    )

    def _check_late(
        self, entry: Entry, job: JobLife, now_ms: int, wall_ms: int
    ) -> None:
        if job.state == "SCHEDULED" and job.due is not None:
            clock_ms = wall_ms if job.is_wall else now_ms
            if job.due[1] < clock_ms:
                raise Illegal(
                    f"job {job.id} was due at {job.due[1]} ms and still waits after"
                    f" entry {entry.index} at {clock_ms} ms",
                    job.op,
                )
        grace_ms = self._table.queue(job.queue).options["grace_ms"]
        if job.state == "RESERVED" and not grace_ms and job.until_ms < now_ms:
            raise Illegal(
                f"job {job.id} was reserved until {job.until_ms} ms and still is after"
                f" entry {entry.index} at {now_ms} ms",
                job.op,
            )
