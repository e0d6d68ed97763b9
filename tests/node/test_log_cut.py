"""How much of the log is kept: for who lives, within the bound."""

from __future__ import annotations

from raftd.consensus.progress import ProgressState
from raftd.consensus.types import Index, NodeId
from raftd.consensus.view import FollowerView
from raftd.node.log_cut import LogCut
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.schema.kv import PutKey
from tests.node.lone import Inbox, Lone

_MIB = 1 << 20
_KEEP = 8 * _MIB
_LAST = 100


def _cut(keep_bytes: int = _KEEP) -> LogCut:
    """Count a log of entries of one MiB."""
    cut = LogCut(keep_bytes)
    for index in range(1, _LAST + 1):
        cut.note_applied(index, _MIB)
    return cut


def _follower(
    match: int,
    *,
    is_active: bool = True,
    state: ProgressState = ProgressState.REPLICATE,
    snapshot: int = 0,
) -> FollowerView:
    return FollowerView(
        Index(match), Index(match + 1), state, is_active, Index(snapshot)
    )


def _choose(cut: LogCut, *followers: FollowerView, state_index: int = 90) -> int:
    views = {NodeId(number + 2): seen for number, seen in enumerate(followers)}
    return cut.choose(_LAST, state_index, views)


def test_nothing_is_kept_for_a_member_alone() -> None:
    assert _choose(_cut()) == _LAST


def test_the_slowest_that_lives_keeps_what_it_needs() -> None:
    assert _choose(_cut(), _follower(97), _follower(99)) == 97


def test_beyond_the_bound_the_slow_one_does_not_count() -> None:
    assert _choose(_cut(), _follower(80), _follower(96)) == 96
    assert _choose(_cut(100 * 2 * _MIB), _follower(80), _follower(96)) == 80


def test_who_is_silent_after_a_mark_keeps_a_quarter_of_the_bound() -> None:
    cut = _cut()
    silent = _follower(_LAST - 1, is_active=False)
    for _ in range(3):
        assert _choose(cut, silent, _follower(_LAST)) == _LAST - 1
    cut.start_term()
    gone = _follower(96, is_active=False)
    assert _choose(cut, gone, _follower(99)) == 96
    assert _choose(cut, gone, _follower(99)) == 99
    cut.start_term()
    assert _choose(cut, gone, _follower(99)) == 96


def test_a_snapshot_on_its_way_keeps_what_follows_it_longer() -> None:
    sending = _follower(0, state=ProgressState.SNAPSHOT, snapshot=75)
    assert _choose(_cut(), sending, _follower(99)) == 75
    assert _choose(_cut(2 * _MIB), sending, _follower(99)) == 99


def test_a_snapshot_that_has_not_begun_will_be_the_newest_checkpoint() -> None:
    waiting = _follower(0, state=ProgressState.SNAPSHOT)
    assert _choose(_cut(), waiting, _follower(99), state_index=90) == 90


def test_a_cut_that_was_chosen_before_a_snapshot_began_leaves_it_of_use() -> None:
    sending = _follower(0, state=ProgressState.SNAPSHOT, snapshot=75)
    waiting = _follower(0, state=ProgressState.SNAPSHOT)
    views = {NodeId(2): sending, NodeId(3): waiting, NodeId(4): _follower(10)}
    assert _cut().spare(90, views) == 75
    assert _cut().spare(70, views) == 70, "it goes on behind that anyway"
    assert _cut(2 * _MIB).spare(90, views) == 90, "beyond the bound"
    assert _cut().spare(90, {}) == 90


def test_the_bytes_are_counted_from_any_entry_and_forgotten_with_the_log() -> None:
    cut = _cut()
    before = cut.bytes_behind(90)
    assert 10 * _MIB <= before <= 12 * _MIB
    cut.note_first(80)
    assert cut.bytes_behind(90) == before
    assert cut.bytes_behind(_LAST) <= _MIB


def test_a_mark_cuts_nothing_that_is_not_committed_even_if_nobody_counts() -> None:
    lone = Lone(1, 2, 3, settings=ReplicaSettings(log_keep_bytes=0))
    core, replica = lone.core, lone.replica
    lone.win(2)
    for key in (b"", b"a", b"b", b"c"):
        if key:
            lone.submit(PutKey(key, b"v"), Inbox())
            lone.settle()
        if key != b"c":
            lone.follow(2)
    assert core.durable_index == core.commit_index + 1
    replica.mark_beyond(core.commit_index)
    mark = replica.marks.due(replica.monotonic_ms)
    assert mark is not None
    assert mark.cut_index == core.commit_index
