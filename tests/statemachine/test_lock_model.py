"""Locks against a naive model: any commands, any times, any restarts.

RELIABILITY.md section 4: never two exclusive holders, never one with shared ones, never
more than the limit; tokens rise; first come, first served; one decision per ticket; no
grant on a dead lease.
"""

from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from raftd.statemachine.answers import Decision, Pending
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.locks import (
    AcquireCancelled,
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockBroken,
    LockGranted,
    LockMode,
    LockReleased,
    ReleaseLock,
)
from raftd.statemachine.schema.sessions import CloseSession
from raftd.statemachine.schema.txn import Transact
from tests.statemachine.claims_harness import Bench, refusal_of
from tests.statemachine.lock_model import LockModel

NAMES: Final = st.sampled_from(["p", "q"])
PICKS: Final = st.integers(0, 7)
CLAIMANTS: Final = st.sampled_from("abc")
KINDS: Final = st.sampled_from(
    [
        (LockMode.EXCLUSIVE, 1),
        (LockMode.SHARED, 1),
        (LockMode.SHARED, 1),
        (LockMode.SEMAPHORE, 2),
    ]
)
Request = tuple[str, int, str, tuple[LockMode, int], int | None, int]
REQUESTS: Final = st.tuples(
    NAMES,
    PICKS,
    CLAIMANTS,
    KINDS,
    st.sampled_from([None, None, 0, 300, 1200]),
    st.sampled_from([0, 0, 500]),
)


def has_locks(test: "LocksAgainstModel") -> bool:
    """Spend the steps where something can happen."""
    return bool(test.bench.machine.locks.names())


