"""The simulator, or a script, sees every planted bug; without it the same runs pass.

Where whole-range draws find a bug too seldom for a short test, the range is narrowed
to where it can show (a *focus*): still random events, still a budget of seeds. What
random search misses within seconds is left to a script of the core's own tests.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftd.consensus.messages import AppendReply
from raftd.consensus.types import Index, NodeId, Term
from tests.consensus import test_durability, test_reads, test_replication, test_transfer
from tests.consensus import test_paper_snapshots as paper
from tests.consensus.network import Network
from tests.node import test_log_cut
from tests.sim.focus import narrowed
from tests.sim.planted import PLANTED, planted
from tests.sim.run import Simulation

_STEPS = 10_000

_SEEDS: dict[str, range] = {
    "ack-before-sync": range(1, 4),
    "another's-answer": range(36, 46),
    "change-before-the-no-op": range(1, 12),
    "change-without-apply": range(1, 20),
    "clock-uncapped": range(1, 20),
    "commit-past-match": range(1, 20),
    "dead-waiter": range(1, 20),
    "full-disk-swallowed": range(1, 30),
    "id-reused": range(1, 20),
    "install-acked-early": range(1, 12),
    "joint-half": range(1, 20),
    "learner-counted": range(1, 12),
    "lost-window": range(1, 30),
    "no-up-to-date-check": range(1, 30),
    "old-state-over-new": range(1, 40),
    "quorum-off-by-one": range(1, 30),
    "read-before-noop": range(1, 60),
    "read-unconfirmed": range(21, 36),
    "removed-counts-itself": range(1, 20),
    "renewed-early": range(1, 30),
    "snapshot-without-sessions": range(1, 12),
    "stale-truncation": range(1, 30),
    "told-too-early": range(1, 12),
    "vote-forgotten": range(1, 6),
    "window-ignored": range(1, 6),
    "window-not-in-checkpoint": range(1, 30),
}


@pytest.mark.parametrize("name", _SEEDS)
def test_random_runs_find_it_within_their_budget(name: str) -> None:
    for seed in _SEEDS[name]:
        options = narrowed(name, seed)
        try:
            with planted(name):
                Simulation(seed, options).run(_STEPS)
        except (AssertionError, LookupError):
            Simulation(seed, options).run(_STEPS)  # and passes without it
            return
    pytest.fail(f"{name} was not found with the seeds {_SEEDS[name]}")


def _old_replies_count_for_nothing() -> None:
    """A match of the node's own older leadership says nothing of this one's log."""
    net = Network(3)
    net.elect(1)
    old_term = net.core(1).term
    net.elect(2)
    net.elect(1)
    net.isolate(2)
    last = net.propose(1, b"x").index
    net.settle()
    net.inject(AppendReply(NodeId(2), NodeId(1), Term(old_term), True, Index(last)))
    assert net.core(1).match_indexes()[NodeId(2)] < last


def _another_entry_at_its_index_goes() -> None:
    """A log whose entry at the snapshot's index is another goes whole."""
    paper.test_7_the_whole_log_goes_if_it_does_not_have_that_very_entry((3, 3))


_SCRIPTS: dict[str, Callable[[], None]] = {
    "aba-completion": (
        test_durability.test_rule_24_a_late_completion_does_not_vouch_for_replaced_entries
    ),
    "commit-old-term": (
        test_replication.test_rule_11_an_older_terms_entry_commits_only_behind_one_of_this_term
    ),
    "cut-under-a-snapshot": (
        test_log_cut.test_a_snapshot_on_its_way_keeps_what_follows_it_longer
    ),
    "install-keeps-suffix": _another_entry_at_its_index_goes,
    "old-term-reply": _old_replies_count_for_nothing,
    "read-round-reused": (
        test_reads.test_rule_33_replies_to_an_earlier_round_confirm_nothing_later
    ),
    "transfer-stuck": test_transfer.test_a_leader_gives_up_after_t_and_goes_on,
}


@pytest.mark.parametrize("name", _SCRIPTS)
def test_a_script_finds_it(name: str) -> None:
    _SCRIPTS[name]()
    with planted(name), pytest.raises(AssertionError):
        _SCRIPTS[name]()


def test_every_planted_bug_is_looked_for_once() -> None:
    assert sorted([*_SEEDS, *_SCRIPTS]) == sorted(PLANTED)
