"""Every job's life, event by event, in the order of the log.

A transition is the doing of the request in whose span of revisions it lies, or follows
from time, from a lease, from a parent, from its group (`job_rules`). One that nothing
explains is illegal, and so is an acknowledged request without its transition.

Source: RELIABILITY.md section 4 (Queue), codes QNL, QSL, QTR; SEMANTICS.md section 6.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from tests.checkers import job_rules
from tests.checkers.job_claims import WORKER_CALLS, Claim, calls_of, claims_of
from tests.checkers.job_state import JobLife, is_final
from tests.checkers.job_table import JobTable
from tests.checkers.job_times import JobTimes
from tests.checkers.lease_replay import LeaseReplay, Timer
from tests.checkers.verdict import Illegal

if TYPE_CHECKING:
    from tests.checkers.parts import Applied, Event, Fields
    from tests.checkers.places import Places
    from tests.checkers.records import Entry

__all__ = ["JobReplay"]

_WORKED_OFF: Final = 900
"""After so many events an entry may leave due work to the next."""


class JobReplay(LeaseReplay):
    """All jobs, after the entries so far."""

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.table: Final = JobTable()
        self.wall_ms = 0
        self.transitions = 0
        self._events: deque[Event] = deque()
        self._lost: dict[int, bool] = {}
        """Leases that ended in this entry; True = not by a clean goodbye."""
        self._times: Final = JobTimes(self.table)

    # --- entries -------------------------------------------------------------------

    def opening(self, entry: Entry) -> None:
        """Take up the entry's events."""
        self.wall_ms = max(self.wall_ms, entry.wall_ms)
        self._events = deque(event for event in entry.events if event.what == "job")
        self._lost = {}

    def closing(self, entry: Entry) -> None:
        """Explain what came after the requests; see that nothing due was left out."""
        self._advance(entry, entry.revision, "", 0, {})
        if len(entry.events) < _WORKED_OFF:
            self._times.check(entry, self.now_ms, self.wall_ms, list(self._lost))

    def fire(self, entry: Entry, timer: Timer) -> None:
        """Jobs are looked at by their events, not by timers."""
        raise AssertionError(timer)

    def lease_ended(self, entry: Entry, lease: int, *, is_loss: bool) -> None:
        """Note whose reservations may end."""
        self._lost[lease] = is_loss
        for number in self.table.by_lease[lease]:
            job = self.table.lives[number]
            grace_ms = self.table.queue(job.queue).options["grace_ms"]
            if grace_ms and is_loss:
                job.until_ms = self.now_ms

    # --- requests ------------------------------------------------------------------

    def request(self, entry: Entry, applied: Applied) -> None:
        """Take in a request: what it claims, and what follows from it."""
        who, op = self.places.name(entry, applied), self.places.op_of(applied)
        claims: dict[int, list[Claim]] = {}
        is_ok = applied.outcome == "ok"
        self._before(entry, applied, who, op)
        for name, args, answer in calls_of(applied):
            if is_ok:
                self._note(name, args)
                for claim in claims_of(name, args, answer):
                    claims.setdefault(claim.job, []).append(claim)
        self._advance(entry, applied.revision, who, op, claims)
        for left in claims.values():
            for claim in left:
                self._unfulfilled(claim, who, op)
        for name, args, answer in calls_of(applied):
            self._after(applied, name, args, answer, who, op)

    def _before(self, entry: Entry, applied: Applied, who: str, op: int) -> None:
        """Compare fences with the reservations, as they are before the request."""
        for fence in applied.fences:
            if fence["kind"] != "RESERVATION" or applied.outcome != "ok":
                continue
            job = self.table.lives.get(fence["job"])
            if job is None or job.token != fence["token"] or job.state != "RESERVED":
                raise Illegal(
                    f"{who} was done with token {fence['token']} of job {fence['job']},"
                    " which is not current",
                    op,
                )

    def _note(self, name: str, args: Fields) -> None:
        """Take in what changes the rules for the events that follow."""
        if name in {"redrive", "purge_queue", "delete_queue", "pause_queue"}:
            queue = self.table.queue(args["queue"])
            queue.redriven = queue.redriven or name == "redrive"
            queue.purged = queue.purged or name in {"purge_queue", "delete_queue"}
            if name == "pause_queue":
                queue.is_paused = args["is_paused"]
        elif name == "configure_queue":
            self.table.queue(args["queue"]).options.update(args["options"])

    def _advance(
        self,
        entry: Entry,
        revision: int,
        who: str,
        op: int,
        claims: dict[int, list[Claim]],
    ) -> None:
        """Take in the events up to a revision."""
        while self._events and self._events[0].revision <= revision:
            event = self._events.popleft()
            self.transitions += 1
            claim = self._claim_of(event, claims)
            if claim is not None and claim.what == "enqueue":
                self._born(event, claim, who, op)
            job = self.table.lives.get(event.job)
            if job is None or job.state != event.previous_state:
                known = "gone" if job is None else job.state or "new"
                raise Illegal(
                    f"entry {entry.index} moves job {event.job} from"
                    f" {event.previous_state or 'new'} to {event.state or 'gone'},"
                    f" which is {known}",
                    op,
                )
            if claim is None:
                self._unclaimed(entry, event, job)
            else:
                job_rules.check_claim(self.table, claim, job, who, op)
                self._times.claimed(claim, job, event.state, self.now_ms)
            self.table.move(job, event.state, self.now_ms)
            if event.state == "READY":
                job_rules.check_ready(self.table, job, entry)
            self._times.moved(job)

    def _claim_of(self, event: Event, claims: dict[int, list[Claim]]) -> Claim | None:
        for claim in claims.get(event.job, []):
            is_from = self._may_begin(claim, event.previous_state)
            if event.state in claim.states and is_from:
                claims[event.job].remove(claim)
                return claim
        return None

    def _may_begin(self, claim: Claim, state: str) -> bool:
        match claim.what:
            case "enqueue":
                return not state
            case "reserve":
                return state == "READY"
            case "cancel_job":
                return state != "RESERVED"
            case _:
                return state == "RESERVED" or self._may_be_late(claim)

    def _may_be_late(self, claim: Claim) -> bool:
        job = self.table.lives.get(claim.job)
        if job is None or claim.what != "complete" or job.token != claim.args["token"]:
            return False
        return bool(self.table.queue(job.queue).options["may_complete_late"])

    def _born(self, event: Event, claim: Claim, who: str, op: int) -> None:
        job = JobLife(event.job, event.queue, claim.args, who, op, self.now_ms)
        job_rules.check_birth(self.table, job, who, op)
        self.table.add(job)

    def _unclaimed(self, entry: Entry, event: Event, job: JobLife) -> None:
        is_lost = job.state == "RESERVED" and job.lease in self._lost
        is_crash = job.until_ms <= self.now_ms
        if is_lost and self._lost[job.lease]:
            is_crash = True
            is_lost = not self.table.queue(job.queue).options["grace_ms"]
        why_not = job_rules.why_not(
            self.table,
            job,
            event.state,
            now_ms=self.now_ms,
            wall_ms=self.wall_ms,
            is_lost=is_lost,
        )
        if why_not:
            raise Illegal(
                f"entry {entry.index} moves job {job.id} from {job.state} to"
                f" {event.state or 'gone'}, though {why_not}",
                job.op,
            )
        if job.state == "RESERVED":
            is_over = not is_lost or is_crash
            self._times.returned(job, event.state, self.now_ms, may_charge=is_over)
        elif is_final(job.state) and event.state:
            job.revive()

    # --- what else an answer says --------------------------------------------------

    def _unfulfilled(self, claim: Claim, who: str, op: int) -> None:
        job = self.table.lives.get(claim.job)
        if claim.what == "cancel_job" and job is not None:
            if job.state == "RESERVED" and claim.answer["state"] == "RESERVED":
                job.is_cancel_requested = True
                return
            if job.state == "CANCELLED":
                return
        if job is not None and job.ended_by == (claim.what, claim.args.get("token")):
            return  # the same call again
        state = "not there" if job is None else job.state
        raise Illegal(
            f"{who} was acknowledged, but job {claim.job} was not moved by it and is"
            f" {state}",
            op,
            0 if job is None else job.op,
        )

    def _after(
        self,
        applied: Applied,
        name: str,
        args: Fields,
        answer: Fields,
        who: str,
        op: int,
    ) -> None:
        is_ok = applied.outcome == "ok"
        if name in WORKER_CALLS and applied.name != "txn":
            if not is_ok:
                job_rules.check_worker_refusal(self.table, applied, who, op)
            elif name in {"extend", "savepoint"}:
                self._times.extended(args, answer, who, op, self.now_ms)
        elif name == "reserve" and is_ok:
            job_rules.check_reserve(self.table, args, answer, who, op)
        elif name == "enqueue":
            job_rules.check_enqueue(self.table, applied, args, answer, who, op)
