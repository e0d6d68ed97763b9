"""Planted bugs of replication and commit: who has what, and since when for sure.

Source: RELIABILITY.md rules 11, 15 to 24; section 6.
"""

from __future__ import annotations

from typing import Final

from raftd.consensus import core, following, output, replication
from raftd.consensus.messages import AppendReply, Heartbeat, Input, Message
from raftd.consensus.outbox import Outbox
from raftd.consensus.progress import Progress
from raftd.consensus.proposals import advance_commit
from raftd.consensus.quorum import committed_index
from raftd.consensus.state import State
from raftd.consensus.types import Entry, Index, NodeId
from tests.mutants.bug import Bug
from tests.mutants.finders import Cores, Scripted, Simulated
from tests.sim.focus import BUSY, QUIET

__all__ = ["REPLICATION"]

_on_heartbeat = following.on_heartbeat
_step_older = core._step_older  # noqa: SLF001  # put back in its own place


def _commit_old_terms(s: State) -> None:
    matches = {peer: progress.match_index for peer, progress in s.progress.items()}
    matches[s.id] = s.log.durable
    index = committed_index(s.membership, matches)
    if index > s.commit:
        advance_commit(s, index)
        s.is_flush_due = True


def _answer_before_sync(
    s: State, message: Message, _: list[Message], __: object, *, is_durable: bool
) -> None:
    assert is_durable in {True, False}
    s.out.now.append(message)


def _count_what_is_written(s: State) -> None:
    matches = {peer: progress.match_index for peer, progress in s.progress.items()}
    matches[s.id] = s.log.last_index
    index = committed_index(s.membership, matches)
    if index > s.commit and index >= s.term_start_index:
        advance_commit(s, index)
        s.is_flush_due = True


def _commit_past_match(s: State, peer: NodeId, read_id: int) -> None:
    s.out.now.append(Heartbeat(s.id, peer, s.term, s.commit, read_id))


def _commit_what_there_is(s: State, m: Heartbeat) -> None:
    commit = Index(min(m.commit, s.log.last_index))
    _on_heartbeat(s, Heartbeat(m.src, m.dst, m.term, commit, m.read_id))


def _truncate_always(s: State, entries: tuple[Entry, ...]) -> None:
    first = entries[0].index
    if first <= s.log.last_index:
        s.log.truncate(first)
        s.out.forget_from(first)
    for entry in entries:
        s.log.append(entry)


def _vouch_for_anything(_: Outbox, __: Index) -> None:
    return


def _count_old_replies(s: State, m: Input) -> None:
    if isinstance(m, AppendReply):
        replication.on_append_reply(s, m)
    else:
        _step_older(s, m)


def _send_nothing(_: State, __: NodeId, ___: Progress) -> None:
    return


def _leave_old_leaders(s: State, src: NodeId) -> None:
    assert s.id != src


REPLICATION: Final = (
    Bug(
        name="ack-before-sync",
        does="votes and matches are told before they are on disk",
        breaks=("DUR", "ES"),
        repeats="etcd#14143, NATS 2.12.1, scenario 3",
        patches=((output, "_route", _answer_before_sync),),
        finder=Simulated(),
    ),
    Bug(
        name="leader-counts-itself",
        does="a leader counts its own entries before they are on its disk",
        breaks=("DUR",),
        repeats="etcd#14370, scenario 23",
        patches=((replication, "maybe_commit", _count_what_is_written),),
        finder=Simulated(),
    ),
    Bug(
        name="aba-completion",
        does="the end of an old write vouches for entries that took its entries' place",
        breaks=("DUR", "LM"),
        repeats="etcd-io/raft async_storage_writes_append_aba_race, scenario 4",
        patches=((Outbox, "forget_from", _vouch_for_anything),),
        finder=Simulated(
            BUSY,
            write_us=50_000,
            pre_vote=False,
            faults=("partition", "pause"),
            fault_interval_us=100_000,
            downtime_us=300_000,
            loss=0.05,
        ),
    ),
    Bug(
        name="commit-old-term",
        does="an entry of an older term is committed by counting",
        breaks=("LC", "SMS"),
        repeats="figure 8 of the Raft paper, logcabin#44, scenario 5",
        patches=((replication, "maybe_commit", _commit_old_terms),),
        finder=Cores(),
        script=Scripted("scenario_05_figure_8_counted"),
    ),
    Bug(
        name="commit-past-match",
        does="heartbeats commit at a follower what it has, right or wrong",
        breaks=("SMS",),
        repeats="scenario 9, rule 15",
        patches=(
            (replication, "send_heartbeat", _commit_past_match),
            (following, "on_heartbeat", _commit_what_there_is),
        ),
        finder=Simulated(BUSY),
    ),
    Bug(
        name="stale-truncation",
        does="an append that comes late cuts off what was acknowledged since",
        breaks=("DUR", "LM"),
        repeats="scenario 7, rule 16",
        patches=((following, "_take_in", _truncate_always),),
        finder=Simulated(),
    ),
    Bug(
        name="old-term-reply",
        does="a match of the leader's own older leadership is counted in its new one",
        breaks=("SMS",),
        repeats="scenario 6, rule 18",
        patches=((core, "_step_older", _count_old_replies),),
        finder=Scripted("scenario_06_old_ack_counted"),
    ),
    Bug(
        name="old-leader-unanswered",
        does="a leader of a lower term is never told that there is a higher one",
        breaks=("LIV",),
        repeats="rule 6 (free the stuck node)",
        patches=((following, "answer_old_leader", _leave_old_leaders),),
        finder=Simulated(
            QUIET,
            check_quorum=True,
            pre_vote=False,
            faults=("partition", "crash"),
            fault_interval_us=500_000,
        ),
    ),
    Bug(
        name="lost-window",
        does="when a whole window of appends is lost, nothing is ever sent again",
        breaks=("LIV",),
        repeats="scenario 47, rule 20",
        patches=((replication, "_send_empty_append", _send_nothing),),
        finder=Simulated(),
    ),
)
