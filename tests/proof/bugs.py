"""Every bug that the proofs found, and the test that keeps each.

Rules: one line each, with the release that had it (``unreleased``: none had). The test
exists, and fails without the fix.

Source: RELIABILITY.md sections 5 and 7 (track record).
"""

from __future__ import annotations

import dataclasses
from typing import Final

__all__ = ["BUGS", "Bug"]


@dataclasses.dataclass(frozen=True, slots=True)
class Bug:
    """One bug.

    Attributes:
        what: What went wrong, in a sentence.
        found_by: Which proof, with the seed or the fault.
        since: First release that had it.
        test: A file of tests, or ``file::test``; pytest repeats it.
    """

    what: str
    found_by: str
    since: str
    test: str


BUGS: Final[tuple[Bug, ...]] = (
    Bug(
        "A removed member that ended at the word of one that then crashed took the only"
        " knowledge of its removal along: no leader ever.",
        "simulator A",
        "unreleased",
        "tests/sim/test_crash_points.py",
    ),
    Bug(
        "A removed leader with the longest log kept the others from electing one.",
        "random runs of the core",
        "unreleased",
        "tests/consensus/test_departure.py"
        "::test_rule_44_a_removed_leader_tells_the_commit_index_before_it_hands_over",
    ),
    Bug(
        "A small log_keep_bytes marked a cut of the log beyond what was committed, and"
        " ended every member at one mark.",
        "review",
        "unreleased",
        "tests/node/test_log_cut.py"
        "::test_a_mark_cuts_nothing_that_is_not_committed_even_if_nobody_counts",
    ),
    Bug(
        "An address that cannot be one ended the dialling of all peers, silently.",
        "review",
        "0.1.0",
        "tests/transport/test_links.py"
        "::test_an_address_that_cannot_be_one_does_not_end_the_dialling",
    ),
    Bug(
        "A member said it was ready while it took in a snapshot.",
        "rolling restarts of real processes",
        "unreleased",
        "tests/node/test_readiness.py"
        "::test_a_member_that_takes_in_a_snapshot_is_not_ready",
    ),
    Bug(
        "A peer's bytes that no core would send reached an assertion and ended"
        " the node.",
        "review",
        "0.1.0",
        "tests/transport/test_strangers.py"
        "::test_what_no_core_would_send_breaks_the_link_and_reaches_nobody",
    ),
    Bug(
        "A start on a full disk hung instead of giving the ballast free.",
        "full disks under real processes",
        "unreleased",
        "tests/node/test_disk_guard.py"
        "::test_a_start_without_room_gives_the_ballast_free",
    ),
    Bug(
        "Calls that were cancelled when a client closed came back to a loop that was"
        " gone.",
        "the gate",
        "0.1.0",
        "tests/client/test_close.py::test_nothing_comes_for_a_loop_that_is_closed",
    ),
    Bug(
        "A claim whose session was lost while its request was on the way ended with"
        " LeaseLost, certainly not applied, though the cluster may have granted it.",
        "review",
        "0.1.0",
        "tests/client/test_lost_session.py"
        "::test_a_claim_that_was_asked_for_before_the_end_may_have_been_granted",
    ),
    Bug(
        "The result of a transaction or deletion whose answer was found after the end"
        " of its session said revision 0.",
        "review",
        "0.1.0",
        "tests/client/test_lost_session.py"
        "::test_a_first_answer_found_later_says_its_revision",
    ),
    Bug(
        "A leader with a waiting reserve and as many entries under way as may be ran at"
        " full load until one was applied: for ever, without a majority.",
        "simulator B, seed 2",
        "0.1.0",
        "tests/node/test_batches.py"
        "::test_a_turn_is_not_due_while_no_more_entries_may_be_on_their_way",
    ),
    Bug(
        "A watch that began in an empty cluster began anew after a reconnect: changes"
        " in between were lost.",
        "chaos: kill -9, the checker of elections",
        "0.1.0",
        "tests/client/test_watches.py"
        "::test_a_watch_that_began_in_an_empty_cluster_resumes_at_its_first_revision",
    ),
    Bug(
        "A text that is no UTF-8, or 3000 nested arrays, in a frame, a peer's call, a"
        " roster or a chunk raised beyond the link that it came by.",
        "fuzzing",
        "0.1.0",
        "tests/fuzz/test_links.py",
    ),
    Bug(
        "raftctl took half a character, a number over 64 bits or an endless number of"
        " seconds for a bug of its own instead of naming the field.",
        "fuzzing",
        "0.1.0",
        "tests/fuzz/test_texts.py",
    ),
    Bug(
        "A client that opened a stream for a session that had just ended was told of an"
        " internal error instead.",
        "simulator B, seed 2 with clients cut off",
        "0.1.0",
        "tests/node/test_streams.py"
        "::test_a_stream_of_a_session_that_has_ended_is_refused",
    ),
    Bug(
        "A hand-over or a change of members without a leader was refused only at the"
        " end of its deadline: a busy caller was told that it may have been applied.",
        "review of racing tests",
        "0.2.0",
        "tests/client/test_cluster.py::test_no_leader_for_too_long_is_unavailable",
    ),
    Bug(
        "A start from rows of a newer release ended with a traceback.",
        "fuzzing",
        "0.1.0",
        "tests/fuzz/test_rows.py",
    ),
    Bug(
        "A reserve whose answer was lost and came, asked again, only when the"
        " reservation was over handed out a job without its payload.",
        "chaos: loss_much and half_open, the checker of evidence",
        "0.1.0",
        "tests/client/test_queues.py"
        "::test_a_job_whose_reservation_is_over_is_not_handed_out",
    ),
    Bug(
        "A watch from now on whose member broke off before its first message began"
        " again at a later now: what was written in between was left out.",
        "review after a finding of chaos",
        "0.1.0",
        "tests/client/test_watches.py"
        "::test_a_watch_that_heard_nothing_yet_goes_on_from_what_was_known",
    ),
    Bug(
        "A write that was applied, and sent again to a leader whose disk was full, was"
        " said to be certainly not applied.",
        "simulator B, seed 191501377324337",
        "0.2.0",
        "tests/client/test_stream_session.py"
        "::test_a_full_disk_says_nothing_of_an_earlier_sending",
    ),
    Bug(
        "A node whose log had lost what it acknowledged ended with a traceback instead"
        " of a sentence that says so.",
        "chaos: corrupt_gone, seed 20261123",
        "0.1.0",
        "tests/consensus/test_log_repair.py"
        "::test_rule_16_contradicting_what_is_committed_is_fatal",
    ),
    Bug(
        "A proxy's unreadable status broke a client's call instead of leaving its"
        " outcome unknown.",
        "fuzzing",
        "0.1.0",
        "tests/fuzz/test_client_bytes.py",
    ),
    Bug(
        "A file whose schema was damaged into bytes that are no text ended a start with"
        " a traceback instead of a sentence: SQLite's own message could not be read.",
        "simulator A, seed 172926675484489 (files real)",
        "0.1.0",
        "tests/storage/test_damage.py::test_a_schema_that_is_no_text_is_told",
    ),
    Bug(
        "A cut of the log that waited while a snapshot took the log's place ended the"
        " node: it called an entry damaged that was rightly gone.",
        "chaos: pause_follower, seed 82280530809079",
        "0.2.0",
        "tests/storage/test_log_store.py"
        "::test_a_cut_that_a_reset_comes_before_has_nothing_to_do",
    ),
    Bug(
        "A mark from before a transfer cut away what follows the snapshot on its way: a"
        " second one had to be sent.",
        "racing tests",
        "0.2.0",
        "tests/node/test_checkpoints.py"
        "::test_a_snapshot_that_began_meanwhile_keeps_what_follows_it",
    ),
    Bug(
        "A client that itself had stood still for a moment took its healthy member for"
        " dead.",
        "racing tests",
        "0.1.0",
        "tests/client/test_silence.py"
        "::test_who_stood_still_does_not_take_the_member_for_dead",
    ),
    Bug(
        "A signal behind the command of raftctl lock killed raftctl before it had given"
        " its lock back.",
        "racing tests",
        "0.1.0",
        "tests/cli/test_guard.py"
        "::test_a_signal_behind_the_command_lets_it_be_given_back",
    ),
    Bug(
        "A watch whose stream ended before its task had its first turn was never"
        " closed: the member told it of every event until it stopped.",
        "simulator, level B, seed 208808006918058",
        "0.1.0",
        "tests/api/test_plain_watches.py"
        "::test_a_watch_that_is_ended_before_its_first_turn_is_closed",
    ),
    Bug(
        "One filler of the benchmark in eighty died in gRPC's fork handlers, and its"
        " cluster's logs were taken for the cause.",
        "make bench, section growth",
        "unreleased",
        "tests/bench/test_fill.py::test_fork_handlers_are_off_before_grpc_is_there",
    ),
    Bug(
        "When a leader that was replaced or removed ended just as that was committed,"
        " and one voter alone knew of it, the others could wait for its vote, and have"
        " no leader, until it came back.",
        "simulator, level A, seed 137605873983593",
        "0.1.0",
        "tests/consensus/test_voting.py"
        "::test_rule_9_a_grant_tells_of_a_change_that_makes_another_one_needless",
    ),
    Bug(
        "A change of the members asked for in a leader's first moments was refused: a"
        " voter had had no time to say anything.",
        "gate",
        "0.2.0",
        "tests/node/test_member_care.py"
        "::test_a_new_leader_waits_for_who_has_had_no_time_to_be_heard",
    ),
    Bug(
        "A client went back to a leader that had just been cut off, and waited two"
        " seconds for its hello, while another member led.",
        "make bench, section failover",
        "0.1.0",
        "tests/client/test_silence.py"
        "::test_a_hello_that_is_not_answered_is_left_when_another_leads",
    ),
    Bug(
        "A client that noticed the loss of its session in a call opened two new ones if"
        " a watch or a write went on by itself, and renewed one until its process"
        " ended.",
        "simulator, level B, seed 277112602149568",
        "0.1.0",
        "tests/client/test_lost_session.py"
        "::test_a_loss_that_a_call_notices_brings_one_new_session",
    ),
    Bug(
        "A session that a client was closing just when it was closed itself was never"
        " closed, and renewed until the process ended.",
        "reading, after a seed of the simulator",
        "0.1.0",
        "tests/client/test_close.py"
        "::test_a_session_that_is_being_closed_is_closed_with_its_client",
    ),
)
