"""Keys through real unary calls."""

from __future__ import annotations

import pytest

from raftpb.v1 import common_pb2, kv_pb2
from tests.api.clients import Stubs, refusal_of
from tests.api.solo_node import CLUSTER_ID, SoloNode


async def put(
    stubs: Stubs, key: bytes, value: bytes = b"v", *, if_mod_rev: int | None = None
) -> int:
    request = kv_pb2.PutKeyRequest(key=key, value=value, if_mod_rev=if_mod_rev)
    answer = await stubs.kv.PutKey(request)
    revision: int = answer.mod_rev
    return revision


async def get(stubs: Stubs, key: bytes, at: int = 0) -> kv_pb2.GetKeyResponse:
    request = kv_pb2.GetKeyRequest(key=key, at_revision=at)
    answer = await stubs.kv.GetKey(request)
    assert isinstance(answer, kv_pb2.GetKeyResponse)
    return answer


async def test_what_is_put_is_read_and_the_header_says_where(stubs: Stubs) -> None:
    revision = await put(stubs, b"a", b"1")
    answer = await get(stubs, b"a")
    assert answer.found
    assert answer.key_value == kv_pb2.KeyValue(
        key=b"a", value=b"1", create_rev=revision, mod_rev=revision, version=1
    )
    assert answer.header == common_pb2.ResponseHeader(
        revision=revision, raft_term=7, leader=1, cluster_id=CLUSTER_ID, node_id=1
    )


async def test_a_missing_key_is_an_answer(stubs: Stubs) -> None:
    answer = await get(stubs, b"nothing")
    assert not answer.found
    assert not answer.HasField("key_value")


async def test_the_previous_value_comes_back_if_asked_for(stubs: Stubs) -> None:
    first = await put(stubs, b"a", b"1")
    answer = await stubs.kv.PutKey(
        kv_pb2.PutKeyRequest(key=b"a", value=b"2", want_previous=True)
    )
    assert answer.previous.value == b"1"
    assert answer.previous.mod_rev == first
    gone = await stubs.kv.DeleteKey(
        kv_pb2.DeleteKeyRequest(key=b"a", want_previous=True)
    )
    assert (gone.deleted, gone.previous.value) == (1, b"2")


async def test_zero_as_condition_means_must_not_exist(stubs: Stubs) -> None:
    await put(stubs, b"a", if_mod_rev=0)
    refused = await refusal_of(put(stubs, b"a", if_mod_rev=0))
    assert (refused.reason, refused.applied) == ("PRECONDITION", "no")
    assert "exists already" in refused.sentence


async def test_a_put_without_condition_is_unconditional(stubs: Stubs) -> None:
    first = await put(stubs, b"a")
    second = await put(stubs, b"a")
    assert second > first


async def test_a_delete_on_condition(stubs: Stubs) -> None:
    revision = await put(stubs, b"a")
    wrong = kv_pb2.DeleteKeyRequest(key=b"a", if_mod_rev=revision + 1)
    refused = await refusal_of(stubs.kv.DeleteKey(wrong))
    assert refused.reason == "PRECONDITION"
    right = kv_pb2.DeleteKeyRequest(key=b"a", if_mod_rev=revision)
    assert (await stubs.kv.DeleteKey(right)).deleted == 1


async def test_increment_answers_the_sum(stubs: Stubs) -> None:
    await stubs.kv.IncrementKey(kv_pb2.IncrementKeyRequest(key=b"n", by=5))
    answer = await stubs.kv.IncrementKey(kv_pb2.IncrementKeyRequest(key=b"n", by=-7))
    assert answer.value == -2
    assert (await get(stubs, b"n")).key_value.value == b"-2"


async def test_a_range_is_deleted_at_one_revision(stubs: Stubs) -> None:
    for key in (b"a1", b"a2", b"b"):
        await put(stubs, key)
    request = kv_pb2.DeleteRangeRequest(start=b"a", end=b"b")
    assert (await stubs.kv.DeleteRange(request)).deleted == 2
    assert (await get(stubs, b"b")).found


