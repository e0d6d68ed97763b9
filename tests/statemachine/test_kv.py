"""Keys: ordered, versioned, compared and set, readable at every kept revision."""

import pytest

from raftd.statemachine.kv import KeyPage
from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.kv import (
    CompactHistory,
    DeleteKey,
    DeleteRange,
    IncrementKey,
    KeyDeleted,
    KeyIncremented,
    KeyPut,
    KeyValue,
    PutKey,
    RangeDeleted,
)
from tests.statemachine.harness import Harness, refusal

_INT64_MAX = 2**63 - 1


def _keys(page: KeyPage | Refusal) -> list[bytes]:
    assert isinstance(page, KeyPage), page
    return [item.key for item in page.items]


def test_a_put_key_knows_its_revisions_and_version() -> None:
    harness = Harness()
    created = harness.do(PutKey(b"a", b"1"))
    assert isinstance(created, KeyPut)
    changed = harness.do(PutKey(b"a", b"2"))
    assert isinstance(changed, KeyPut)
    assert harness.record(b"a") == KeyValue(
        b"a", b"2", created.mod_rev, changed.mod_rev, 2, 0
    )


def test_a_deleted_key_starts_anew() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))
    assert harness.do(DeleteKey(b"a", want_previous=True)) == KeyDeleted(
        1, KeyValue(b"a", b"1", 1, 1, 1, 0)
    )
    assert harness.do(DeleteKey(b"a")) == KeyDeleted(0)
    harness.do(PutKey(b"a", b"2"))
    assert harness.record(b"a") == KeyValue(b"a", b"2", 3, 3, 1, 0)


def test_deleting_nothing_draws_no_revision() -> None:
    harness = Harness()
    harness.do(DeleteKey(b"a"))
    harness.do(DeleteRange(b"", b""))
    assert harness.machine.revision == 0


def test_a_put_answers_what_was_there_only_if_asked() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))
    assert harness.do(PutKey(b"a", b"2")) == KeyPut(2)
    answer = harness.do(PutKey(b"a", b"3", want_previous=True))
    assert answer == KeyPut(3, KeyValue(b"a", b"2", 1, 2, 2, 0))


def test_a_compared_put_applies_only_at_the_revision_named() -> None:
    harness = Harness()
    command = PutKey(b"a", b"x", if_mod_rev=7)
    assert refusal(harness.do(command)) is Reason.PRECONDITION
    harness.do(PutKey(b"a", b"1"))
    refused = harness.do(command)
    assert isinstance(refused, Refusal)
    assert refused.details == {"mod_rev": "1"}
    assert isinstance(harness.do(PutKey(b"a", b"2", if_mod_rev=1)), KeyPut)


def test_mod_rev_zero_means_must_not_exist() -> None:
    harness = Harness()
    assert isinstance(harness.do(PutKey(b"a", b"1", if_mod_rev=0)), KeyPut)
    refused = harness.do(PutKey(b"a", b"2", if_mod_rev=0))
    assert refusal(refused) is Reason.PRECONDITION
    harness.do(DeleteKey(b"a"))
    assert isinstance(harness.do(PutKey(b"a", b"3", if_mod_rev=0)), KeyPut)


def test_a_compared_delete_of_a_missing_key_is_refused() -> None:
    harness = Harness()
    answer = harness.do(DeleteKey(b"a", if_mod_rev=3))
    assert refusal(answer) is Reason.PRECONDITION


def test_a_range_is_half_open_and_ordered_by_bytes() -> None:
    harness = Harness()
    for key in (b"b", b"a\xff", b"a", b"c", b"\x00"):
        harness.do(PutKey(key, b""))
    kv = harness.machine.kv
    assert _keys(kv.range(b"a", b"c", 10)) == [b"a", b"a\xff", b"b"]
    assert _keys(kv.range(b"", b"", 10)) == [b"\x00", b"a", b"a\xff", b"b", b"c"]
    assert kv.count(b"a", b"c") == 3
    assert kv.count(b"c", b"a") == 0
    assert kv.count(b"", b"") == 5


def test_pages_join_without_gap_or_overlap_at_one_revision() -> None:
    harness = Harness()
    for number in range(7):
        harness.do(PutKey(b"%d" % number, b""))
    rev = harness.machine.revision
    kv = harness.machine.kv
    found: list[bytes] = []
    start: bytes | None = b""
    while start is not None:
        page = kv.range(start, b"", 3, rev)
        assert isinstance(page, KeyPage)
        found += [item.key for item in page.items]
        start = page.next_start
        harness.do(DeleteKey(b"5"))
        harness.do(PutKey(b"35", b""))
    assert found == [b"%d" % number for number in range(7)]


def test_the_last_page_says_so_even_when_full() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b""))
    page = harness.machine.kv.range(b"", b"", 1)
    assert isinstance(page, KeyPage)
    assert page.next_start is None


def test_every_version_is_readable_at_its_revisions() -> None:
    harness = Harness()
    harness.do(PutKey(b"a", b"1"))  # 1
    harness.do(PutKey(b"b", b"1"))  # 2
    harness.do(PutKey(b"a", b"2"))  # 3
    harness.do(DeleteKey(b"a"))  # 4
    harness.do(PutKey(b"a", b"5"))  # 5
    kv = harness.machine.kv
    seen = []
    for rev in range(1, 6):
        found = kv.get(b"a", rev)
        assert not isinstance(found, Refusal)
        seen.append(found.value if found is not None else None)
    assert seen == [b"1", b"1", b"2", None, b"5"]
    assert _keys(kv.range(b"", b"", 9, 4)) == [b"b"]
    assert kv.count(b"", b"", 4) == 1
    assert kv.count(b"", b"", 3) == 2


