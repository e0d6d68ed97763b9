"""What all unary calls have in common: bytes, sizes, deadlines, refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from raftd.api.calls import Direct, Flow, Watch, Write
from raftd.api.errors import TABLE
from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.api.registry import Table
from raftd.api.unary import _timeout_of
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import cluster_pb2, common_pb2, kv_pb2
from tests.api.clients import Stubs, refusal_of
from tests.api.solo_node import SoloNode

METHODS = {method.name: method for method in Table(DEFAULT_DOOR_LIMITS).methods}
PUT = kv_pb2.PutKeyRequest(key=b"k")
GET = kv_pb2.GetKeyRequest(key=b"k")


def call_bytes(stubs: Stubs, name: str, request: bytes) -> Any:
    method = METHODS[name]
    path = f"/{method.service}/{method.name}"
    channel: Any = stubs.channel  # without serializers, calls take bytes
    if isinstance(method.call, Watch):
        return channel.unary_stream(path)(request).read()
    return channel.unary_unary(path)(request)


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_bytes_that_are_no_request_are_refused(
    stubs: Stubs, node: SoloNode, name: str
) -> None:
    refused = await refusal_of(call_bytes(stubs, name, b"\xff\xff"))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.reason, refused.applied) == ("INVALID_REQUEST", "no")
    assert refused.sentence == f"the bytes are no {name} request"
    assert node.writes == []


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_a_request_over_the_limit_is_refused_with_its_size(
    stubs: Stubs, name: str
) -> None:
    size = (4 << 20) + 1
    refused = await refusal_of(call_bytes(stubs, name, bytes(size)))
    assert refused.reason == "TOO_LARGE"
    assert refused.sentence == (
        f"the request is {size}, over the limit of {4 << 20} (request_bytes_max)"
    )
    assert refused.metadata["limit_name"] == "request_bytes_max"


@pytest.mark.parametrize("reason", list(Reason))
async def test_every_reason_ends_a_write_and_a_read_with_its_status(
    stubs: Stubs, node: SoloNode, reason: Reason
) -> None:
    node.refusing = Refusal(reason, "this is why", {"leader": "2"})
    for call in (stubs.kv.PutKey(PUT), stubs.kv.GetKey(GET)):
        refused = await refusal_of(call)
        assert refused.reason == reason.value
        assert refused.code is TABLE[reason].code
        assert refused.applied == TABLE[reason].applied.value
        assert refused.metadata["leader"] == "2"


async def test_the_node_answers_before_the_caller_gives_up(
    stubs: Stubs, node: SoloNode
) -> None:
    node.is_stopped = True
    calling = asyncio.ensure_future(refusal_of(stubs.kv.PutKey(PUT, timeout=60)))
    await node.has_writes(1)
    (given_s,) = node.timeouts
    assert given_s is not None
    assert 10 < given_s < 60
    node.give_up()
    refused = await calling
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (refused.reason, refused.applied) == ("DEADLINE", "unknown")


@pytest.mark.parametrize(
    ("left_s", "given_s"),
    [(60, 59.3), (0.5, 0.4455), (0, 0), (None, None), (1e9, None)],
)
def test_the_node_is_given_a_little_less_than_is_left(
    left_s: float | None, given_s: float | None
) -> None:
    class Context:
        def time_remaining(self) -> float | None:
            return left_s

    context: Any = Context()
    assert _timeout_of(context) == pytest.approx(given_s)


async def test_without_a_deadline_a_write_may_take_for_ever(
    stubs: Stubs, node: SoloNode
) -> None:
    await stubs.kv.PutKey(PUT)
    assert node.timeouts == [None]


async def test_a_header_of_a_write_reaches_the_node(
    stubs: Stubs, node: SoloNode
) -> None:
    write = common_pb2.WriteHeader(
        session_id=5, session_key=b"k" * 16, number=7, acknowledged=3
    )
    call = stubs.kv.PutKey(kv_pb2.PutKeyRequest(write=write, key=b"k"))
    assert (await refusal_of(call)).reason == "SESSION_UNKNOWN"
    # Without a session the same node carries it out, so the header was read.
    assert (await stubs.kv.PutKey(PUT)).mod_rev
    assert [written.session for written in node.writes] == [0]


async def test_status_of_one_member_and_of_all(stubs: Stubs) -> None:
    one = await stubs.cluster.GetStatus(cluster_pb2.GetStatusRequest())
    assert [member.name for member in one.members] == ["n1"]
    assert one.members[0].role == cluster_pb2.MemberStatus.ROLE_LEADER
    assert one.members[0].term == 7
    every = await stubs.cluster.GetStatus(cluster_pb2.GetStatusRequest(all=True))
    assert [member.client_address for member in every.members] == ["h1:7400", "h2:7400"]
    assert every.members[1].role == cluster_pb2.MemberStatus.ROLE_UNSPECIFIED


async def test_a_call_that_is_cancelled_leaves_nothing_behind(
    stubs: Stubs, node: SoloNode
) -> None:
    watch = stubs.kv.WatchKeys(kv_pb2.WatchKeysRequest(to_last=True, initial=True))
    await watch.read()
    assert len(node.watches) == 1
    watch.cancel()
    async with asyncio.timeout(30):
        await node.has_no_watches()


def test_every_write_of_a_session_has_a_header() -> None:
    headless = {
        method.name
        for method in METHODS.values()
        if isinstance(method.call, Write) and not method.has_write_header
    }
    assert headless == set()


def test_only_what_streams_have_by_other_means_is_missing_there() -> None:
    direct = {
        method.name for method in METHODS.values() if isinstance(method.call, Direct)
    }
    flows = {
        method.name for method in METHODS.values() if isinstance(method.call, Flow)
    }
    of_cluster = {
        method.name
        for service in cluster_pb2.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    of_sessions = {"OpenSession", "CloseSession", "KeepAliveLease"}
    assert direct | flows == of_sessions | of_cluster
