"""Scenarios 36 to 63: leases, disks, locks, watches, jobs, releases; see ``scenario``.

Source: RELIABILITY.md section 3.
"""

from __future__ import annotations

from typing import Final

from tests.mutants.scenario import Scenario

__all__ = ["SERVICE_SCENARIOS"]

SERVICE_SCENARIOS: Final = (
    Scenario(
        36,
        "a renewal is confirmed by a leader that no longer leads",
        "LSE",
        (
            "planted renewed-early",
            "fault partition",
            "tests/node/test_cluster.py"
            "::test_a_renewal_overtaken_by_a_revocation_is_refused",
        ),
    ),
    Scenario(
        37,
        "a lease is due in the very entry that renews it",
        "LSE, DET",
        (
            "planted timers-before-renewals",
            "tests/statemachine/test_leases.py"
            "::test_renewals_of_an_entry_come_before_its_timers",
        ),
    ),
    Scenario(
        38,
        "a node receives and cannot send, or the other way round",
        "LIV",
        ("script scenario_38_one_way", "fault partition"),
    ),
    Scenario(
        39,
        "the leader's disk hangs, and its heartbeats go on",
        "LIV",
        (
            "fault stall",
            "tests/node/test_driver_faults.py"
            "::test_a_leader_whose_disk_hangs_steps_down_if_nobody_takes_over",
            "tests/e2e/test_disk_frozen.py"
            "::test_frozen_leaders_are_followed_by_others_and_come_back",
        ),
    ),
    Scenario(
        40,
        "a follower's disk hangs, then goes on",
        "LIV",
        (
            "fault stall",
            "tests/node/test_driver_faults.py"
            "::test_a_follower_whose_disk_hangs_does_not_campaign_and_holds_nobody_up",
        ),
    ),
    Scenario(
        41,
        "a sync fails once; the restart reads what was never stored",
        "DUR",
        (
            "planted sync-error-swallowed",
            "fault bad-sync",
            "tests/storage/test_files.py"
            "::test_a_crashed_log_is_written_again_before_it_is_trusted",
            "tests/e2e/test_disk_sync.py"
            "::test_a_failed_sync_ends_the_leader_at_once_with_one_sentence",
        ),
    ),
    Scenario(
        42,
        "the disk is full in the middle of a batch; room comes back",
        "DUR, LIV",
        (
            "planted full-disk-swallowed",
            "fault full-disk",
            "tests/storage/test_refused_writes.py"
            "::test_without_room_nothing_is_done_and_all_can_be_done_again",
        ),
    ),
    Scenario(
        43,
        "bits flip in the log of a minority, and such a node would lead",
        "DUR, DET",
        (
            "fault damage",
            "tests/storage/test_damage.py"
            "::test_damage_in_a_synced_commit_of_the_log_is_told",
            "tests/e2e/test_bad_files.py::test_a_damaged_file_is_named_and_left_alone",
        ),
    ),
    Scenario(
        44,
        "the last record is torn after a power loss",
        "LIV",
        (
            "tests/storage/test_damage.py::test_damage_in_the_last_write_alone_is_cut",
            "tests/storage/test_torn_writes.py::test_a_torn_operation_is_old_or_new",
        ),
    ),
    Scenario(
        45,
        "a leader loses its quorum while it hands over",
        "LIV",
        (
            "script scenario_45_transfer_loses_quorum",
            "planted transfer-stuck",
            "fault transfer",
        ),
    ),
    Scenario(
        46,
        "the target of a transfer crashes, is told twice, or a term later",
        "LIV, ES",
        ("script scenario_46_timeout_now", "fault transfer"),
    ),
    Scenario(
        47,
        "a whole window is lost, and nothing new is proposed",
        "LIV",
        ("script scenario_47_lost_window", "planted lost-window"),
    ),
    Scenario(
        48,
        "the lease of a lock's waiter ends while it waits",
        "MEX",
        (
            "planted dead-waiter",
            "tests/statemachine/test_waits.py"
            "::test_a_wait_ends_with_its_session_and_says_so_to_who_asks_later",
        ),
    ),
    Scenario(
        49,
        "a leader stands still for a minute and goes on leading",
        "LSE",
        (
            "planted clock-uncapped",
            "fault pause",
            "tests/e2e/test_holder_stopped.py"
            "::test_a_holder_keeps_its_lock_while_the_leader_is_stopped",
        ),
    ),
    Scenario(
        50,
        "an expiry races a renewal in the log",
        "LSE, MEX",
        (
            "planted timers-before-renewals",
            "planted expiry-of-an-old-deadline",
            "fault pause",
        ),
        "nobody proposes expiries: they follow from the stamps of the log",
    ),
    Scenario(
        51,
        "a renewal is confirmed from memory, and the leader dies",
        "LSE, MEX",
        ("planted renewed-early", "fault crash"),
    ),
    Scenario(
        52,
        "a new leader begins its own time; a wall clock jumps",
        "LSE",
        (
            "planted clock-of-the-machine",
            "fault wall-step",
            "tests/node/test_lease_clock.py"
            "::test_a_new_leadership_goes_on_from_the_log_and_counts_no_time_between",
        ),
    ),
    Scenario(
        53,
        "a holder sleeps beyond its time, and writes with its old token",
        "FEN",
        (
            "planted lock-believed-too-long",
            "planted lock-token-unchecked",
            "draw sleepy",
            "tests/e2e/test_holder_stopped.py"
            "::test_a_holder_stopped_beyond_its_ttl_knows_it_lost_and_is_fenced",
        ),
    ),
    Scenario(
        54,
        "a key outlives its session on one replica",
        "DET",
        (
            "planted snapshot-without-sessions",
            "planted expiry-of-an-old-deadline",
            "tests/statemachine/test_determinism.py"
            "::test_a_restarted_member_goes_on_as_if_it_had_never_stopped",
        ),
    ),
    Scenario(
        55,
        "a watch is resumed on a member that lags",
        "WAT",
        (
            "planted watch-resumed-early",
            "planted watch-resumed-late",
            "tests/node/test_watches.py"
            "::test_progress_never_promises_what_has_not_happened",
            "tests/node/test_installs.py"
            "::test_a_watch_reads_on_across_an_install_and_misses_nothing",
            "tests/client/test_watches.py"
            "::test_a_watch_resumes_behind_the_last_revision_it_saw",
        ),
    ),
    Scenario(
        56,
        "a watch begins where history ends, or starves",
        "WAT",
        (
            "planted watch-passes-over",
            "planted watch-begins-late",
            "tests/node/test_installs.py"
            "::test_a_watch_behind_the_compaction_is_resynced_by_an_install",
            "tests/api/test_watches.py"
            "::test_where_history_is_gone_a_fresh_list_follows",
            "tests/api/test_stream_limits.py"
            "::test_a_watch_waits_for_a_slow_client_and_misses_nothing",
        ),
    ),
    Scenario(
        57,
        "a completion races the end of its reservation and the next one",
        "QTR, FEN",
        (
            "planted job-token-unchecked",
            "draw workers",
            "tests/statemachine/test_queues_worker.py"
            "::test_complete_races_expiry_and_reservation_and_one_worker_wins",
        ),
    ),
    Scenario(
        58,
        "the answer to a reserve is lost, and the reserve sent again",
        "QSL, XO",
        (
            "planted reserve-not-kept",
            "draw workers",
            "tests/node/test_cluster.py"
            "::test_a_waiting_reserve_sent_again_gets_its_first_answer",
        ),
    ),
    Scenario(
        59,
        "an enqueue is acknowledged, the leader dies, and it is sent again",
        "QNL, XO",
        (
            "planted client-id-forgotten",
            "planted window-ignored",
            "draw workers",
        ),
    ),
    Scenario(
        60,
        "a cron job is due on the old leader and on the new one",
        "XO",
        (),
        "raftd has no cron yet; a job that runs at a time is enqueued once",
    ),
    Scenario(
        61,
        "those who wait for a job go with the leader; a job sits ready",
        "LIV",
        (
            "planted job-lost-with-its-worker",
            "tests/node/test_reserves.py"
            "::test_deadlines_answer_with_nothing_and_a_lost_leader_with_why",
            "tests/client/test_stream_session.py"
            "::test_unanswered_writes_are_sent_again_in_order_before_new_ones",
        ),
    ),
    Scenario(
        62,
        "a command of a newer release reaches an older member",
        "DET",
        (
            "tests/e2e/test_upgrade.py::test_a_rolling_upgrade_loses_nothing",
            "tests/node/test_member_plans.py"
            "::test_nothing_is_changed_before_all_have_shown_that_they_know_changes",
            "tests/statemachine/test_machine.py"
            "::test_an_entry_that_cannot_be_read_stops_the_node",
        ),
    ),
    Scenario(
        63,
        "a node of another cluster answers under a recycled address",
        "ES, CFG",
        (
            "tests/transport/test_greeting.py"
            "::test_two_clusters_of_one_name_have_different_ids",
            "tests/transport/test_greeting.py"
            "::test_misdirected_and_foreign_hellos_are_told_what_is_wrong",
        ),
    ),
)
