"""Handing leadership to a chosen voter.

Rules:

* From the request on, proposals are refused with a definite error; the target is
  brought up to date, then told to campaign at once, again with each heartbeat. After T
  the leader gives up and goes on. The request ends with leadership, however that ends,
  and when the target is no voter any more (rule 12).
* A leader that is no member any more hands over to the follower that is furthest and
  steps down after T at the latest (rule 44). It tells the target first that its removal
  is committed, so that the target does not ask it for its vote: it may be gone by then.
* Who is told to campaign while a change is being applied does so right after that.

Source: thesis 3.10 and 4.2.2; rules 9, 12 and 44.
"""

from raftd.consensus.messages import TimeoutNow
from raftd.consensus.replication import send_heartbeat
from raftd.consensus.roles import become_follower
from raftd.consensus.state import State
from raftd.consensus.types import NodeId, Role
from raftd.consensus.voting import campaign, is_catching_up, may_campaign

__all__ = [
    "begin",
    "flush",
    "on_timeout_now",
    "reconsider",
    "repeat",
    "resume",
    "tick",
]


def begin(s: State, to: NodeId) -> bool:
    """Start to hand over to `to`; return whether that is possible."""
    if s.role is not Role.LEADER or to == s.id or to not in s.membership.voters:
        return False
    if s.transfer_to != to:
        s.transfer_to = to
        s.transfer_elapsed = 0
        s.transfer_is_sent = False
    s.is_flush_due = True
    return True


def reconsider(s: State) -> None:
    """After a change of membership: give up, or hand over because of it."""
    if s.transfer_to is not None and s.transfer_to not in s.membership.voters:
        _give_up(s)
    if s.is_departing and s.transfer_to is None:
        begin(s, _furthest_voter(s))


def _furthest_voter(s: State) -> NodeId:
    def merit(voter: NodeId) -> tuple[bool, int]:
        progress = s.progress[voter]
        return progress.is_active or progress.was_active, progress.match_index

    return max(s.membership.voters, key=merit)


def flush(s: State) -> None:
    """Tell the target to campaign when it has the whole log."""
    target = s.transfer_to
    if target is None or s.transfer_is_sent:
        return
    progress = s.progress[target]
    if progress.match_index == s.log.last_index:
        s.transfer_is_sent = True
        if s.is_departing and progress.commit_sent < s.commit:
            send_heartbeat(s, target, 0)
        s.out.now.append(TimeoutNow(s.id, target, s.term))


def repeat(s: State) -> None:
    """With a heartbeat: what was said before may be lost, or have come too early."""
    if s.transfer_is_sent:
        s.transfer_is_sent = False
        s.is_flush_due = True


def tick(s: State) -> None:
    """Give up after T: the target did not take over."""
    if s.transfer_to is None:
        return
    s.transfer_elapsed += 1
    if s.transfer_elapsed >= s.config.election_ticks:
        if s.is_departing:
            become_follower(s, s.term, None)
        else:
            _give_up(s)


def _give_up(s: State) -> None:
    s.transfer_to = None
    s.transfer_elapsed = 0
    s.transfer_is_sent = False


def on_timeout_now(s: State, m: TimeoutNow) -> None:
    """Campaign at once, with the old leader's word against the vote lease."""
    if s.role is Role.CANDIDATE or s.leader not in (None, m.src):
        return
    if may_campaign(s):
        campaign(s, is_transfer=True)
    elif is_catching_up(s):
        s.campaign_until_tick = s.ticks + s.config.election_ticks


def resume(s: State) -> None:
    """After applying: campaign, if that is what had to wait."""
    if s.ticks >= s.campaign_until_tick:
        s.campaign_until_tick = 0
    elif may_campaign(s):
        campaign(s, is_transfer=True)
