"""Campaigns and votes.

Rules:

* A pre-vote asks for the next term and changes nothing, at the candidate or at the
  voter; a grant carries the asked term, a refusal the voter's own (rule 2). It is
  always answered when the voter knows a higher term (rule 3).
* Whoever heard its leader within T ignores campaigns, unless that leader asked for them
  or is the one campaigning (rules 3 and 5).
* A vote goes to a log at least as long, once per term, the same answer to the same
  question (rule 7). Anyone who is asked answers, member or not; only voters campaign
  (rule 8), if they are fit to lead (rule 14), and only when the changes that they
  have committed are applied and no snapshot is being installed (rule 9).
* Who answers says what it knows to be committed. Else a removal could end elections for
  good: the removed leader alone may know that it is, have the longest log, and no right
  to campaign, while the others still believe that they need its vote. Or a voter alone
  knows, and hears the removed one no more: it cannot win with its shorter log, and who
  could has to learn from its grant that no other is needed. An answer that wins is not
  learnt from, as that would only end the campaign.
* Candidates that take each other's votes try again soon, instead of after T as if a
  leader might live: a majority has just said that it hears none. They ask first again,
  so that a leader who was found meanwhile is not disturbed. Whose log is behind the
  rival's does not hurry, as it would lose. Nor does anybody after the first few terms
  that follow a leader's: what comes back as often as that is no coincidence, and only a
  longer draw can part it (rule 1).
* A candidate's own vote counts once it is durable, and its requests wait for that too.

Source: Raft paper sections 5.2, 5.4.1 and 6; thesis 3.10, 4.2.3 and 9.6.
"""

from raftd.consensus.messages import PreVote, PreVoteReply, Vote, VoteReply
from raftd.consensus.proposals import advance_commit
from raftd.consensus.quorum import VoteResult, vote_result
from raftd.consensus.roles import (
    become_candidate,
    become_follower,
    become_leader,
    become_pre_candidate,
)
from raftd.consensus.state import State
from raftd.consensus.types import EntryKind, Index, NodeId, Role, Term

__all__ = [
    "campaign",
    "count_own_vote",
    "is_catching_up",
    "is_leased_against",
    "may_campaign",
    "on_pre_vote",
    "on_pre_vote_reply",
    "on_vote",
    "on_vote_reply",
    "refuse_old_vote",
]

SPLIT_TERMS_MAX = 3
"""Terms after a leader's in which a split vote is soon followed by the next try."""


def may_campaign(s: State) -> bool:
    """Tell whether this node may stand for election."""
    if s.role is Role.LEADER or s.is_unfit or not s.membership.is_voter(s.id):
        return False
    return not is_catching_up(s)


def is_catching_up(s: State) -> bool:
    """Tell whether what is committed, stored or installed has to be applied first."""
    if s.log.is_installing:
        return True
    if s.applied < s.boot_commit:
        return True
    if s.applied == s.commit:
        return False
    unapplied = s.log.in_memory(s.applied + 1, s.commit)
    return any(entry.kind is EntryKind.CONFIG for entry in unapplied)


def campaign(s: State, *, is_transfer: bool = False) -> None:
    """Stand for election: ask first, unless the leader itself said to go ahead."""
    if s.config.pre_vote and not is_transfer:
        become_pre_candidate(s)
        term = Term(s.term + 1)
        last, last_term = s.log.last_index, s.log.last_term
        for peer in _voting_peers(s):
            s.out.now.append(PreVote(s.id, peer, term, last, last_term))
        _count(s, s.id, granted=True)
    else:
        _campaign_for_real(s, is_transfer=is_transfer)


def _campaign_for_real(s: State, *, is_transfer: bool) -> None:
    become_candidate(s)
    last, last_term = s.log.last_index, s.log.last_term
    for peer in _voting_peers(s):
        s.out.guarded.append(Vote(s.id, peer, s.term, last, last_term, is_transfer))


def _voting_peers(s: State) -> list[NodeId]:
    return [peer for peer in s.peers if s.membership.is_voter(peer)]


def count_own_vote(s: State) -> None:
    """After a write: the vote for itself counts if it is durable now (rule 7)."""
    if s.role is not Role.CANDIDATE or s.id in s.votes:
        return
    durable = s.out.durable_state
    if durable.term == s.term and durable.vote == s.id:
        _count(s, s.id, granted=True)