class LocksAgainstModel(RuleBasedStateMachine):
    """One machine and one model, told the same."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.model = LockModel()
        self.sessions: set[int] = set()
        self.tokens: list[int] = [0]
        self.grant_lease(4000, is_session=False)

    # --- leases and time -----------------------------------------------------------

    @precondition(lambda self: len(self.model.leases) < 3)
    @rule(ttl_ms=st.integers(1000, 6000), is_session=st.booleans())
    def grant_lease(self, ttl_ms: int, *, is_session: bool) -> None:
        bench = self.bench
        if is_session:
            key_hash = len(bench.payloads).to_bytes(16, "big")
            lease = bench.session(key_hash, ttl_ms)
            self.sessions.add(lease)
        else:
            lease = bench.lease(ttl_ms)
        self.model.grant(lease, ttl_ms)

    @rule(pick=PICKS)
    def end_lease(self, pick: int) -> None:
        lease = self.some_lease(pick)
        if lease in self.model.leases:
            is_session = lease in self.sessions
            self.model.end_lease(lease, is_loss=not is_session)
            self.decide(CloseSession(lease) if is_session else RevokeLease(lease))

    @rule(span_ms=st.sampled_from([1, 100, 400, 400, 2500]), picks=st.sets(PICKS))
    def pass_time(self, span_ms: int, picks: set[int]) -> None:
        self.bench.now_ms += span_ms
        self.model.now_ms += span_ms
        renewals = tuple(sorted({self.some_lease(pick) for pick in picks}))
        for lease in renewals:
            self.model.renew(lease)
        self.model.fire_due()
        self.settle(self.bench.apply(renewals=renewals).decided)

    @rule()
    def restart(self) -> None:
        self.bench.reload()

    # --- locks ---------------------------------------------------------------------

    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=5))
    def acquire(self, requests: list[Request]) -> None:
        for name, pick, claimant, kind, wait_ms, delay_ms in requests:
            lease = self.some_lease(pick)
            self.acquire_one(
                AcquireLock(name, lease, claimant, *kind, wait_ms, delay_ms)
            )

    def acquire_one(self, command: AcquireLock) -> None:
        lease = command.lease
        expected = self.model.acquire(command)
        answer = self.bench.ask(command)
        if isinstance(expected, Reason):
            if lease in self.sessions and expected is Reason.LEASE_EXPIRED:
                assert isinstance(answer, Refusal)
            else:
                refusal_of(answer, expected)
        elif expected is None:
            assert isinstance(answer, Pending), answer
            self.model.wait(command, answer.ticket)
        else:
            assert isinstance(answer, LockGranted), answer
            if expected:
                assert answer.token == expected
            else:
                self.rise(answer.token)
            self.model.learn(command.name, (lease, command.claimant), answer.token)

    @precondition(has_locks)
    @rule(name=NAMES, pick=PICKS, claimant=CLAIMANTS)
    def cancel(self, name: str, pick: int, claimant: str) -> None:
        lease = self.some_lease(pick)
        was_waiting = self.model.cancel(name, (lease, claimant))
        answer = self.decide(CancelAcquire(name, lease, claimant))
        assert answer == AcquireCancelled(was_waiting)

    @precondition(has_locks)
    @rule(name=NAMES, pick=PICKS)
    def release(self, name: str, pick: int) -> None:
        token = self.some_token(name, pick)
        reason = self.model.release(name, token)
        answer = self.decide(ReleaseLock(name, token))
        if reason is None:
            assert answer == LockReleased()
        else:
            refusal_of(answer, reason)

    @precondition(has_locks)
    @rule(name=NAMES, pick=PICKS)
    def release_twice_at_once(self, name: str, pick: int) -> None:
        """The second release is refused, so the first must not have happened."""
        release = ReleaseLock(name, self.some_token(name, pick))
        answer = self.decide(Transact((), (release, release)))
        assert isinstance(answer, Refusal)

    @precondition(has_locks)
    @rule(name=NAMES)
    def break_lock(self, name: str) -> None:
        holders = self.model.break_all(name)
        answer = self.decide(BreakLock(name))
        if holders is None:
            refusal_of(answer, Reason.NOT_FOUND)
        else:
            assert answer == LockBroken(holders)

    # --- what must hold ------------------------------------------------------------

    @invariant()
    def everybody_is_where_the_model_says(self) -> None:
        used = []
        for name, lock in sorted(self.model.locks.items()):
            view = self.bench.machine.locks.inspect(name)
            if view is None:
                assert not lock.holders
                assert not lock.line
                assert not lock.closed_until_ms
                continue
            used.append(name)
            assert view.closed_until_ms == lock.closed_until_ms
            holders = {party.token: party for party in view.holders}
            assert sorted(holders) == sorted(each.token for each in lock.holders)
            for each in lock.holders:
                party = holders[each.token]
                assert (party.lease, party.claimant) == each.party
                assert party.lease in self.model.leases
                assert self.bench.machine.locks.holds(name, each.token)
            assert [(party.lease, party.claimant) for party in view.waiters] == [
                wait.party for wait in lock.line
            ]
        assert self.bench.machine.locks.names() == used

    @invariant()
    def holders_agree_with_each_other(self) -> None:
        for name in self.bench.machine.locks.names():
            view = self.bench.machine.locks.inspect(name)
            assert view is not None
            modes = [party.mode for party in view.holders]
            if LockMode.EXCLUSIVE in modes:
                assert len(modes) == 1
            if LockMode.SEMAPHORE in modes:
                assert modes.count(LockMode.SEMAPHORE) == len(modes) <= view.limit

    @invariant()
    def nobody_who_could_come_in_is_left_waiting(self) -> None:
        assert not self.bench.machine.has_backlog
        waiting = {
            wait.ticket for lock in self.model.locks.values() for wait in lock.line
        }
        assert self.bench.open == waiting

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            self.bench.checkpoint()
            self.bench.replay()

    # --- helpers -------------------------------------------------------------------

    def some_lease(self, pick: int) -> int:
        leases = sorted(self.model.leases) or [1]
        return leases[pick % len(leases)] if pick < 7 else 99_999

    def some_token(self, name: str, pick: int) -> int:
        view = self.bench.machine.locks.inspect(name)
        if view is not None and view.holders and pick < 6:
            return view.holders[pick % len(view.holders)].token
        return self.tokens[pick % len(self.tokens)]

    def rise(self, token: int) -> None:
        assert token > self.tokens[-1]
        self.tokens.append(token)

    def decide(self, command: AnyCommand) -> object:
        applied = self.bench.apply(command)
        self.settle(applied.decided)
        return applied.answers[0]

    def settle(self, decided: list[Decision]) -> None:
        """Compare the entry's decisions with the model's, and learn the tokens."""
        expected = self.model.take_expected()
        assert {decision.ticket for decision in decided} == expected.keys()
        for decision in decided:
            reason = expected[decision.ticket]
            if reason is not None:
                refusal_of(decision.answer, reason)
                continue
            token = self.bench.token_of(decision.ticket)
            if token != self.tokens[-1]:
                self.rise(token)
        for name in self.bench.machine.locks.names():
            view = self.bench.machine.locks.inspect(name)
            assert view is not None
            for party in view.holders:
                self.model.learn(name, (party.lease, party.claimant), party.token)


LocksAgainstModel.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestLocksAgainstModel = LocksAgainstModel.TestCase
