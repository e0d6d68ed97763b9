"""Handing leadership to a chosen voter.

Rules: from the request on, proposals are refused with a definite error; the target is
brought up to date, then told to campaign at once. After T the leader gives up and goes
on. The request ends with leadership, however that ends (rule 12).

Source: thesis 3.10; rule 12.
"""

from raftd.consensus.messages import TimeoutNow
from raftd.consensus.state import State
from raftd.consensus.types import NodeId, Role
from raftd.consensus.voting import campaign, may_campaign

__all__ = ["begin", "flush", "on_timeout_now", "tick"]


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


def flush(s: State) -> None:
    """Tell the target to campaign, once, when it has the whole log."""
    target = s.transfer_to
    if target is None or s.transfer_is_sent:
        return
    if s.progress[target].match_index == s.log.last_index:
        s.transfer_is_sent = True
        s.out.now.append(TimeoutNow(s.id, target, s.term))


def tick(s: State) -> None:
    """Give up after T: the target did not take over."""
    if s.transfer_to is None:
        return
    s.transfer_elapsed += 1
    if s.transfer_elapsed >= s.config.election_ticks:
        s.transfer_to = None
        s.transfer_is_sent = False


def on_timeout_now(s: State, m: TimeoutNow) -> None:
    """Campaign at once, with the old leader's word against the vote lease."""
    if s.role is Role.CANDIDATE or s.leader not in (None, m.src):
        return
    if may_campaign(s):
        campaign(s, is_transfer=True)
