"""Leases: alive until their time is over on the log's clock, and gone in one piece."""

import pytest

from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.kv import DeleteKey, KeyValue, PutKey
from raftd.statemachine.schema.leases import GrantLease, LeaseRevoked, RevokeLease
from tests.statemachine.harness import Harness, refusal


def test_a_lease_lives_until_its_ttl_is_over_and_not_a_millisecond_less() -> None:
    harness = Harness()
    lease = harness.grant(ttl_ms=5000)
    harness.entry(after_ms=4999)
    assert harness.machine.leases.is_alive(lease)
    assert harness.entry(after_ms=1).closed == (lease,)
    assert not harness.machine.leases.is_alive(lease)


def test_renewals_of_an_entry_come_before_its_timers() -> None:
    harness = Harness()
    lease = harness.grant(ttl_ms=5000)
    applied = harness.entry(renewals=(lease,), after_ms=60_000)
    assert applied.closed == ()
    assert harness.machine.leases.deadline_ms(lease) == harness.now_ms + 5000


def test_renewals_of_what_is_not_alive_are_reported() -> None:
    harness = Harness()
    lease = harness.grant()
    assert harness.entry(renewals=(lease, 77)).lost == (77,)


def test_commands_of_the_entry_that_ends_a_lease_find_it_gone() -> None:
    harness = Harness()
    lease = harness.grant(ttl_ms=1000)
    applied = harness.entry(PutKey(b"a", b"", lease=lease), after_ms=1000)
    assert refusal(applied.answers[0]) is Reason.LEASE_EXPIRED


def test_the_keys_of_a_lease_go_with_it_in_order_and_at_one_revision() -> None:
    harness = Harness()
    lease = harness.grant(ttl_ms=5000)
    for key in (b"c", b"a", b"b"):
        harness.do(PutKey(key, b"", lease=lease))
    before = harness.machine.revision
    record = harness.entry(after_ms=5000).record
    assert record is not None
    events = [event for event in record.events if isinstance(event, KeyValue)]
    assert [event.key for event in events] == [b"a", b"b", b"c"]
    assert {event.mod_rev for event in events} == {before + 1}
    assert harness.machine.revision == before + 1


def test_revoke_ends_a_lease_and_says_how_much_went_with_it() -> None:
    harness = Harness()
    lease = harness.grant()
    harness.do(PutKey(b"a", b"", lease=lease))
    assert harness.do(RevokeLease(lease)) == LeaseRevoked(1)
    assert harness.value(b"a") is None
    assert refusal(harness.do(RevokeLease(lease))) is Reason.NOT_FOUND


def test_a_key_written_without_its_lease_stays() -> None:
    harness = Harness()
    lease = harness.grant()
    harness.do(PutKey(b"a", b"1", lease=lease))
    harness.do(PutKey(b"b", b"1", lease=lease))
    harness.do(PutKey(b"a", b"2"))
    harness.do(DeleteKey(b"b"))
    harness.do(PutKey(b"b", b"2"))
    assert harness.do(RevokeLease(lease)) == LeaseRevoked(0)
    assert harness.value(b"a") == b"2"
    assert harness.value(b"b") == b"2"


def test_a_key_may_move_to_another_lease() -> None:
    harness = Harness()
    first, second = harness.grant(), harness.grant()
    harness.do(PutKey(b"a", b"", lease=first))
    harness.do(PutKey(b"a", b"", lease=second))
    harness.do(RevokeLease(first))
    assert harness.record(b"a").lease == second


def test_attachments_are_bounded() -> None:
    harness = Harness(Limits(lease_attachments_max=2))
    lease = harness.grant()
    for key in (b"a", b"b", b"a"):
        harness.do(PutKey(key, b"", lease=lease))
    answer = harness.do(PutKey(b"c", b"", lease=lease))
    assert refusal(answer) is Reason.TOO_MANY
    assert harness.value(b"c") is None


@pytest.mark.parametrize("ttl_ms", [0, 999, 86_400_001])
def test_a_ttl_out_of_bounds_is_refused(ttl_ms: int) -> None:
    answer = Harness().do(GrantLease(ttl_ms, ""))
    assert refusal(answer) is Reason.INVALID_REQUEST


def test_leases_are_bounded() -> None:
    harness = Harness(Limits(leases_max=2))
    harness.open()
    harness.entry(after_ms=10_000)  # the closed session's window still counts
    harness.grant()
    assert refusal(harness.do(GrantLease(1000, ""))) is Reason.TOO_MANY


def test_ids_rise_and_are_drawn_from_the_revision_line() -> None:
    harness = Harness()
    first, second = harness.grant(), harness.grant()
    assert second > first
    assert harness.machine.revision == second


def test_more_than_the_cap_expires_over_several_entries_and_lives_until_then() -> None:
    harness = Harness(Limits(work_rows_max=3))
    leases = [harness.grant(ttl_ms=1000) for _ in range(5)]
    applied = harness.entry(PutKey(b"a", b"", lease=leases[4]), after_ms=1000)
    assert applied.closed == tuple(leases[:3])
    assert harness.record(b"a").lease == leases[4]
    assert harness.machine.has_backlog
    assert harness.entry().closed == tuple(leases[3:])
    assert harness.value(b"a") is None
    assert not harness.machine.has_backlog


def test_a_due_lease_beyond_the_cap_may_still_be_renewed() -> None:
    harness = Harness(Limits(work_rows_max=1))
    leases = [harness.grant(ttl_ms=1000) for _ in range(2)]
    harness.entry(after_ms=1000)
    harness.entry(renewals=(leases[1],))
    assert harness.machine.leases.is_alive(leases[1])


def test_the_next_deadline_is_known_to_the_leader_and_follows_renewals() -> None:
    harness = Harness()
    assert harness.machine.next_due_ms is None
    lease = harness.grant(ttl_ms=5000)
    assert harness.machine.next_due_ms == harness.now_ms + 5000
    harness.entry(renewals=(lease,), after_ms=3000)
    assert harness.machine.next_due_ms == harness.now_ms + 5000
    harness.do(RevokeLease(lease))
    assert harness.machine.next_due_ms is None


def test_leases_and_their_claims_outlive_a_restart() -> None:
    harness = Harness()
    lease = harness.grant(ttl_ms=5000)
    harness.do(PutKey(b"a", b"", lease=lease))
    harness.save()
    other = harness.reload()
    view = other.machine.leases.view(lease)
    assert view is not None
    assert (view.attachments, view.remaining_ms) == (1, 5000)
    other.entry(after_ms=5000)
    assert other.value(b"a") is None
