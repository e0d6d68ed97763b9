"""Sessions, their windows and what waits in them, against the model.

Proved: a number is applied once and answered the same for ever, also by a wait that
ended meanwhile, after the session's claims ended, and over restarts; closed windows
are forgotten when their time is over and not before; nobody waits on a dead session.

Source: SEMANTICS.md section 1; RELIABILITY.md rules 35 to 38 and 47.
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from raftd.statemachine.answers import Answer, AppliedEntry, Pending
from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import AnyCommand, encode_batch, seal
from raftd.statemachine.schema.jobs import JobsReserved, ReserveJobs
from raftd.statemachine.schema.kv import PutKey
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.locks import AcquireLock, LockGranted, ReleaseLock
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionOpened,
)
from tests.fuzz.models_sessions import GRANTED, WAITS, Outcome, SessionsModel
from tests.fuzz.profiles import FuzzMachine, case_of
from tests.fuzz.replay import check_replay, restarted
from tests.statemachine.harness import Harness

LIMITS: Final = Limits(window_answers_max=4, dedup_ms=4000, leases_max=3)
PICKS: Final = st.integers(0, 3)
NUMBERS: Final = st.integers(1, 9)
KINDS: Final = st.sampled_from(
    ["put", "cas", "lock", "lock", "try", "release", "release", "reserve"]
)


class SessionLife(FuzzMachine):
    """Three keys, three sessions at a time, one lock."""

    @initialize()
    def begin(self) -> None:
        self.harness = Harness(LIMITS)
        self.model = SessionsModel(
            answers_max=LIMITS.window_answers_max,
            dedup_ms=LIMITS.dedup_ms,
            sessions_max=LIMITS.leases_max,
        )
        self.model.now_ms = self.harness.now_ms
        self.known = [99]
        self.tokens: dict[tuple[int, int], int] = {}
        self.tickets: dict[int, tuple[int, int]] = {}
        self.answers: dict[tuple[int, int], Answer] = {}
        for pick in range(2):
            self.open(pick, 3000)

    # --- rules -----------------------------------------------------------------------

    @rule(pick=PICKS, ttl_ms=st.sampled_from([1000, 3000]))
    def open(self, pick: int, ttl_ms: int) -> None:
        key = bytes([pick]) * 16
        expected = self.model.judge_open(key)
        answer = self.entry(OpenSession(key, ttl_ms, "c")).answers[0]
        if isinstance(expected, int):
            ttl_ms = self.model.sessions[expected].ttl_ms
            assert answer == SessionOpened(expected, ttl_ms, is_new=False)
        elif expected is not None:
            assert isinstance(answer, Refusal)
            assert answer.reason is expected
        else:
            assert isinstance(answer, SessionOpened)
            assert answer.is_new
            assert answer.session > max(self.known[1:], default=0)
            self.model.open(answer.session, key, ttl_ms)
            self.known.append(answer.session)

    @rule(pick=PICKS, number=NUMBERS, acknowledged=st.integers(0, 8), kind=KINDS)
    def send(self, pick: int, number: int, acknowledged: int, kind: str) -> None:
        # Mostly nothing is acknowledged, so that windows fill up.
        acknowledged = acknowledged - 5 if acknowledged > 5 else 0
        self.send_as(self.session(pick), number, acknowledged, kind)

    @rule(pick=PICKS, up_to=NUMBERS)
    def acknowledge(self, pick: int, up_to: int) -> None:
        self.send_as(self.session(pick), up_to + 1, up_to, "put")

    @rule(pick=PICKS, numbers=st.lists(NUMBERS, min_size=2, max_size=4))
    def queue_up(self, pick: int, numbers: list[int]) -> None:
        for place, number in enumerate(numbers):
            self.send_as(self.session(pick + place), number, 0, "lock")

    @rule(pick=PICKS)
    def close(self, pick: int) -> None:
        session = self.session(pick)
        self.model.close(session)
        assert self.entry(CloseSession(session)).answers == [SessionClosed()]

    @rule(pick=PICKS)
    def revoke(self, pick: int) -> None:
        session = self.session(pick)
        is_alive = self.model.is_alive(session)
        if is_alive:
            self.model.revoke(session)
        answer = self.entry(RevokeLease(session)).answers[0]
        assert isinstance(answer, Refusal) != is_alive

    @rule(
        span_ms=st.sampled_from([1, 900, 900, 2500, 4000]),
        picks=st.lists(PICKS, max_size=3),
    )
    def time_passes(self, span_ms: int, picks: list[int]) -> None:
        renewals = tuple(self.session(pick) for pick in picks)
        self.harness.now_ms += span_ms
        self.model.now_ms += span_ms
        lost = [session for session in renewals if not self.model.renew(session)]
        self.model.fire_due()
        assert list(self.entry(renewals=renewals).lost) == lost

    @rule()
    def restart(self) -> None:
        self.harness = restarted(self.harness, LIMITS)

    # --- what must hold --------------------------------------------------------------

    @invariant()
    def sessions_are_the_models(self) -> None:
        if not hasattr(self, "harness"):
            return
        machine = self.harness.machine
        for session in self.known:
            view = machine.sessions.view(session)
            found = self.model.sessions.get(session)
            if found is None:
                assert view is None
                continue
            assert view is not None
            assert view.is_closed == (found.closed_ms is not None)
            assert view.acknowledged == found.acknowledged
            assert view.answers == len(found.answers)
            deadline_ms = found.deadline_ms if found.closed_ms is None else None
            assert machine.leases.deadline_ms(session) == deadline_ms
        closed = [it for it in self.model.sessions.values() if it.closed_ms is not None]
        assert machine.sessions.closed_count() == len(closed)

    @invariant()
    def the_line_is_the_models(self) -> None:
        if not hasattr(self, "harness"):
            return
        view = self.harness.machine.locks.inspect("l")
        holders = [] if view is None else [claim.lease for claim in view.holders]
        waiters = [] if view is None else [claim.lease for claim in view.waiters]
        holder = self.model.holder
        assert holders == ([] if holder is None else [holder.session])
        assert waiters == [claim.session for claim in self.model.line]
        for session in (*holders, *waiters):
            assert self.model.is_alive(session)

    def teardown(self) -> None:
        if not hasattr(self, "harness"):
            return
        check_replay(self.harness, LIMITS)

    # --- helpers ---------------------------------------------------------------------

    def session(self, pick: int) -> int:
        return self.known[-1 - pick % min(3, len(self.known))]

    def entry(self, *said: AnyCommand, renewals: tuple[int, ...] = ()) -> AppliedEntry:
        return self.settled(self.harness.entry(*said, renewals=renewals))

    def settled(self, applied: AppliedEntry) -> AppliedEntry:
        """Compare the waits that ended with those that the model ended."""
        expected, self.model.decided = self.model.decided, {}
        ended = {self.tickets.pop(it.ticket): it for it in applied.decided}
        assert ended.keys() == expected.keys()
        for place, decision in ended.items():
            self.check(place, expected[place], decision.answer)
            session, number = place
            kept = self.model.sessions.get(session)
            is_kept = kept is not None and number in kept.answers
            assert (decision.session, decision.number) == (place if is_kept else (0, 0))
            self.answers[place] = decision.answer
        return applied

    def send_as(self, session: int, number: int, acknowledged: int, kind: str) -> None:
        command = self.command(session, number, kind)
        request = seal(session, number, acknowledged, command)
        place = session, number
        expected = self.model.send(session, number, acknowledged, command)
        is_first = expected is None
        if expected is None:
            expected = self.run(session, number, command)
            self.model.keep(session, number, command, expected)
        harness = self.harness
        batch = encode_batch(harness.now_ms, harness.wall_ms, (), [request])
        applied = harness.apply(batch)
        answer = applied.answers[0]
        if is_first and isinstance(answer, Pending):
            self.tickets[answer.ticket] = place
        self.settled(applied)
        self.check(place, expected, answer)
        if is_first:
            self.answers[place] = answer
        elif self.is_kept(place, command):
            assert answer == self.answers[place]

    def is_kept(self, place: tuple[int, int], command: AnyCommand) -> bool:
        found = self.model.sessions.get(place[0])
        kept = found.answers.get(place[1]) if found is not None else None
        return kept is not None and kept[0] == command

    def run(self, session: int, number: int, command: AnyCommand) -> Outcome:
        """Have the model apply a command."""
        match command:
            case AcquireLock(wait_ms=wait_ms):
                return self.model.acquire(session, number, is_try=wait_ms == 0)
            case ReleaseLock(token=token):
                holder = self.model.holder
                mine = None if holder is None else (holder.session, holder.number)
                is_current = mine is not None and self.tokens.get(mine) == token
                is_held = holder is not None
                return self.model.release(is_held=is_held, is_current=is_current)
            case ReserveJobs():
                return "nothing"
            case PutKey(if_mod_rev=None):
                return "done"
            case _:
                return Reason.PRECONDITION

    def command(self, session: int, number: int, kind: str) -> AnyCommand:
        match kind:
            case "lock" | "try":
                wait_ms = 0 if kind == "try" else None
                return AcquireLock("l", session, f"{number}", wait_ms=wait_ms)
            case "release":
                holder = self.model.holder
                place = (0, 0) if holder is None else (holder.session, holder.number)
                return ReleaseLock("l", self.tokens.get(place, 7) - number // 9)
            case "reserve":
                return ReserveJobs(session, (("q", 1),), "w")
            case "cas":
                return PutKey(b"k", b"", if_mod_rev=1 << 40)
            case _:
                return PutKey(b"k", b"%d" % number)

    def check(self, place: tuple[int, int], expected: Outcome, answer: Answer) -> None:
        if isinstance(answer, Refusal):
            assert answer.reason == expected, (answer, expected)
        elif isinstance(answer, LockGranted):
            assert expected == GRANTED
            assert self.tokens.setdefault(place, answer.token) == answer.token
        elif isinstance(answer, Pending):
            assert expected == WAITS
        elif isinstance(answer, JobsReserved):
            assert expected == "nothing"
        else:
            assert expected == "done", (answer, expected)


TestSessionLife = case_of(SessionLife, 120, 40)
