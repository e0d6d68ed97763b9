"""Safety, claim by claim: Raft paper 5.4, with figures 3 and 8."""

import itertools

import pytest

from raftd.consensus import Role, Term
from raftd.consensus.messages import Append, Vote, VoteReply
from tests.consensus.helpers import HEARTBEAT, T, append_of, limited, vote_of
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.words import accepted_by, sent, vote_reply_of

_LOGS = [
    terms
    for size in range(4)
    for terms in itertools.combinations_with_replacement((1, 2, 3), size)
]


def test_5_4_1_the_later_last_term_wins_then_the_longer_log() -> None:
    """What up to date means, over all pairs of logs of up to three entries (5.4.1)."""
    for mine in _LOGS:
        net = Network(2, logs={2: entries_of_terms(*mine)})
        for term, theirs in enumerate(_LOGS, 4):
            last = theirs[-1] if theirs else 0
            net.inject(vote_of(1, 2, term, (last, len(theirs))))
            net.settle()
            reply = sent(net, VoteReply)[-1]
            own = mine[-1] if mine else 0
            is_older = last < own or (last == own and len(theirs) < len(mine))
            assert reply.granted == (not is_older), (mine, theirs)


def test_5_4_1_a_request_carries_the_end_of_the_candidates_log() -> None:
    """Index and term of its last entry (5.4.1)."""
    net = Network(
        logs={1: entries_of_terms(1, 1, 3)}, configure=limited(pre_vote=False)
    )
    net.elect(1)
    ends = {(m.last_term, m.last_index) for m in sent(net, Vote, src=1)}
    assert ends == {(3, 3)}


_MAJORITIES = list(itertools.combinations(range(1, 6), 3))


@pytest.mark.parametrize("holders", _MAJORITIES)
def test_5_4_1_only_who_has_all_committed_entries_can_win(
    holders: tuple[int, ...],
) -> None:
    """Any majority that votes meets the majority that has the entry (5.4.1, 5.4.3)."""
    for candidate in range(1, 6):
        logs = {
            node: entries_of_terms(1, 1) if node in holders else entries_of_terms(1)
            for node in range(1, 6)
        }
        net = Network(5, logs=logs, configure=limited(pre_vote=False))
        while net.core(candidate).term == 1:
            net.tick(candidate)
        assert (net.core(candidate).role is Role.LEADER) == (candidate in holders)


def _as_in_figure_8() -> Network:
    """Node 1 leads term 4 and has (2, 2), as has node 2; 5 has (2, 3) instead."""
    first, second = entries_of_terms(1, 2), entries_of_terms(1, 3)
    old = entries_of_terms(1)
    net = Network(
        5,
        logs={1: first, 2: first, 3: old, 4: old, 5: second},
        terms=dict.fromkeys(range(1, 6), 3),
        configure=limited(pre_vote=False, append_bytes_max=1),
    )
    net.isolate(5)
    net.held = {(1, peer) for peer in (2, 3, 4)}
    while net.core(1).role is Role.FOLLOWER:
        net.core(1).tick()
        net.settle()
    for voter in (2, 3):
        net.inject(vote_reply_of(voter, 1, 4, granted=True))
    assert (net.core(1).role, net.core(1).term) == (Role.LEADER, 4)
    net.settle()
    return net


def test_5_4_2_an_older_entry_is_not_committed_by_counting() -> None:
    """Though a majority has it: figure 8 (c), (5.4.2)."""
    net = _as_in_figure_8()
    net.inject(accepted_by(2, 1, 4, 2))
    net.inject(accepted_by(3, 1, 4, 2))
    net.inject(accepted_by(4, 1, 4, 2))
    net.settle()
    assert net.core(1).commit_index == 0


def test_5_4_2_an_entry_of_the_own_term_takes_the_older_ones_along() -> None:
    """Figure 8 (e): then all before it is committed, by log matching (5.4.2)."""
    net = _as_in_figure_8()
    net.inject(accepted_by(2, 1, 4, 3))
    net.settle()
    assert net.core(1).commit_index == 0
    net.inject(accepted_by(3, 1, 4, 3))
    net.settle()
    assert [e.term for e in net[1].applied] == [1, 2, 4]


