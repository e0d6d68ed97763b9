"""Elections against a naive model: any commands, any times, any restarts.

RELIABILITY.md section 4: at most one leader per epoch, epochs rise, first come, first
served; what the history tells is exactly what happened, "nobody" included.
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
from raftd.statemachine.events import ElectionEvent
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWithdrawn,
    CampaignWon,
    Proclaim,
    Proclaimed,
    Resign,
    Resigned,
    TransferElection,
    WithdrawCampaign,
)
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.txn import Transact
from tests.statemachine.claims_harness import Bench, refusal_of
from tests.statemachine.election_model import ElectionModel

NAMES: Final = st.sampled_from(["p", "q"])
PICKS: Final = st.integers(0, 7)
CLAIMANTS: Final = st.sampled_from("abc")
VALUES: Final = st.sampled_from([b"", b"1", b"22"])
Request = tuple[str, int, str, bytes, int | None]
REQUESTS: Final = st.tuples(
    NAMES, PICKS, CLAIMANTS, VALUES, st.sampled_from([None, None, 0, 300, 1200])
)


def has_leaders(test: "ElectionsAgainstModel") -> bool:
    """Spend the steps where something can happen."""
    return bool(test.bench.machine.elections.names())


class ElectionsAgainstModel(RuleBasedStateMachine):
    """One machine and one model, told the same."""

    @initialize()
    def begin(self) -> None:
        self.bench = Bench()
        self.model = ElectionModel()
        self.epochs: list[int] = [0]
        self.grant_lease(4000)

    # --- leases and time -----------------------------------------------------------

    @precondition(lambda self: len(self.model.leases) < 3)
    @rule(ttl_ms=st.integers(1000, 6000))
    def grant_lease(self, ttl_ms: int) -> None:
        self.model.grant(self.bench.lease(ttl_ms), ttl_ms)

    @rule(pick=PICKS)
    def revoke_lease(self, pick: int) -> None:
        lease = self.some_lease(pick)
        if lease in self.model.leases:
            self.model.end_lease(lease)
            self.decide(RevokeLease(lease))

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

    # --- elections -----------------------------------------------------------------

    @rule(requests=st.lists(REQUESTS, min_size=1, max_size=5))
    def campaign(self, requests: list[Request]) -> None:
        for name, pick, claimant, value, wait_ms in requests:
            lease = self.some_lease(pick)
            self.campaign_one(Campaign(name, lease, claimant, value, wait_ms))

    def campaign_one(self, command: Campaign) -> None:
        expected = self.model.campaign(command)
        answer = self.bench.ask(command)
        if isinstance(expected, Reason):
            refusal_of(answer, expected)
        elif expected is None:
            assert isinstance(answer, Pending), answer
            self.model.stand(command, answer.ticket)
        else:
            assert isinstance(answer, CampaignWon), answer
            assert not expected or answer.epoch == expected
            self.learn()

    @precondition(has_leaders)
    @rule(name=NAMES, pick=PICKS, claimant=CLAIMANTS)
    def withdraw(self, name: str, pick: int, claimant: str) -> None:
        lease = self.some_lease(pick)
        was_waiting = self.model.withdraw(name, (lease, claimant))
        answer = self.decide(WithdrawCampaign(name, lease, claimant))
        assert answer == CampaignWithdrawn(was_waiting)

    @precondition(has_leaders)
    @rule(name=NAMES, pick=PICKS, value=VALUES)
    def proclaim(self, name: str, pick: int, value: bytes) -> None:
        epoch = self.some_epoch(name, pick)
        reason = self.model.judge(name, epoch)
        if reason is None:
            self.model.proclaim(name, value)
        answer = self.decide(Proclaim(name, epoch, value))
        if reason is None:
            assert answer == Proclaimed()
        else:
            refusal_of(answer, reason)

    @precondition(has_leaders)
    @rule(name=NAMES, pick=PICKS)
    def resign(self, name: str, pick: int) -> None:
        epoch = self.some_epoch(name, pick)
        reason = self.model.judge(name, epoch)
        if reason is None:
            self.model.resign(name)
        answer = self.decide(Resign(name, epoch))
        if reason is None:
            assert answer == Resigned()
        else:
            refusal_of(answer, reason)

    @precondition(has_leaders)
    @rule(name=NAMES, pick=PICKS)
    def resign_twice_at_once(self, name: str, pick: int) -> None:
        """The second is refused, so the first must not have happened."""
        resign = Resign(name, self.some_epoch(name, pick))
        assert isinstance(self.decide(Transact((), (resign, resign))), Refusal)

    @precondition(has_leaders)
    @rule(name=NAMES, to=CLAIMANTS)
    def transfer(self, name: str, to: str) -> None:
        reason = self.model.transfer(name, to)
        answer = self.decide(TransferElection(name, to))
        if reason is not None:
            refusal_of(answer, reason)
        else:
            assert not isinstance(answer, Refusal)

    # --- what must hold ------------------------------------------------------------

    @invariant()
    def everybody_is_where_the_model_says(self) -> None:
        used = []
        elections = self.bench.machine.elections
        for name, model in sorted(self.model.elections.items()):
            view = elections.inspect(name)
            assert (model.leader is None) == (elections.leader(name) is None)
            if view is None:
                assert not model.line
                continue
            used.append(name)
            leader = view.leader
            assert leader is not None
            assert (leader.lease, leader.claimant) == model.leader
            assert leader.lease in self.model.leases
            assert (leader.epoch, leader.value) == (model.epoch, model.value)
            assert elections.holds(name, leader.epoch)
            assert [(each.lease, each.claimant) for each in view.candidates] == [
                wait.party for wait in model.line
            ]
        assert elections.names() == used

    @invariant()
    def the_history_tells_every_transition_in_order(self) -> None:
        events = [each for each in self.bench.events if isinstance(each, ElectionEvent)]
        told = [(event.name, event.claimant, event.value) for event in events]
        assert told == self.model.transitions
        assert all((event.epoch == 0) == (not event.claimant) for event in events)
        leaders: dict[int, tuple[str, str]] = {}
        for event in events:
            if event.epoch:
                leader = (event.name, event.claimant)
                assert leaders.setdefault(event.epoch, leader) == leader

    @invariant()
    def nobody_who_could_win_is_left_waiting(self) -> None:
        assert not self.bench.machine.has_backlog
        waiting = {
            wait.ticket
            for election in self.model.elections.values()
            for wait in election.line
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

    def some_epoch(self, name: str, pick: int) -> int:
        current = self.bench.machine.elections.current_token(name)
        return current if pick < 6 else self.epochs[pick % len(self.epochs)]

    def decide(self, command: AnyCommand) -> object:
        applied = self.bench.apply(command)
        self.settle(applied.decided)
        return applied.answers[0]

    def settle(self, decided: list[Decision]) -> None:
        """Compare the entry's decisions with the model's, and learn the epochs."""
        expected = self.model.take_expected()
        assert {decision.ticket for decision in decided} == expected.keys()
        for decision in decided:
            reason = expected[decision.ticket]
            if reason is None:
                assert self.bench.token_of(decision.ticket) > decision.ticket
            else:
                refusal_of(decision.answer, reason)
        self.learn()

    def learn(self) -> None:
        """Tell the model the epochs of new leaders, which must have risen."""
        before = self.epochs[-1]
        for name, model in sorted(self.model.elections.items()):
            if model.leader is not None and model.epoch == 0:
                model.epoch = self.bench.machine.elections.current_token(name)
                assert model.epoch > before
                self.epochs.append(model.epoch)
        self.epochs.sort()


ElectionsAgainstModel.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestElectionsAgainstModel = ElectionsAgainstModel.TestCase
