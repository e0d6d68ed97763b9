"""Scenarios 1 to 35: elections, the log, snapshots, members; see ``scenario``.

Source: RELIABILITY.md section 3.
"""

from __future__ import annotations

from typing import Final

from tests.mutants.scenario import Scenario

__all__ = ["LOG_SCENARIOS"]

LOG_SCENARIOS: Final = (
    Scenario(
        1,
        "crash between granting a vote and its sync; restart within the election",
        "ES",
        ("script scenario_01_vote_crash", "planted vote-forgotten", "fault restart"),
    ),
    Scenario(
        2,
        "restart of the whole cluster with the term lost",
        "LC, DUR",
        ("script rule_27_terms_stay", "planted term-forgotten", "fault crash-all"),
    ),
    Scenario(
        3,
        "an append acknowledged before its sync; power loss on a majority",
        "DUR",
        ("script scenario_03_ack_before_sync", "planted ack-before-sync"),
    ),
    Scenario(
        4,
        "an old write ends when its entries were replaced already (ABA)",
        "LM, DUR",
        ("script scenario_04_aba", "planted aba-completion"),
    ),
    Scenario(
        5,
        "figure 8: an entry of an old term on a majority, then overwritten",
        "LC, SMS",
        ("script scenario_05_figure_8", "planted commit-old-term"),
    ),
    Scenario(
        6,
        "a match of the node's own older leadership comes in a new one",
        "SMS",
        (
            "script scenario_06_old_acks",
            "planted old-term-reply",
            "draw replay_late_us",
        ),
    ),
    Scenario(
        7,
        "appends in another order: the shorter, older one comes last",
        "LM",
        ("script rule_16_no_stale_truncation", "planted stale-truncation"),
    ),
    Scenario(
        8,
        "a new leader's low commit index reaches an ex-leader",
        "SMS",
        ("script scenario_08_low_commit",),
    ),
    Scenario(
        9,
        "a heartbeat's commit index is beyond the follower's match",
        "SMS",
        ("script scenario_09_divergent_tail", "planted commit-past-match"),
    ),
    Scenario(
        10,
        "a read on a new leader before its no-op is committed",
        "LIN",
        ("script scenario_10_new_leader_read", "planted read-before-noop"),
    ),
    Scenario(
        11,
        "a read on a leader that is cut off",
        "LIN",
        ("script scenario_11_old_leader_read", "planted read-unconfirmed"),
    ),
    Scenario(
        12,
        "answers to one confirmation round arrive in a later one",
        "LIN",
        ("script rule_33_rounds", "planted read-round-reused", "draw replay_late_us"),
    ),
    Scenario(
        13,
        "a leader stands still between the check of a read and its answer",
        "LIN",
        ("script scenario_13_paused_leader", "fault pause"),
        "raftd has no reads by lease; a read is confirmed anew each time",
    ),
    Scenario(
        14,
        "a read while a node still applies what it starts from",
        "LIN",
        ("script scenario_14_read_while_replaying", "planted read-before-apply"),
    ),
    Scenario(
        15,
        "the leader crashes before it answers; the client sends again elsewhere",
        "XO",
        (
            "planted retry-under-a-new-number",
            "planted window-ignored",
            "fault crash",
            "tests/e2e/test_kill.py"
            "::test_killing_the_leader_in_a_loop_loses_and_doubles_nothing",
        ),
    ),
    Scenario(
        16,
        "a session ends between a write and the write sent again",
        "XO",
        (
            "planted closed-session-writes",
            "draw sleepy",
            "tests/statemachine/test_sessions.py"
            "::test_expiry_closes_the_session_but_keeps_its_window",
            "tests/client/test_lost_session.py"
            "::test_a_forgotten_session_means_outcome_unknown",
        ),
    ),
    Scenario(
        17,
        "a write is under way twice, over two members",
        "XO",
        (
            "planted window-ignored",
            "tests/statemachine/test_sessions.py"
            "::test_a_number_twice_in_one_entry_is_applied_once",
        ),
        "followers forward reads only; a client that hears nothing asks another member",
    ),
    Scenario(
        18,
        "a snapshot without answers; a write sent again meets the restored node",
        "XO, DET",
        ("planted snapshot-without-sessions", "planted window-not-in-checkpoint"),
    ),
    Scenario(
        19,
        "a proposal is told to have failed and is committed by the next leader",
        "LIN",
        (
            "planted unknown-told-as-not-applied",
            "script scenario_19_aborted_read",
            "script rule_22_outcomes",
            "tests/node/test_writes.py"
            "::test_an_alarm_does_not_deny_what_may_have_been_applied",
        ),
    ),
    Scenario(
        20,
        "a proposal is lost, and another's entry takes its index",
        "LIN",
        ("script rule_22_outcomes", "planted another's-answer"),
    ),
    Scenario(
        21,
        "crash between the applied index and the rows, in either order",
        "DET, DUR",
        (
            "planted applied-index-apart",
            "draw crash_points",
            "tests/storage/test_crash.py::test_a_checkpoint_is_old_or_new",
            "tests/sim/test_crash_points.py::test_a_crash_there_loses_nothing",
        ),
        "both are in one transaction; the crash comes at each point of it",
    ),
    Scenario(
        22,
        "crash while a log is cut or a state is merged",
        "DET",
        (
            "tests/sim/test_crash_points.py::test_a_crash_there_loses_nothing",
            "tests/storage/test_crash.py::test_an_unfinished_merge_changes_no_row",
            "tests/storage/test_crash.py::test_cutting_the_front_keeps_what_is_needed",
        ),
    ),
    Scenario(
        23,
        "a single node answers before its log is synced, and is killed",
        "DUR",
        (
            "planted leader-counts-itself",
            "draw size",
            "tests/storage/test_crash.py::test_what_was_answered_survives_kill_9",
        ),
    ),
    Scenario(
        24,
        "a snapshot is acknowledged, and the node restarts before it is durable",
        "DUR",
        ("script scenario_24_not_durable", "planted install-acked-early"),
    ),
    Scenario(
        25,
        "a snapshot ends inside the follower's log: the suffix has to survive",
        "DUR",
        ("script scenario_25_suffix_survives", "planted install-keeps-suffix"),
    ),
    Scenario(
        26,
        "two snapshots shortly after each other; a leader change in mid-stream",
        "SMS",
        (
            "script scenario_26_two_snapshots",
            "planted old-state-over-new",
            "tests/node/test_snapshots.py::test_a_new_leader_offers_its_own_snapshot",
        ),
    ),
    Scenario(
        27,
        "taking up a snapshot fails half-way",
        "DET, XO",
        (
            "script scenario_27_restore_fails",
            "fault crash-receiver",
            "tests/node/test_installs.py"
            "::test_an_install_that_is_cut_short_leaves_the_old_or_the_new_state",
        ),
    ),
    Scenario(
        28,
        "the log is cut just beyond what a follower is being asked for",
        "LIV, LM",
        (
            "script scenario_28_compaction_passes_probe",
            "planted cut-under-a-snapshot",
            "planted log-cut-too-far",
        ),
    ),
    Scenario(
        29,
        "the bug of 2015: two leaders, each with a change of its own",
        "CFG, SMS",
        ("script rule_40_own_term_first", "planted change-before-the-no-op"),
    ),
    Scenario(
        30,
        "an entry with a change is cut off again",
        "CFG",
        ("script rule_41_effective_on_apply", "planted change-without-apply"),
        "a change counts where it is applied, so that none has to be taken back",
    ),
    Scenario(
        31,
        "a removed node comes back with a high term",
        "LIV",
        ("script scenario_31_removed_returns", "draw bars_removed"),
    ),
    Scenario(
        32,
        "the id of a removed node comes back with an empty disk",
        "ES, DUR",
        (
            "planted id-reused",
            "tests/node/test_members.py"
            "::test_a_wiped_disk_stops_and_comes_back_by_a_replacement",
            "tests/node/test_member_plans.py"
            "::test_an_id_may_be_chosen_unless_it_was_ever_used",
        ),
    ),
    Scenario(
        33,
        "an isolated leader takes a change; then the partition heals",
        "CFG, DUR",
        ("script rule_41_effective_on_apply", "draw changes", "fault partition"),
    ),
    Scenario(
        34,
        "a leader removes itself while its followers are slow",
        "LIV",
        (
            "script scenario_34_nobody_campaigns",
            "script scenario_34_slow_followers",
            "planted told-too-early",
        ),
    ),
    Scenario(
        35,
        "a learner was promoted, does not know it, and its vote is needed",
        "LIV",
        ("script scenario_35_learner_must_vote",),
    ),
)