def test_5_4_2_what_a_majority_has_can_still_be_overwritten() -> None:
    """Figure 8 (d): hence the rule; node 5 wins and puts its own there (5.4.2)."""
    first = entries_of_terms(1, 2)
    logs = {1: first, 2: first, 3: first, 4: first[:1], 5: entries_of_terms(1, 3)}
    net = Network(5, logs=logs, terms=dict.fromkeys(range(1, 6), 4))
    net.isolate(1)
    net.elect(5)
    net.heal()
    net.tick(5, 2 * HEARTBEAT)
    for node in net.ids:
        assert [e.term for e in net[node].disk.log] == [1, 3, 5]


def test_5_4_2_after_figure_8_e_node_5_cannot_win_any_more() -> None:
    """An entry of term 4 on a majority keeps it out (5.4.2)."""
    first = entries_of_terms(1, 2, 4)
    logs = {1: first, 2: first, 3: first, 4: first[:1], 5: entries_of_terms(1, 3)}
    net = Network(
        5,
        logs=logs,
        terms=dict.fromkeys(range(1, 6), 4),
        configure=limited(pre_vote=False),
    )
    net.isolate(1)
    net.tick(5, 6 * T)
    assert net.core(5).term > 6
    assert net.core(5).role is not Role.LEADER


def test_5_4_2_entries_keep_their_term_when_a_later_leader_sends_them() -> None:
    """So that they can be reasoned about over time and over logs (5.4.2)."""
    earlier = entries_of_terms(1, 2, 2)
    net = Network(logs={1: earlier, 3: earlier})
    net.elect(1)
    assert net.core(1).term == 3
    assert [e.term for e in net[2].disk.log] == [1, 2, 2, 3]
    assert net[2].disk.log[:3] == earlier


def test_5_4_3_whoever_leads_later_has_what_was_committed_before() -> None:
    """Leader completeness over a chain of leaders, a minority cut off each time."""
    net = Network(5)
    committed: list[bytes] = []
    for round_number in range(12):
        net.isolate(*[1 + (round_number * 2 + k) % 5 for k in range(2)])
        net.tick_all(5 * T)
        leader = net.leader()
        assert leader is not None
        assert [e.payload for e in net[leader].log if e.payload] == committed
        payload = b"%d" % round_number
        net.propose(leader, payload)
        net.settle()
        assert net[leader].applied[-1].payload == payload
        committed.append(payload)
        net.heal()
    assert len({m.src for m in sent(net, Append)}) > 2


def test_figure_3_state_machine_safety_one_entry_at_an_index() -> None:
    """What a cut-off leader appended gives way everywhere, unapplied (5.4.3)."""
    net = Network()
    net.elect(1)
    net.isolate(1)
    net.propose(1, b"lost")
    net.settle()
    net.elect(2)
    net.propose(2, b"kept")
    net.settle()
    net.heal()
    net.tick(2, 2 * HEARTBEAT)
    states = [[e.payload for e in net[node].applied] for node in net.ids]
    assert states == [[b"", b"", b"kept"]] * 3


def test_figure_3_log_matching_is_kept_by_the_check_alone() -> None:
    """An append joins on only where term *and* index are the same (5.3, 5.4.3)."""
    net = Network(logs={2: entries_of_terms(1, 2, 2, 2)})
    net.inject(append_of(2, 3, (1, 4), 3))
    net.inject(append_of(2, 3, (3, 3), 3))
    net.settle()
    assert net.core(2).last_term == 2
    net.inject(append_of(2, 3, (2, 3), 3))
    net.settle()
    assert [e.term for e in net[2].disk.log] == [1, 2, 2, 3]
    assert net.core(2).term_at(4) == Term(3)


def test_5_4_3_a_leader_knows_what_is_committed_only_with_an_entry_of_its_own() -> None:
    """The whole cluster restarts without a commit index; nothing is applied yet."""
    log = entries_of_terms(1, 1, 1)
    net = Network(logs=dict.fromkeys((1, 2, 3), log))
    net.isolate(1)
    net.elect_quietly(1)
    for voter in (2, 3):
        net.inject(accepted_by(voter, 1, 2, 3))
    net.settle()
    assert (net.core(1).commit_index, net[1].applied) == (0, [])
    net.inject(accepted_by(2, 1, 2, 4))
    assert net.core(1).commit_index == 4