def is_leased_against(s: State, src: NodeId) -> bool:
    """Tell whether a campaign of `src` is to be ignored: the leader was just heard."""
    return (
        s.config.check_quorum
        and s.leader is not None
        and s.leader != src
        and s.election_elapsed < s.config.election_ticks
    )


def on_pre_vote(s: State, m: PreVote) -> None:
    """Say whether `m.src` would get this node's vote; nothing changes here."""
    is_possible = m.term > s.term or (m.term == s.term and _has_vote_for(s, m.src))
    granted = is_possible and _is_up_to_date(s, m.last_index, m.last_term)
    term = m.term if granted else s.term
    s.out.guarded.append(PreVoteReply(s.id, m.src, term, granted, *_known_commit(s)))


def on_vote(s: State, m: Vote) -> None:
    """Give the vote of this term, or not."""
    granted = _has_vote_for(s, m.src) and _is_up_to_date(s, m.last_index, m.last_term)
    if granted:
        s.vote = m.src
        s.election_elapsed = 0
    elif s.role is Role.CANDIDATE:
        _meet_rival(s, m)
    _answer_vote(s, m.src, granted=granted)


def _meet_rival(s: State, rival: Vote) -> None:
    """Try again soon if neither this candidate nor `rival` may win; see the rules.

    The wait is random, so that they part; at the least a heartbeat, which is ample for
    the votes that may still come if others than these two have any to give.
    """
    rival_last = (rival.last_term, rival.last_index)
    is_behind = rival_last > (s.log.last_term, s.log.last_index)
    is_usual = s.term > s.led_term + SPLIT_TERMS_MAX
    if is_behind or is_usual or not s.config.pre_vote:
        return
    heartbeat = s.config.heartbeat_ticks
    again = s.election_elapsed + s.rng.randint(heartbeat, 3 * heartbeat)
    s.timeout_ticks = min(s.timeout_ticks, again)


def _answer_vote(s: State, candidate: NodeId, *, granted: bool) -> None:
    reply = VoteReply(s.id, candidate, s.term, granted, *_known_commit(s))
    s.out.guarded.append(reply)


def _known_commit(s: State) -> tuple[Index, Term]:
    term = s.log.term_at(s.commit)
    assert term is not None, "what is committed is in the log, or right before it"
    return s.commit, term


def refuse_old_vote(s: State, m: Vote) -> None:
    """Answer a candidate of a lower term with the term it has missed."""
    _answer_vote(s, m.src, granted=False)


def on_pre_vote_reply(s: State, m: PreVoteReply) -> None:
    """Count an answer to this node's question, if it still stands."""
    is_asked = s.role is Role.PRE_CANDIDATE
    if is_asked and (not m.granted or m.term == s.term + 1):
        _count(s, m.src, granted=m.granted)
    if s.role is not Role.CANDIDATE:  # that would end what was just won
        _learn_commit(s, m)


def on_vote_reply(s: State, m: VoteReply) -> None:
    """Count a vote of this term."""
    if s.role is Role.CANDIDATE:
        _count(s, m.src, granted=m.granted)
    _learn_commit(s, m)


def _learn_commit(s: State, m: PreVoteReply | VoteReply) -> None:
    """Logs with an entry in common are equal up to it, and so is what is committed."""
    is_known = m.commit > s.commit and s.log.term_at(m.commit) == m.commit_term
    if not is_known or s.role is Role.LEADER:
        return
    advance_commit(s, m.commit)
    if s.role is not Role.FOLLOWER and is_catching_up(s):
        become_follower(s, s.term, None)


def _has_vote_for(s: State, candidate: NodeId) -> bool:
    return s.vote == candidate or (s.vote is None and s.leader is None)


def _is_up_to_date(s: State, last_index: Index, last_term: Term) -> bool:
    return (last_term, last_index) >= (s.log.last_term, s.log.last_index)


def _count(s: State, voter: NodeId, *, granted: bool) -> None:
    s.votes.setdefault(voter, granted)
    result = vote_result(s.membership, s.votes)
    if result is VoteResult.LOST:
        become_follower(s, s.term, None)
    elif result is VoteResult.WON:
        if s.role is Role.PRE_CANDIDATE:
            _campaign_for_real(s, is_transfer=False)
        else:
            become_leader(s)
