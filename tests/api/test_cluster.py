"""The cluster at the doors: members, leadership, backup, and what a status tells."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import grpc
import pytest

from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.api.server import ApiServer
from raftd.node.service import (
    AddMember,
    MemberInfo,
    MemberState,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import cluster_pb2
from tests.api.clients import Stubs, refusal_of
from tests.api.solo_node import SoloNode

BUSY = Refusal(Reason.PRECONDITION, "another change of members is in progress")


class TellingNode(SoloNode):
    """Says what a test wants of itself."""

    state = MemberState(info=MemberInfo(1, "n1", "h1:7401", "h1:7400"))

    async def status(self, *, is_for_all: bool) -> Sequence[MemberState]:
        return [self.state]


@pytest.fixture
async def node() -> TellingNode:
    return TellingNode()


async def status_of(stubs: Stubs, node: TellingNode, **told: Any) -> Any:
    node.state = dataclasses.replace(node.state, is_reachable=True, **told)
    answer = await stubs.cluster.GetStatus(cluster_pb2.GetStatusRequest())
    return answer.members[0]


async def test_the_list_of_members_has_kinds_and_addresses(
    stubs: Stubs, node: TellingNode
) -> None:
    node.members = (
        node.members[0],
        MemberInfo(3, "n3", "h3:7401", "", "learner", is_joining=True, replaces=2),
    )
    node.turn()
    answer = await stubs.cluster.ListMembers(cluster_pb2.ListMembersRequest())
    assert answer.members_index == node.machine.applied_index == 1
    first, second = answer.members
    assert (first.name, first.kind) == ("n1", cluster_pb2.MEMBER_KIND_VOTER)
    assert (second.node_id, second.peer_address) == (3, "h3:7401")
    assert second.kind == cluster_pb2.MEMBER_KIND_LEARNER
    assert (second.is_joining, second.replaces) == (True, 2)
    assert answer.header.node_id == 1


async def test_a_new_member_is_asked_of_the_node_and_told_how_to_start(
    stubs: Stubs, node: TellingNode
) -> None:
    answer = await stubs.cluster.AddMember(
        cluster_pb2.AddMemberRequest(name="n3", peer_address="h3:7401", force=True)
    )
    assert node.changes == [AddMember("n3", "h3:7401", is_forced=True)]
    assert answer.member.node_id == 3
    assert list(answer.serve_flags) == ["--node-id", "3", "--join", "h1:7401,h2:7401"]


async def test_settings_that_must_be_equal_are_told_to_a_new_member() -> None:
    limits = dataclasses.replace(DEFAULT_LIMITS, key_bytes_max=2048)
    node = TellingNode(limits)
    node.state = dataclasses.replace(node.state, cluster="shop")
    server = ApiServer(
        node,
        "127.0.0.1:0",
        dataclasses.replace(
            DEFAULT_DOOR_LIMITS, apply=limits, request_bytes_max=9_000_000
        ),
    )
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        answer = await Stubs(channel).cluster.ReplaceMember(
            cluster_pb2.ReplaceMemberRequest(
                old="n2", name="n2", peer_address="h9:7401", node_id=9
            )
        )
    await server.stop(0)
    assert node.changes == [ReplaceMember(2, "n2", "h9:7401", new_id=9)]
    assert list(answer.serve_flags)[4:] == [
        *("--cluster", "shop"),
        *("--limits-key-bytes-max", "2048"),
        *("--limits-request-bytes-max", "9000000"),
    ]


@pytest.mark.parametrize("named", ["n2", "2"])
async def test_a_member_is_named_by_name_or_id(
    stubs: Stubs, node: TellingNode, named: str
) -> None:
    await stubs.cluster.RemoveMember(
        cluster_pb2.RemoveMemberRequest(member=named, force=True)
    )
    await stubs.cluster.UpdateMember(
        cluster_pb2.UpdateMemberRequest(member=named, client_address="h2:7500")
    )
    moved = await stubs.cluster.TransferLeadership(
        cluster_pb2.TransferLeadershipRequest(to=named)
    )
    assert node.changes == [
        RemoveMember(2, is_forced=True),
        UpdateMember(2, client_address="h2:7500"),
        2,
    ]
    assert moved.leader == 2
    assert moved.header.leader == 2


async def test_a_name_comes_before_an_id(stubs: Stubs, node: TellingNode) -> None:
    node.members = (
        MemberInfo(1, "2", "h1:7401", "h1:7400"),
        MemberInfo(2, "b", "h2:7401", "h2:7400"),
    )
    await stubs.cluster.RemoveMember(cluster_pb2.RemoveMemberRequest(member="2"))
    assert node.changes == [RemoveMember(1)]


async def test_a_name_that_two_have_is_refused(stubs: Stubs, node: TellingNode) -> None:
    node.members = (
        MemberInfo(1, "n1", "h1:7401", "h1:7400"),
        MemberInfo(4, "n1", "h9:7401", "", "learner", replaces=1),
    )
    refused = await refusal_of(
        stubs.cluster.RemoveMember(cluster_pb2.RemoveMemberRequest(member="n1"))
    )
    assert refused.reason == "INVALID_REQUEST"
    assert refused.sentence == "more than one member is called 'n1': give an id, 1 or 4"
    assert node.changes == []


async def test_the_node_has_less_time_than_the_caller(
    stubs: Stubs, node: TellingNode
) -> None:
    request = cluster_pb2.RemoveMemberRequest(member="n1")
    await stubs.cluster.RemoveMember(request, timeout=100)
    (given_s,) = node.timeouts
    assert given_s is not None
    assert 10 < given_s < 98.91, "as long as an answer takes"


async def test_a_backup_may_take_its_own_time_to_begin(
    stubs: Stubs, node: TellingNode
) -> None:
    for request in (
        cluster_pb2.StreamBackupRequest(begin_timeout_ms=1500),
        cluster_pb2.StreamBackupRequest(),
    ):
        await stubs.cluster.StreamBackup(request).read()
    assert node.timeouts == [1.5, None]


async def test_leadership_goes_to_the_best_if_nobody_is_named(
    stubs: Stubs, node: TellingNode
) -> None:
    moved = await stubs.cluster.TransferLeadership(
        cluster_pb2.TransferLeadershipRequest()
    )
    assert node.changes == [None]
    assert moved.leader == 2


@pytest.mark.parametrize(
    ("method", "request_", "reason", "said"),
    [
        (
            "AddMember",
            cluster_pb2.AddMemberRequest(peer_address="h:1"),
            "INVALID_NAME",
            "the name of a member is empty",
        ),
        (
            "AddMember",
            cluster_pb2.AddMemberRequest(name="a", peer_address="h"),
            "INVALID_REQUEST",
            "the peer address 'h' is not host:port",
        ),
        (
            "AddMember",
            cluster_pb2.AddMemberRequest(
                name="a", peer_address="h:1", client_address="h:99999"
            ),
            "INVALID_REQUEST",
            "the client address 'h:99999' is not host:port",
        ),
        (
            "ReplaceMember",
            cluster_pb2.ReplaceMemberRequest(old="x", name="a", peer_address="h:1"),
            "NOT_FOUND",
            "there is no member 'x'; the members are n1 (id 1), n2 (id 2)",
        ),
        (
            "RemoveMember",
            cluster_pb2.RemoveMemberRequest(),
            "INVALID_REQUEST",
            "the member is missing: give its name or id",
        ),
        (
            "UpdateMember",
            cluster_pb2.UpdateMemberRequest(member="n1"),
            "INVALID_REQUEST",
            "an update of a member changes its name or an address",
        ),
        (
            "AddMember",
            cluster_pb2.AddMemberRequest(name="2", peer_address="h3:7401"),
            "INVALID_REQUEST",
            "the name '2' could be taken for an id; add a letter",
        ),
        (
            "UpdateMember",
            cluster_pb2.UpdateMemberRequest(member="n1", name="n/1"),
            "INVALID_REQUEST",
            "the name 'n/1' holds a blank or one of = @ / and comma",
        ),
        (
            "ReplaceMember",
            cluster_pb2.ReplaceMemberRequest(
                old="n1", name="n3", peer_address="h3:7401", node_id=65_537
            ),
            "INVALID_REQUEST",
            "the id 65537 is too large: ids go from 1 to 65536",
        ),
        (
            "TransferLeadership",
            cluster_pb2.TransferLeadershipRequest(to="n7"),
            "NOT_FOUND",
            "there is no member 'n7'; the members are n1 (id 1), n2 (id 2)",
        ),
    ],
)
async def test_what_cannot_be_read_is_refused_before_the_node_is_asked(
    stubs: Stubs,
    node: TellingNode,
    method: str,
    request_: Any,
    reason: str,
    said: str,
) -> None:
    refused = await refusal_of(getattr(stubs.cluster, method)(request_))
    assert (refused.reason, refused.applied) == (reason, "no")
    assert refused.sentence == said
    assert node.changes == []


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("AddMember", cluster_pb2.AddMemberRequest(name="a", peer_address="h:1")),
        ("RemoveMember", cluster_pb2.RemoveMemberRequest(member="n1")),
        (
            "ReplaceMember",
            cluster_pb2.ReplaceMemberRequest(old="n1", name="a", peer_address="h:1"),
        ),
        ("UpdateMember", cluster_pb2.UpdateMemberRequest(member="n1", name="b")),
        ("TransferLeadership", cluster_pb2.TransferLeadershipRequest()),
    ],
)
async def test_a_refusal_of_the_node_is_passed_on(
    stubs: Stubs, node: TellingNode, method: str, request_: Any
) -> None:
    node.refusing = BUSY
    refused = await refusal_of(getattr(stubs.cluster, method)(request_))
    assert (refused.reason, refused.sentence) == ("PRECONDITION", BUSY.sentence)


async def test_a_backup_begins_with_facts_and_ends_with_its_hash(
    stubs: Stubs, node: TellingNode
) -> None:
    node.file = [b"a" * (3 << 20), b"b"]
    node.state = dataclasses.replace(node.state, cluster="shop", state_bytes=77)
    call = stubs.cluster.StreamBackup(cluster_pb2.StreamBackupRequest())
    messages = [message async for message in call]
    bodies = [message.WhichOneof("body") for message in messages]
    assert bodies == ["facts", "chunk", "chunk", "chunk", "end"]
    facts = messages[0].facts
    assert (facts.cluster_name, facts.name) == ("shop", "n1")
    assert facts.state_bytes == 77
    file = b"".join(message.chunk for message in messages)
    assert file == b"".join(node.file)
    end = messages[-1].end
    assert end.bytes == len(file)
    assert end.blake2b == hashlib.blake2b(file, digest_size=32).digest()


async def test_a_backup_that_cannot_be_made_is_refused(
    stubs: Stubs, node: TellingNode
) -> None:
    node.refusing = BUSY
    call = stubs.cluster.StreamBackup(cluster_pb2.StreamBackupRequest())
    refused = await refusal_of(call.read())
    assert (refused.reason, refused.sentence) == ("PRECONDITION", BUSY.sentence)


async def test_what_a_member_does_not_tell_is_absent_and_not_zero(
    stubs: Stubs, node: TellingNode
) -> None:
    old = await status_of(stubs, node, level=1)
    for name in ("snapshot_percent", "disk_free_bytes", "wall_ms", "compared_age_ms"):
        assert not old.HasField(name), name
    assert not old.HasField("loop_lag_max_us")
    assert old.kind == cluster_pb2.MEMBER_KIND_VOTER
    new = await status_of(
        stubs,
        node,
        level=2,
        kind="learner",
        snapshot_percent=0,
        snapshot_to=3,
        disk_total_bytes=10,
        wall_ms=5,
        compared_at_ms=0,
        log_entries=4,
        is_disk_full=True,
        config_pending=True,
        limits="a=1 b=2",
    )
    assert new.HasField("snapshot_percent")
    assert (new.snapshot_percent, new.snapshot_to) == (0, 3)
    assert new.HasField("disk_free_bytes")
    assert (new.disk_free_bytes, new.disk_total_bytes) == (0, 10)
    assert new.wall_ms == 5
    assert new.HasField("compared_age_ms")
    assert new.HasField("loop_lag_max_us")
    assert new.HasField("last_contact_ms")
    assert new.kind == cluster_pb2.MEMBER_KIND_LEARNER
    assert (new.log_entries, new.is_disk_full, new.config_pending) == (4, True, True)
    assert dict(new.limits) == {"a": 1, "b": 2}
