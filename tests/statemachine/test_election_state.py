"""Elections in the whole: limits, sizes, rows, bounded work."""

import pytest

from raftd.statemachine.answers import Pending
from raftd.statemachine.election_state import Election
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWon,
    Proclaim,
    Proclaimed,
    Resign,
    Resigned,
    TransferElection,
    WithdrawCampaign,
)
from raftd.statemachine.schema.leases import LeaseRevoked, RevokeLease
from raftd.statemachine.schema.txn import Transact
from raftd.statemachine.tables import Table
from tests.statemachine.claims_harness import (
    Bench,
    merged,
    refusal_of,
    small_limits,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- limits, rows ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (Campaign("", 2, "a", b""), Reason.INVALID_NAME),
        (Campaign("e\x7f", 2, "a", b""), Reason.INVALID_NAME),
        (Campaign("e", 2, "", b""), Reason.INVALID_REQUEST),
        (Campaign("e", 2, "a", b"", -1), Reason.INVALID_REQUEST),
        (Campaign("e", 2, "a", bytes(1_048_577)), Reason.TOO_LARGE),
        (Campaign("e", 99, "a", b""), Reason.LEASE_EXPIRED),
        (Proclaim("", 1, b""), Reason.INVALID_NAME),
        (WithdrawCampaign("", 2, "a"), Reason.INVALID_NAME),
        (TransferElection("", "a"), Reason.INVALID_NAME),
    ],
)
def test_bad_requests_are_refused(
    bench: Bench,
    command: Campaign | Proclaim | WithdrawCampaign | TransferElection,
    reason: Reason,
) -> None:
    assert bench.lease() == 2
    refusal_of(bench.ask(command), reason)


def test_a_proclaimed_value_is_bounded(bench: Bench) -> None:
    epoch = bench.win(bench.lease(), "a", bytes(1_048_576))
    proclaim = Proclaim("election", epoch, bytes(1_048_577))
    refusal = refusal_of(bench.ask(proclaim), Reason.TOO_LARGE)
    assert refusal.details["limit_name"] == "value_bytes_max"


def test_a_full_state_refuses_growth_and_lets_resign_pass() -> None:
    bench = Bench(small_limits(state_bytes_max=2000))
    lease = bench.lease()
    epoch = bench.win(lease, "a", bytes(500))
    refusal_of(bench.ask(Proclaim("election", epoch, bytes(2000))), Reason.QUOTA)
    refusal_of(bench.campaign(lease, "b", bytes(1000)), Reason.QUOTA)
    assert bench.ask(Proclaim("election", epoch, b"")) == Proclaimed()
    assert bench.ask(Resign("election", epoch)) == Resigned()


def test_candidates_count_against_their_lease_and_their_line() -> None:
    bench = Bench(small_limits(lease_attachments_max=2, waiters_max=2))
    first, second = bench.lease(), bench.lease()
    bench.win(first, "a")
    bench.stand(first, "b")
    refusal = refusal_of(bench.campaign(first, "c"), Reason.TOO_MANY)
    assert refusal.details["limit_name"] == "lease_attachments_max"
    bench.stand(second, "d")
    refusal = refusal_of(bench.campaign(second, "e"), Reason.TOO_MANY)
    assert refusal.details["limit_name"] == "waiters_max"


def test_a_state_without_elections_counts_nothing(bench: Bench) -> None:
    lease = bench.lease()
    empty_bytes = bench.machine.context.size_bytes
    epoch = bench.win(lease, "a", bytes(100))
    bench.stand(lease, "b", bytes(50))
    bench.ask(Proclaim("election", epoch, bytes(300)))
    assert bench.machine.context.size_bytes > empty_bytes + 350
    bench.revoke(lease)
    bench.lease()
    assert bench.machine.context.size_bytes == empty_bytes


def test_names_are_listed_in_pages_by_prefix(bench: Bench) -> None:
    lease = bench.lease()
    for name in ("b/2", "a", "b/1"):
        bench.campaign(lease, "x", name=name)
    assert bench.machine.elections.names() == ["a", "b/1", "b/2"]
    assert bench.machine.elections.names("b/", after="b/1") == ["b/2"]


def test_a_refused_transaction_leaves_nothing_behind(bench: Bench) -> None:
    other = Bench()
    for each in (bench, other):
        lease = each.lease()
        each.win(lease, "a", b"1")
        each.stand(lease, "b", wait_ms=100)
    resign = Resign("election", other.machine.elections.current_token("election"))
    ops = (Proclaim("election", resign.epoch, b"2"), resign, resign)
    refusal_of(bench.ask(Transact((), ops)), Reason.NOT_HOLDER)
    other.apply()
    for each in (bench, other):
        each.checkpoint()
        assert each.ask(resign) == Resigned()
        each.pass_ms(100)
        each.checkpoint()
    assert merged(bench.rows) == merged(other.rows)
    assert bench.events == other.events
    assert bench.decided == other.decided != {}


def test_what_was_given_back_hangs_on_its_lease_no_more(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a")
    bench.stand(lease, "b")
    bench.ask(WithdrawCampaign("election", lease, "b"))
    bench.ask(Resign("election", epoch))
    assert bench.ask(RevokeLease(lease)) == LeaseRevoked(attachments=0)


def test_promotions_left_over_say_nobody_until_they_come() -> None:
    bench = Bench(small_limits(promotions_max=2, work_rows_max=1))
    holder, other = bench.lease(), bench.lease()
    names = [f"e{at}" for at in range(9)]
    for name in names:
        assert isinstance(bench.campaign(holder, "a", name=name), CampaignWon)
        assert isinstance(bench.campaign(other, "b", name=name), Pending)
    bench.events.clear()
    bench.revoke(holder)
    # Two win with the command; for the others its revision ends with nobody, until
    # the entry's background work comes to them.
    claimants = [claimant for claimant, _, _ in bench.transitions()]
    assert claimants == ["b", "b", *[""] * 7, *["b"] * 7]
    assert bench.open == set()


def test_a_due_candidate_is_found_again_after_a_restart(bench: Bench) -> None:
    lease = bench.lease()
    bench.win(lease, "a")
    ticket = bench.stand(lease, "b")
    bench.checkpoint()
    unled = Election("election", 0, None).encode()
    rows = [
        (table, key, unled if table == Table.ELECTIONS else value)
        for table, key, value in bench.rows
    ]
    bench.machine = Machine.load(
        bench.limits, rows, index=len(bench.payloads), digest=bytes(32)
    )
    assert bench.machine.has_backlog
    bench.apply()
    assert bench.token_of(ticket)
    assert bench.leader() == "b"
    assert not bench.machine.has_backlog