async def test_pages_show_one_revision_whatever_happens_between(stubs: Stubs) -> None:
    keys = [b"k%d" % number for number in range(5)]
    for key in keys:
        await put(stubs, key)
    request = kv_pb2.ListKeysRequest(start=b"k", limit=2)
    seen: list[bytes] = []
    revision = 0
    while True:
        page = await stubs.kv.ListKeys(request)
        revision = revision or page.at_revision
        assert page.at_revision == revision
        seen += [found.key for found in page.key_values]
        if not page.next_page_token:
            break
        await put(stubs, b"k4", b"changed")
        await put(stubs, b"k33", b"new")
        request.page_token = page.next_page_token
    assert seen == keys


async def test_a_page_ends_by_its_bytes_too(stubs: Stubs) -> None:
    for key in (b"a", b"b", b"c"):
        await put(stubs, key, b"x" * (1 << 20))
    page = await stubs.kv.ListKeys(kv_pb2.ListKeysRequest())
    assert [found.key for found in page.key_values] == [b"a"]
    only_keys = await stubs.kv.ListKeys(kv_pb2.ListKeysRequest(keys_only=True))
    assert [found.key for found in only_keys.key_values] == [b"a", b"b", b"c"]
    assert not any(found.value for found in only_keys.key_values)


async def test_counting_lists_nothing(stubs: Stubs) -> None:
    for key in (b"a", b"b", b"c"):
        await put(stubs, key)
    request = kv_pb2.ListKeysRequest(start=b"b", count_only=True)
    page = await stubs.kv.ListKeys(request)
    assert (page.count, len(page.key_values)) == (2, 0)


async def test_an_old_revision_is_readable_until_compaction(
    stubs: Stubs, node: SoloNode
) -> None:
    first = await put(stubs, b"a", b"old")
    await put(stubs, b"a", b"new")
    assert (await get(stubs, b"a", first)).key_value.value == b"old"
    node.machine.kv.compacted_rev = first + 1
    refused = await refusal_of(get(stubs, b"a", first))
    assert refused.reason == "COMPACTED"
    assert refused.metadata["compacted_revision"] == str(first + 1)


async def test_a_stale_read_says_its_age(stubs: Stubs) -> None:
    read = common_pb2.ReadOptions(stale=True)
    answer = await stubs.kv.GetKey(kv_pb2.GetKeyRequest(key=b"a", read=read))
    assert answer.header.age_ms == 5


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (kv_pb2.PutKeyRequest(), "a key has at least one byte"),
        (
            kv_pb2.PutKeyRequest(key=b"k" * 1025),
            "the key is 1025, over the limit of 1024 (key_bytes_max)",
        ),
        (
            kv_pb2.PutKeyRequest(key=b"k", value=bytes((1 << 20) + 1)),
            "the value is 1048577, over the limit of 1048576 (value_bytes_max)",
        ),
        (kv_pb2.GetKeyRequest(), "a key has at least one byte"),
        (kv_pb2.IncrementKeyRequest(), "a key has at least one byte"),
        (kv_pb2.DeleteKeyRequest(), "a key has at least one byte"),
        (
            kv_pb2.DeleteRangeRequest(start=b"b", end=b"a"),
            "the range is empty: its end is not above its start",
        ),
        (
            kv_pb2.ListKeysRequest(end=b"k" * 1025),
            "a bound of the range is 1025, over the limit of 1024 (key_bytes_max)",
        ),
        (
            kv_pb2.ListKeysRequest(page_token=b"nonsense"),
            "the page token is not one of an earlier answer",
        ),
    ],
)
async def test_a_bad_request_is_refused_and_never_proposed(
    stubs: Stubs, node: SoloNode, request_: object, sentence: str
) -> None:
    method = getattr(stubs.kv, type(request_).__name__.removesuffix("Request"))
    refused = await refusal_of(method(request_))
    assert refused.sentence == sentence
    assert refused.applied == "no"
    assert node.writes == []


async def test_limits_allow_what_they_name(stubs: Stubs) -> None:
    await put(stubs, b"k" * 1024, bytes(1 << 20))
    assert (await get(stubs, b"k" * 1024)).found
