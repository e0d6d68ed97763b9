"""Leadership transfer and pre-vote, claim by claim: thesis 3.10, 6.2 and 9.6."""

import pytest

from raftd.consensus import (
    NodeId,
    ProgressState,
    RefusalReason,
    Refused,
    Role,
    Term,
)
from raftd.consensus.messages import PreVote, PreVoteReply, TimeoutNow, Vote
from tests.consensus.helpers import (
    HEARTBEAT,
    T,
    appends_to,
    limited,
    pre_vote_of,
    vote_of,
)
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.words import heartbeat_of, pre_vote_reply_of, sent


def _leading(size: int = 3) -> Network:
    net = Network(size)
    net.elect(1)
    net.tick(1, HEARTBEAT)
    net.sent.clear()
    return net


def test_3_10_1_the_prior_leader_takes_no_more_requests() -> None:
    """From the beginning of the transfer on (3.10 step 1)."""
    net = _leading()
    net.isolate(2)
    assert net.core(1).transfer(NodeId(2))
    refused = Refused(RefusalReason.TRANSFERRING, NodeId(1))
    assert net.core(1).propose(b"x") == refused


def test_3_10_2_it_brings_the_target_up_to_date_first() -> None:
    """By ordinary replication (3.10 step 2)."""
    net = _leading()
    net.isolate(2)
    for number in range(5):
        net.propose(1, b"%d" % number)
    net.settle()
    net.core(1).unreachable(NodeId(2))
    net.core(1).transfer(NodeId(2))
    net.settle()
    net.heal()
    net.held = {(2, 1)}
    net.tick(1, HEARTBEAT)
    net.deliver_between(2, 1)
    net.settle()
    assert appends_to(net.sent, 2)[-1].entries
    assert not sent(net, TimeoutNow)
    assert net.core(1).progress_states()[NodeId(2)] is ProgressState.PROBE
    net.deliver_between(2, 1)
    net.settle()
    assert [m.dst for m in sent(net, TimeoutNow)] == [2]


def test_3_10_3_the_target_campaigns_as_if_its_timer_had_run_out() -> None:
    """At once, in the next term (3.10 step 3)."""
    net = _leading()
    net.isolate(2)
    net.inject(TimeoutNow(NodeId(1), NodeId(2), Term(1)))
    net.settle()
    assert (net.core(2).role, net.core(2).term) == (Role.CANDIDATE, 2)
    assert [m.dst for m in sent(net, Vote, src=2)] == [1, 3]
    assert sent(net, PreVote) == []


def test_3_10_the_prior_leader_steps_down_by_the_higher_term() -> None:
    """The target's request reaches it like any (3.10)."""
    net = _leading(5)
    net.core(1).transfer(NodeId(4))
    net.settle()
    assert (net.leader(), net.core(1).role) == (4, Role.FOLLOWER)
    assert {net.core(node).term for node in net.ids} == {2}
    assert net.core(4).is_term_started


def test_3_10_after_an_election_timeout_it_takes_requests_again() -> None:
    """The target may have failed (3.10)."""
    net = _leading()
    net.isolate(2)
    net.core(1).transfer(NodeId(2))
    net.tick(1, T - 1)
    assert isinstance(net.core(1).propose(b"x"), Refused)
    net.tick(1)
    place = net.propose(1, b"x")
    net.settle()
    assert net.core(1).commit_index == place.index


def test_3_10_no_harm_is_done_if_it_has_failed_in_between() -> None:
    """The other nodes elect somebody by their own timers (3.10)."""
    net = _leading()
    net[2].is_disk_held = True
    net.core(1).transfer(NodeId(2))
    net.settle()
    assert net.core(2).role is Role.CANDIDATE
    net.restart(2)
    net.isolate(2)
    net.tick_all(4 * T)
    assert net.leader() in (1, 3)


def test_3_10_a_transfer_ends_with_the_leadership_it_was_to_end() -> None:
    """Whoever leads again later takes requests (3.10)."""
    net = _leading()
    net.isolate(2)
    net.core(1).transfer(NodeId(2))
    net.inject(heartbeat_of(3, 1, 2))
    net.heal()
    net.elect(1)
    place = net.propose(1, b"x")
    net.settle()
    assert net.core(1).commit_index == place.index


@pytest.mark.parametrize("to", [1, 4, 5])
def test_3_10_only_another_voter_can_take_over(to: int) -> None:
    """Who cannot campaign must not be waited for (3.10, 4.2.1)."""
    net = Network(4, voters=(1, 2, 3), learners=(4,))
    net.elect(1)
    assert not net.core(1).transfer(NodeId(to))
    net.propose(1, b"x")


# --- 6.2: a leader without its cluster ------------------------------------------------


