"""Changes of membership against a model on sets: paper 6; thesis 4.1 to 4.3."""

from dataclasses import dataclass, replace
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftd.consensus import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    InvalidChange,
    Membership,
    NodeId,
    Proposal,
    RefusalReason,
    Refused,
    after,
    decode_change,
    encode_change,
)
from tests.consensus.helpers import HEARTBEAT
from tests.consensus.network import Network
from tests.consensus.quick import QUICK, majorities

_IDS = st.integers(1, 6).map(NodeId)
_STEPS = st.builds(
    ConfigStep, st.sampled_from(ChangeKind), st.integers(0, 6).map(NodeId)
)
_WISHES = st.builds(
    ConfigChange, st.lists(_STEPS, max_size=4).map(tuple), st.binary(max_size=3)
)
_LEAVE = ConfigChange(is_leave=True)


@dataclass(frozen=True)
class _Model:
    """A configuration as three sets."""

    voters: frozenset[NodeId]
    outgoing: frozenset[NodeId] = frozenset()
    learners: frozenset[NodeId] = frozenset()

    def membership(self) -> Membership:
        """The same in the core's words."""
        return Membership(
            tuple(sorted(self.voters)),
            tuple(sorted(self.outgoing)),
            tuple(sorted(self.learners)),
        )

    def after(self, change: ConfigChange) -> "_Model | None":
        """What a change makes of it; None if it is not allowed."""
        if change.is_leave:
            is_fit = self.outgoing and not change.steps
            return replace(self, outgoing=frozenset()) if is_fit else None
        if not change.steps:
            return self
        named = [step.node for step in change.steps]
        if self.outgoing or len(set(named)) < len(named) or min(named) < 1:
            return None
        new = self
        for step in change.steps:
            is_in = step.node in new.voters | new.learners
            match step.kind:
                case ChangeKind.ADD_LEARNER if not is_in:
                    new = replace(new, learners=new.learners | {step.node})
                case ChangeKind.PROMOTE if step.node not in new.voters:
                    new = new.without(step.node)
                    new = replace(new, voters=new.voters | {step.node})
                case ChangeKind.REMOVE if is_in:
                    new = new.without(step.node)
                case _:
                    return None
        if not new.voters:
            return None
        is_joint = len(self.voters ^ new.voters) > 1
        return replace(new, outgoing=self.voters if is_joint else frozenset())

    def without(self, node: NodeId) -> "_Model":
        """The same without one member."""
        gone = frozenset({node})
        return replace(self, voters=self.voters - gone, learners=self.learners - gone)


@st.composite
def _models(draw: st.DrawFn) -> _Model:
    voters = draw(st.frozensets(_IDS, min_size=1, max_size=5))
    learners = draw(st.frozensets(_IDS, max_size=3)) - voters
    return _Model(voters, learners=learners)


@st.composite
def _allowed(draw: st.DrawFn, model: _Model) -> ConfigChange:
    """A change of a configuration that is not joint: most do something."""
    steps: list[ConfigStep] = []
    for node in draw(st.lists(_IDS, unique=True, max_size=4)):
        kinds = [ChangeKind.ADD_LEARNER, ChangeKind.PROMOTE]
        if node in model.voters:
            kinds = [ChangeKind.REMOVE]
        elif node in model.learners:
            kinds = [ChangeKind.PROMOTE, ChangeKind.REMOVE]
        step = ConfigStep(draw(st.sampled_from(kinds)), node)
        if model.after(ConfigChange((*steps, step))) is not None:
            steps.append(step)
    return ConfigChange(tuple(steps))


def _quorums(model: _Model) -> list[frozenset[NodeId]]:
    """Every set that may decide, in one half or in both."""
    first = majorities(tuple(model.voters))
    if not model.outgoing:
        return first
    return [a | b for a, b in product(first, majorities(tuple(model.outgoing)))]


def _well_formed(membership: Membership) -> None:
    for part in (membership.voters, membership.outgoing, membership.learners):
        assert list(part) == sorted(set(part))
    assert not set(membership.learners) & set(membership.voters)
    everybody = membership.voters + membership.outgoing + membership.learners
    assert list(membership.members) == sorted(set(everybody))
    for node in range(8):
        votes = node in membership.voters + membership.outgoing
        assert membership.is_voter(NodeId(node)) == votes