def test_a_revision_of_the_future_is_refused() -> None:
    harness = Harness()
    assert refusal(harness.machine.kv.get(b"a", 1)) is Reason.PRECONDITION


def test_below_the_compaction_revision_nothing_is_readable() -> None:
    harness = Harness()
    for number in range(5):
        harness.do(PutKey(b"a", b"%d" % number))
    harness.do(CompactHistory(3))
    kv = harness.machine.kv
    refused = kv.get(b"a", 2)
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.COMPACTED
    assert refused.details == {"compacted_revision": "3"}
    assert refusal(kv.range(b"", b"", 9, 2)) is Reason.COMPACTED
    assert refusal(kv.count(b"", b"", 2)) is Reason.COMPACTED
    at_three = kv.get(b"a", 3)
    assert isinstance(at_three, KeyValue)
    assert at_three.value == b"2"


def test_a_range_delete_is_one_revision_and_counts() -> None:
    harness = Harness()
    for key in (b"a", b"b", b"c"):
        harness.do(PutKey(key, b""))
    assert harness.do(DeleteRange(b"a", b"c")) == RangeDeleted(2)
    assert harness.machine.revision == 4
    assert _keys(harness.machine.kv.range(b"", b"", 9)) == [b"c"]


def test_a_range_delete_over_the_limit_deletes_nothing() -> None:
    harness = Harness(Limits(range_delete_keys_max=2))
    for key in (b"a", b"b", b"c"):
        harness.do(PutKey(key, b""))
    refused = harness.do(DeleteRange(b"", b""))
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.TOO_LARGE
    assert refused.details["limit"] == "2"
    assert refused.details["size"] == "3"
    assert harness.machine.kv.count(b"", b"") == 3


def test_increment_counts_a_missing_key_from_zero_and_keeps_decimal_text() -> None:
    harness = Harness()
    assert harness.do(IncrementKey(b"n", 5)) == KeyIncremented(5, 1)
    assert harness.do(IncrementKey(b"n", -7)) == KeyIncremented(-2, 2)
    assert harness.value(b"n") == b"-2"


@pytest.mark.parametrize(
    "value", [b"", b"-", b"x", b"1.5", b" 1", b"1_0", b"+1", b"9223372036854775808"]
)
def test_increment_refuses_what_is_no_int64(value: bytes) -> None:
    harness = Harness()
    harness.do(PutKey(b"n", value))
    assert refusal(harness.do(IncrementKey(b"n", 0))) is Reason.PRECONDITION
    assert harness.value(b"n") == value


def test_increment_refuses_to_overflow() -> None:
    harness = Harness()
    harness.do(IncrementKey(b"n", _INT64_MAX))
    assert refusal(harness.do(IncrementKey(b"n", 1))) is Reason.PRECONDITION
    assert harness.do(IncrementKey(b"n", -1)) == KeyIncremented(_INT64_MAX - 1, 2)


@pytest.mark.parametrize(
    ("command", "reason", "limit_name"),
    [
        (PutKey(b"", b""), Reason.INVALID_REQUEST, ""),
        (PutKey(b"k" * 1025, b""), Reason.TOO_LARGE, "key_bytes_max"),
        (PutKey(b"k", b"v" * ((1 << 20) + 1)), Reason.TOO_LARGE, "value_bytes_max"),
        (IncrementKey(b"", 1), Reason.INVALID_REQUEST, ""),
    ],
)
def test_sizes_over_a_limit_are_refused_by_name(
    command: PutKey | IncrementKey, reason: Reason, limit_name: str
) -> None:
    harness = Harness()
    refused = harness.do(command)
    assert isinstance(refused, Refusal)
    assert refused.reason is reason
    assert refused.details.get("limit_name", "") == limit_name
    assert harness.machine.revision == 0


def test_sizes_at_the_limit_pass() -> None:
    harness = Harness()
    assert harness.do(PutKey(b"k" * 1024, b"v" * (1 << 20))) == KeyPut(1)


def test_a_full_state_refuses_growth_and_lets_deletes_pass() -> None:
    harness = Harness(Limits(state_bytes_max=1000))
    harness.do(PutKey(b"a", b"v" * 400))
    refused = harness.do(PutKey(b"b", b"v" * 400))
    assert isinstance(refused, Refusal)
    assert refused.reason is Reason.QUOTA
    assert refused.details["limit"] == "1000"
    assert isinstance(harness.do(PutKey(b"a", b"v" * 300)), KeyPut)
    assert harness.do(DeleteKey(b"a")) == KeyDeleted(1)
    assert harness.machine.context.size_bytes == 0
    assert isinstance(harness.do(PutKey(b"b", b"v" * 400)), KeyPut)


def test_versions_outlive_a_restart() -> None:
    harness = Harness()
    for value in (b"1", b"2", b"3"):
        harness.do(PutKey(b"a", value))
    harness.do(PutKey(b"gone", b""))
    harness.do(DeleteKey(b"gone"))
    harness.save()
    kv = harness.reload().machine.kv
    second = kv.get(b"a", 2)
    assert isinstance(second, KeyValue)
    assert second.value == b"2"
    assert kv.get(b"gone", 4) == KeyValue(b"gone", b"", 4, 4, 1, 0)
    assert kv.get(b"gone", 5) is None
    assert _keys(kv.range(b"", b"", 9)) == [b"a"]
