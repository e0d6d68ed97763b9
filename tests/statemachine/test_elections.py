"""Elections: one sentence of SEMANTICS.md section 5 per test."""

import pytest

from raftd.statemachine.election_state import CandidateView, LeaderView
from raftd.statemachine.schema.base import Fence, FenceKind, Reason
from raftd.statemachine.schema.elections import (
    CampaignWithdrawn,
    CampaignWon,
    ElectionTransferred,
    Proclaim,
    Proclaimed,
    Resign,
    Resigned,
    TransferElection,
    WithdrawCampaign,
)
from raftd.statemachine.schema.kv import KeyPut, PutKey
from raftd.statemachine.schema.leases import RevokeLease
from raftd.statemachine.schema.sessions import CloseSession
from raftd.statemachine.schema.txn import Compare, CompareTarget, Transact, Transacted
from tests.statemachine.claims_harness import (
    Bench,
    refusal_of,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


# --- winning ---------------------------------------------------------------------


def test_one_candidate_leads_and_the_others_wait(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a", b"1")
    ticket = bench.stand(lease, "b", b"2")
    view = bench.machine.elections.inspect("election")
    assert view is not None
    assert view.leader == LeaderView(epoch, "a", lease, b"1", bench.now_ms)
    assert view.candidates == (CandidateView("b", lease, b"2", bench.now_ms),)
    assert bench.open == {ticket}


def test_candidates_win_first_come_first_served(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a")
    for ticket in [bench.stand(lease, claimant) for claimant in "bcd"]:
        assert bench.ask(Resign("election", epoch)) == Resigned()
        assert bench.token_of(ticket) > epoch
        epoch = bench.token_of(ticket)
    assert bench.leader() == "d"


def test_epochs_rise_though_an_unled_election_is_forgotten(bench: Bench) -> None:
    lease = bench.lease()
    epochs = []
    for claimant in "abc":
        epochs.append(bench.win(lease, claimant))
        bench.ask(Resign("election", epochs[-1]))
        assert bench.machine.elections.inspect("election") is None
    assert epochs == sorted(set(epochs))


def test_a_try_says_who_leads(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a")
    refusal = refusal_of(bench.campaign(lease, "b", wait_ms=0), Reason.LOCK_HELD)
    assert refusal.details == {"holder": "a", "token": str(epoch)}
    assert f"is led by a (epoch {epoch})" in refusal.sentence


def test_a_candidacy_ends_at_its_deadline(bench: Bench) -> None:
    lease = bench.lease()
    bench.win(lease, "a")
    ticket = bench.stand(lease, "b", wait_ms=500)
    bench.pass_ms(499)
    assert bench.open == {ticket}
    bench.pass_ms(1)
    refusal_of(bench.decided[ticket], Reason.LOCK_HELD)


def test_the_leader_that_campaigns_again_keeps_epoch_and_value(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a", b"1")
    assert bench.campaign(lease, "a", b"2") == CampaignWon(epoch)
    assert bench.transitions() == [("a", b"1", epoch)]


def test_a_candidate_that_stands_twice_wins_both_with_its_last_value(
    bench: Bench,
) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a")
    tickets = [
        bench.stand(lease, claimant, value)
        for claimant, value in (("b", b"old"), ("c", b""), ("b", b"new"))
    ]
    bench.ask(Resign("election", epoch))
    won = bench.token_of(tickets[0])
    assert bench.token_of(tickets[2]) == won
    assert bench.open == {tickets[1]}
    assert bench.transitions()[-1] == ("b", b"new", won)


# --- leases ----------------------------------------------------------------------


def test_the_next_candidate_wins_in_the_revision_that_ends_the_leader(
    bench: Bench,
) -> None:
    first, second = bench.lease(), bench.lease()
    epoch = bench.win(first, "a")
    ticket = bench.stand(second, "b")
    applied = bench.apply(RevokeLease(first))
    assert [decision.ticket for decision in applied.decided] == [ticket]
    # No "nobody" in between: at the end of the revision somebody leads.
    won = bench.token_of(ticket)
    assert bench.transitions() == [("a", b"", epoch), ("b", b"", won)]


def test_a_candidate_whose_lease_ended_never_wins(bench: Bench) -> None:
    first, second, third = bench.lease(), bench.lease(ttl_ms=1000), bench.lease()
    epoch = bench.win(first, "a")
    dead, alive = bench.stand(second, "b"), bench.stand(third, "c")
    bench.pass_ms(1000)
    refusal_of(bench.decided[dead], Reason.LEASE_EXPIRED)
    bench.ask(Resign("election", epoch))
    assert bench.token_of(alive)
    refusal_of(bench.campaign(second, "b"), Reason.LEASE_EXPIRED)


def test_a_lease_that_leads_and_stands_ends_with_both(bench: Bench) -> None:
    first, second = bench.lease(), bench.lease()
    bench.win(first, "a")
    own, other = bench.stand(first, "b"), bench.stand(second, "c")
    bench.revoke(first)
    refusal_of(bench.decided[own], Reason.LEASE_EXPIRED)
    assert bench.token_of(other)
    assert bench.leader() == "c"


def test_nobody_is_a_transition(bench: Bench) -> None:
    session = bench.session()
    epoch = bench.win(session, "a", b"1")
    bench.ask(CloseSession(session))
    assert bench.transitions() == [("a", b"1", epoch), ("", b"", 0)]
    assert bench.machine.elections.leader("election") is None
    assert bench.machine.elections.names() == []


# --- the leader's word -------------------------------------------------------------


def test_proclaim_changes_what_observers_see(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a", b"1")
    assert bench.ask(Proclaim("election", epoch, b"22")) == Proclaimed()
    assert bench.transitions() == [("a", b"1", epoch), ("a", b"22", epoch)]
    found = bench.machine.elections.leader("election")
    assert found is not None
    assert found.value == b"22"


def test_proclaim_and_resign_need_the_current_epoch(bench: Bench) -> None:
    lease = bench.lease()
    old = bench.win(lease, "a")
    bench.ask(Resign("election", old))
    epoch = bench.win(lease, "b", b"1")
    for command in (Proclaim("election", old, b"x"), Resign("election", old)):
        refusal = refusal_of(bench.ask(command), Reason.FENCED)
        assert refusal.details["current"] == str(epoch)
    assert bench.machine.elections.current_token("election") == epoch
    assert bench.transitions()[-1] == ("b", b"1", epoch)


def test_without_an_election_there_is_nothing_to_proclaim(bench: Bench) -> None:
    for command in (
        Proclaim("election", 1, b""),
        Resign("election", 1),
        TransferElection("election", "a"),
    ):
        refusal_of(bench.ask(command), Reason.NOT_FOUND)


def test_in_a_transaction_who_resigned_leads_no_more(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a", b"1")
    bench.stand(lease, "b")
    resign, proclaim = Resign("election", epoch), Proclaim("election", epoch, b"2")
    refusal = refusal_of(bench.ask(Transact((), (resign, proclaim))), Reason.NOT_HOLDER)
    assert refusal.details["op"] == "1"
    assert bench.leader() == "a"
    held = Compare(CompareTarget.LEADERSHIP_HELD, name="election", number=epoch)
    answer = bench.ask(Transact((held,), (proclaim, resign)))
    assert answer == Transacted(True, (Proclaimed(), Resigned()))
    assert [event[0] for event in bench.transitions()] == ["a", "a", "b"]
    assert not bench.machine.elections.holds("election", epoch)


def test_a_fence_holds_as_long_as_its_epoch(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a")
    fence = Fence(FenceKind.ELECTION, "election", epoch)
    assert isinstance(bench.ask(PutKey(b"k", b"1"), (fence,)), KeyPut)
    bench.ask(Resign("election", epoch))
    refusal_of(bench.ask(PutKey(b"k", b"2"), (fence,)), Reason.FENCED)
    unnamed = Fence(FenceKind.ELECTION, "election", 0)
    refusal_of(bench.ask(PutKey(b"k", b"2"), (unnamed,)), Reason.FENCED)


# --- withdraw, transfer ------------------------------------------------------------


def test_withdraw_takes_a_candidate_out(bench: Bench) -> None:
    lease = bench.lease()
    bench.win(lease, "a")
    ticket = bench.stand(lease, "b")
    withdraw = WithdrawCampaign("election", lease, "b")
    assert bench.ask(withdraw) == CampaignWithdrawn(True)
    assert refusal_of(bench.decided[ticket], Reason.LOCK_HELD).details == {
        "cause": "cancelled"
    }
    assert bench.ask(withdraw) == CampaignWithdrawn(False)


def test_withdraw_gives_back_a_win_that_raced_it(bench: Bench) -> None:
    lease = bench.lease()
    bench.win(lease, "a")
    ticket = bench.stand(lease, "b")
    answer = bench.ask(WithdrawCampaign("election", lease, "a"))
    assert answer == CampaignWithdrawn(False)
    assert bench.token_of(ticket)


def test_a_transfer_lets_a_candidate_pass_the_others(bench: Bench) -> None:
    lease = bench.lease()
    epoch = bench.win(lease, "a")
    first, second = bench.stand(lease, "b"), bench.stand(lease, "c", b"3")
    answer = bench.ask(TransferElection("election", "c"))
    won = bench.token_of(second)
    assert answer == ElectionTransferred(won)
    assert bench.open == {first}
    assert bench.transitions() == [("a", b"", epoch), ("c", b"3", won)]
    assert bench.ask(TransferElection("election", "c")) == ElectionTransferred(won)
    refusal_of(bench.ask(Resign("election", epoch)), Reason.FENCED)


def test_leadership_goes_to_waiting_candidates_only(bench: Bench) -> None:
    lease = bench.lease()
    bench.win(lease, "a")
    bench.stand(lease, "b")
    refusal = bench.ask(TransferElection("election", "x"))
    refusal_of(refusal, Reason.PRECONDITION)
    assert bench.leader() == "a"