@QUICK
@given(_models(), st.data())
def test_any_wish_does_what_the_sets_say_or_is_refused_in_a_sentence(
    model: _Model, data: st.DataObject
) -> None:
    """Rules 39 and 42; a refusal leaves everything as it was."""
    membership = model.membership()
    for _ in range(6):
        # Allowed but for the joint phase, which is to be told from what it became.
        settled = replace(model, outgoing=frozenset())
        wish = data.draw(_allowed(settled) | _WISHES | st.just(_LEAVE))
        expected = model.after(wish)
        if expected is None:
            before = msgspec.structs.replace(membership)
            with pytest.raises(InvalidChange, match=r"^.+ .+\.$"):
                after(membership, wish)
            assert membership == before
            continue
        model, membership = expected, after(membership, wish)
        assert membership == model.membership()
        _well_formed(membership)


@QUICK
@given(_models(), st.data())
def test_majorities_before_and_after_a_change_have_a_node_in_common(
    model: _Model, data: st.DataObject
) -> None:
    """All of them, at every step of a chain of changes (thesis 4.1 and 4.3)."""
    for _ in range(3):
        change = _LEAVE if model.outgoing else data.draw(_allowed(model))
        membership = after(model.membership(), change)
        new = model.after(change)
        assert new is not None
        assert membership == new.membership()
        for one, other in product(_quorums(model), _quorums(new)):
            assert one & other, (model, change)
        model = new


@QUICK
@given(_models(), st.data())
def test_leaving_gives_exactly_the_incoming_configuration(
    model: _Model, data: st.DataObject
) -> None:
    """The joint phase passes, and the old half leaves no trace (thesis 4.3)."""
    change = data.draw(_allowed(model))
    at_once = after(model.membership(), change)
    if at_once.outgoing:
        assert at_once.outgoing == tuple(sorted(model.voters))
        at_once = after(at_once, _LEAVE)
    assert at_once.outgoing == ()
    gone = {s.node for s in change.steps if s.kind is ChangeKind.REMOVE}
    votes = {s.node for s in change.steps if s.kind is ChangeKind.PROMOTE}
    learns = {s.node for s in change.steps if s.kind is ChangeKind.ADD_LEARNER}
    assert set(at_once.voters) == (model.voters | votes) - gone
    assert set(at_once.learners) == (model.learners | learns) - gone - votes


@QUICK
@given(_WISHES, _models(), st.booleans())
def test_a_change_is_the_same_after_its_way_through_the_log(
    wish: ConfigChange, model: _Model, is_leave: bool
) -> None:
    whole = msgspec.structs.replace(wish, is_leave=is_leave, result=model.membership())
    assert decode_change(encode_change(whole)) == whole


@QUICK
@given(st.integers(1, 3), st.data())
def test_a_cluster_ends_where_the_sets_say(voters: int, data: st.DataObject) -> None:
    """Proposed, committed, applied, left again, by real cores; refusals too."""
    ids = range(1, voters + 1)
    net = Network(6, voters=tuple(ids), learners=())
    net.elect(1)
    model = _Model(frozenset(map(NodeId, ids)))
    for _ in range(4):
        wish = data.draw(_allowed(model) | _WISHES | st.just(_LEAVE))
        leader = net.leader()
        assert leader is not None
        core = net.core(leader)
        last = core.last_index
        answer = core.change(wish)
        expected = model.after(wish)
        if expected is None:
            assert isinstance(answer, Refused)
            assert answer.reason is RefusalReason.INVALID_CHANGE
            assert answer.detail.endswith(".")
            assert (core.last_index, core.has_pending_change) == (last, False)
            continue
        assert isinstance(answer, Proposal)
        model = replace(expected, outgoing=frozenset())
        net.settle()
        net.tick_all(2 * HEARTBEAT)
        for node in model.voters | model.learners:
            assert net.core(node).membership == model.membership()
    net.check_logs()