def test_6_2_a_leader_steps_down_without_a_round_to_a_majority() -> None:
    """Within an election timeout, so that clients look elsewhere (6.2)."""
    net = _leading(5)
    net.isolate(1, 2)
    net.tick(1, 2 * T)
    assert net.core(1).role is Role.FOLLOWER
    assert net.core(1).propose(b"x") == Refused(RefusalReason.NOT_LEADER, None)


# --- 9.6: pre-vote -------------------------------------------------------------------


def test_9_6_a_node_raises_its_term_only_when_it_could_win() -> None:
    """It first learns that a majority would vote for it (9.6)."""
    net = Network(5)
    net.isolate(1)
    net.tick(1, 2 * T - 1)
    assert (net.core(1).role, net.core(1).term) == (Role.PRE_CANDIDATE, 0)
    assert net[1].disk.hard_state.term == 0
    net.inject(pre_vote_reply_of(2, 1, 1, granted=True))
    assert net.core(1).term == 0
    net.inject(pre_vote_reply_of(3, 1, 1, granted=True))
    assert (net.core(1).role, net.core(1).term) == (Role.CANDIDATE, 1)


def test_9_6_it_asks_for_the_term_it_would_enter_with_the_log_it_has() -> None:
    """The request is that of the campaign to come (9.6)."""
    net = Network(logs={1: entries_of_terms(1, 2)})
    net.isolate(1)
    net.tick(1, 2 * T - 1)
    asked = {(m.dst, m.term, m.last_index, m.last_term) for m in sent(net, PreVote)}
    assert asked == {(2, 3, 2, 2), (3, 3, 2, 2)}


@pytest.mark.parametrize(
    ("last", "granted"),
    [((2, 2), True), ((3, 1), True), ((2, 1), False), ((1, 9), False)],
)
def test_9_6_a_voter_agrees_if_the_log_would_get_its_vote(
    last: tuple[int, int], granted: bool
) -> None:
    """First condition (9.6)."""
    net = Network(logs={2: entries_of_terms(1, 2)})
    net.inject(pre_vote_of(1, 2, 3, last))
    net.settle()
    assert [m.granted for m in sent(net, PreVoteReply)] == [granted]


def test_9_6_and_if_it_has_not_heard_a_leader_for_an_election_timeout() -> None:
    """Second condition: not a tick earlier (9.6)."""
    net = Network()
    net.isolate(2)
    net.inject(heartbeat_of(1, 2, 1))
    for elapsed in range(T + 1):
        net.inject(pre_vote_of(3, 2, 2))
        net.settle()
        granted = [m.granted for m in sent(net, PreVoteReply)]
        assert granted == ([True] if elapsed == T else [])
        if elapsed < T:
            net.core(2).tick()


def test_9_6_promises_bind_nobody() -> None:
    """A voter may agree to several candidates, and its vote stays free (9.6)."""
    net = Network(4)
    for candidate in (1, 3, 4):
        net.inject(pre_vote_of(candidate, 2, 1))
        net.settle()
    assert [m.granted for m in sent(net, PreVoteReply)] == [True] * 3
    assert (net.core(2).term, net.core(2).vote) == (0, None)
    net.inject(vote_of(4, 2, 1))
    assert net.core(2).vote == 4


def test_9_6_a_promise_for_another_term_is_not_counted() -> None:
    """It answers a question that is over (9.6)."""
    net = Network()
    net.isolate(1)
    net.tick(1, 2 * T - 1)
    net.inject(pre_vote_reply_of(2, 1, 2, granted=True))
    assert net.core(1).role is Role.PRE_CANDIDATE
    net.inject(pre_vote_reply_of(2, 1, 1, granted=True))
    assert net.core(1).role is Role.CANDIDATE


def test_9_6_a_cut_off_node_disturbs_nobody_when_it_returns() -> None:
    """Its term has not grown meanwhile (9.6); without pre-votes it would have."""
    for pre_vote in (True, False):
        net = Network(configure=limited(pre_vote=pre_vote, check_quorum=False))
        net.elect(1)
        net.isolate(3)
        net.tick_all(10 * T)
        net.heal()
        net.tick_all(4 * T)
        assert (net.core(1).term == 1) == pre_vote


def test_9_6_pre_vote_does_not_keep_a_cluster_from_electing() -> None:
    """When the leader really is gone, the others agree within a few timeouts (9.6)."""
    waits = []
    for seed in range(20):
        net = Network(5, seed=seed)
        net.elect(1)
        net.isolate(1)
        ticks = 0
        while net.leader() in (None, 1):
            net.tick_all()
            ticks += 1
        waits.append(ticks)
    assert max(waits) < 6 * T
