"""The simulator, or a script, sees every planted bug; without it the same runs pass.

Where whole-range draws find a bug too seldom for a short test, the range is narrowed
to where it can show (a *focus*): still random events, still a budget of seeds. What
random search misses within seconds is left to a script of the core's own tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from raftd.consensus.messages import AppendReply
from raftd.consensus.types import Index, NodeId, Term
from tests.consensus import test_durability, test_reads, test_replication
from tests.consensus.network import Network
from tests.sim.options import Options, draw_options
from tests.sim.planted import PLANTED, planted
from tests.sim.run import Simulation
from tests.sim.world import World

_STEPS = 10_000

_BUSY: dict[str, Any] = {
    "size": 3,
    "election_ticks": 6,
    "heartbeat_ticks": 1,
    "check_quorum": False,
    "append_bytes_max": 1 << 18,
    "inflight_messages_max": 256,
    "apply_bytes_max": 1 << 20,
    "batch_requests_max": 1,
    "batches_in_flight_max": 16,
    "latency_us": 2000,
    "tail": 0,
    "is_stream": False,
    "loss": 0,
    "write_us": 2000,
    "turn_lag_us": 0,
    "clients": 4,
    "depth": 4,
    "op_interval_us": 5000,
    "ttl_ms": 10_000,
    "sleepy": 0,
    "mark_log_bytes": 1 << 30,
    "fault_interval_us": 300_000,
    "downtime_us": 600_000,
    "faults": ("partition",),
}
"""Many writes and few obstacles: what is wrong shows where leaders change."""

_FOCUS: dict[str, dict[str, Any]] = {
    "another's-answer": _BUSY,
    "commit-past-match": _BUSY,
    "dead-waiter": _BUSY | {"faults": (), "sleepy": 0.05, "ttl_ms": 1000, "clients": 6},
    "read-unconfirmed": _BUSY | {"faults": ("partition", "pause")},
    "vote-forgotten": _BUSY
    | {
        "size": 5,
        "faults": ("restart", "crash"),
        "fault_interval_us": 30_000,
        "latency_us": 20_000,
        "pre_vote": False,
        "clients": 1,
    },
}


def _options(name: str, seed: int) -> Options:
    drawn = draw_options(World(seed).rng("options"))
    return dataclasses.replace(drawn, **_FOCUS.get(name, {}))


_SEEDS: dict[str, range] = {
    "ack-before-sync": range(1, 4),
    "another's-answer": range(36, 46),
    "clock-uncapped": range(1, 20),
    "commit-past-match": range(1, 20),
    "dead-waiter": range(1, 20),
    "lost-window": range(1, 30),
    "no-up-to-date-check": range(1, 30),
    "quorum-off-by-one": range(1, 30),
    "read-before-noop": range(1, 60),
    "read-unconfirmed": range(21, 36),
    "renewed-early": range(1, 30),
    "stale-truncation": range(1, 30),
    "vote-forgotten": range(1, 6),
    "window-ignored": range(1, 6),
    "window-not-in-checkpoint": range(1, 30),
}


@pytest.mark.parametrize("name", _SEEDS)
def test_random_runs_find_it_within_their_budget(name: str) -> None:
    for seed in _SEEDS[name]:
        options = _options(name, seed)
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


_SCRIPTS: dict[str, Callable[[], None]] = {
    "aba-completion": (
        test_durability.test_rule_24_a_late_completion_does_not_vouch_for_replaced_entries
    ),
    "commit-old-term": (
        test_replication.test_rule_11_an_older_terms_entry_commits_only_behind_one_of_this_term
    ),
    "old-term-reply": _old_replies_count_for_nothing,
    "read-round-reused": (
        test_reads.test_rule_33_replies_to_an_earlier_round_confirm_nothing_later
    ),
}


@pytest.mark.parametrize("name", _SCRIPTS)
def test_a_script_finds_it(name: str) -> None:
    _SCRIPTS[name]()
    with planted(name), pytest.raises(AssertionError):
        _SCRIPTS[name]()


def test_every_planted_bug_is_looked_for_once() -> None:
    assert sorted([*_SEEDS, *_SCRIPTS]) == sorted(PLANTED)
