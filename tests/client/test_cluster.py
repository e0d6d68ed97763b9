"""The cluster as a whole, through both faces, against the real doors."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

import raftclient
from raftclient import (
    InvalidRequest,
    MemberKind,
    MemberRole,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    Unavailable,
    _cluster_face,
    aio,
)
from raftd.api.server import ApiServer
from raftd.node.service import (
    AddMember,
    MemberChange,
    MemberInfo,
    MemberState,
    RemoveMember,
    ReplaceMember,
    UpdateMember,
)
from raftd.statemachine.schema.base import Reason, Refusal
from raftpb.v1 import cluster_pb2
from tests.api.solo_node import CLUSTER_ID, SoloNode
from tests.client.deadlines import fly
from tests.client.fake_server import FakeCluster

BUSY = Refusal(Reason.PRECONDITION, "another change of members is in progress")
NO_LEADER = Refusal(Reason.NO_LEADER, "no member leads at the moment; try again")


@pytest.fixture
async def node() -> SoloNode:
    return SoloNode()


@pytest.fixture
async def server(node: SoloNode) -> AsyncIterator[ApiServer]:
    served = ApiServer(node, "127.0.0.1:0")
    await served.start()
    yield served
    await served.stop(0)


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[aio.Client]:
    async with aio.connect(f"127.0.0.1:{server.port}") as client:
        yield client


def test_both_faces_have_the_same_names() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(_cluster_face.Cluster) == public(aio.Cluster)
    shown = inspect.signature(_cluster_face.Cluster.add)
    assert shown == inspect.signature(aio.Cluster.add)


async def test_members_are_listed(client: aio.Client, node: SoloNode) -> None:
    node.members = (
        node.members[0],
        MemberInfo(3, "n3", "h3:7401", "", "learner", is_joining=True, replaces=2),
    )
    first, second = await client.cluster.members()
    assert (first.name, first.kind, first.replaces) == ("n1", MemberKind.VOTER, 0)
    assert (second.node_id, second.peer_address) == (3, "h3:7401")
    assert (second.kind, second.is_joining) == (MemberKind.LEARNER, True)
    assert second.replaces == 2


async def test_changes_reach_the_node_as_they_were_asked(
    client: aio.Client, node: SoloNode
) -> None:
    cluster = client.cluster
    added = await cluster.add("n3", "h3:7401", client_address="h3:7400", node_id=3)
    assert (added.node_id, added.kind) == (3, MemberKind.LEARNER)
    assert added.serve_flags[:2] == ("--node-id", "3")
    await cluster.replace(2, "n9", "h9:7401", force=True)
    await cluster.update("n2", name="n8", peer_address="h8:7401")
    removed = await cluster.remove("n1", force=True)
    assert removed.name == "n3", "what the node answered"
    moved = await cluster.transfer("n2")
    assert moved.leader == 2
    assert moved.paused_ms >= 0
    assert node.changes == [
        AddMember("n3", "h3:7401", "h3:7400", 3),
        ReplaceMember(2, "n9", "h9:7401", is_forced=True),
        UpdateMember(2, "n8", "h8:7401"),
        RemoveMember(1, is_forced=True),
        2,
    ]


async def test_refusals_come_as_their_row_of_the_table(
    client: aio.Client, node: SoloNode
) -> None:
    with pytest.raises(InvalidRequest, match="not host:port"):
        await client.cluster.add("n3", "nowhere")
    with pytest.raises(NotFound, match="no member 'n7'"):
        await client.cluster.remove("n7")
    node.refusing = BUSY
    with pytest.raises(PreconditionFailed, match="another change"):
        await client.cluster.add("n3", "h3:7401")


async def test_a_change_is_tried_on_where_nothing_happened(
    client: aio.Client, node: SoloNode
) -> None:
    class Once(SoloNode):
        async def change_members(
            self, change: MemberChange, timeout_s: float
        ) -> MemberInfo | Refusal:
            answer = await super().change_members(change, timeout_s)
            return NO_LEADER if len(self.changes) == 1 else answer

    once = Once()
    node.change_members = once.change_members  # type: ignore[method-assign]  # this node's own
    added = await client.cluster.add("n3", "h3:7401")
    assert added.name == "n3"
    assert len(once.changes) == 2


@pytest.mark.parametrize(("each_s", "asked"), [(20, 2), (29.5, 1)])
async def test_no_leader_for_too_long_is_unavailable(
    client: aio.Client, node: SoloNode, each_s: float, asked: int
) -> None:
    async def look_for_a_leader(
        change: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        node.changes.append(change)
        fly(each_s)
        return NO_LEADER

    node.change_members = look_for_a_leader  # type: ignore[method-assign]  # this node's own
    with pytest.raises(Unavailable) as caught:
        await client.cluster.add("n3", "h3:7401", timeout_s=30)
    assert caught.value.applied == "no"
    assert len(node.changes) == asked, "again while there is time for an answer"


async def test_the_refusal_is_told_and_not_who_else_is_down(
    server: ApiServer, node: SoloNode
) -> None:
    async def look_for_a_leader(
        change: MemberChange, timeout_s: float
    ) -> MemberInfo | Refusal:
        fly(28.5)  # what is left is enough to find out who else is down
        return NO_LEADER

    async def say_nothing(*, is_for_all: bool) -> Sequence[MemberState]:
        if asyncio.get_running_loop().time() > begun_s + 28:
            await asyncio.Event().wait()
        return await SoloNode.status(node, is_for_all=is_for_all)

    begun_s = asyncio.get_running_loop().time()
    node.change_members = look_for_a_leader  # type: ignore[method-assign]  # this node's own
    node.status = say_nothing  # type: ignore[method-assign]  # this node's own
    dead = ",".join(f"127.0.0.1:{port}" for port in range(1, 9))
    endpoints = f"127.0.0.1:{server.port},{dead}"
    async with aio.connect(endpoints) as client:
        with pytest.raises(Unavailable, match="no member leads"):
            await client.cluster.add("n3", "h3:7401", timeout_s=30)


async def test_a_change_whose_member_dies_is_asked_once_and_unknown(
    server: ApiServer, node: SoloNode, client: aio.Client
) -> None:
    is_asked = asyncio.Event()

    class Silent(SoloNode):
        async def change_members(
            self, change: MemberChange, timeout_s: float
        ) -> MemberInfo | Refusal:
            self.changes.append(change)
            is_asked.set()
            await asyncio.Event().wait()
            raise AssertionError("never")

    silent = Silent()
    node.change_members = silent.change_members  # type: ignore[method-assign]  # this node's own
    asking = asyncio.create_task(client.cluster.add("n3", "h3:7401"))
    await is_asked.wait()
    await server.stop(0)
    with pytest.raises(OutcomeUnknown, match="was lost before it answered"):
        await asking
    assert len(silent.changes) == 1


async def test_a_member_of_the_first_release_is_passed_over(
    server: ApiServer, node: SoloNode
) -> None:
    with FakeCluster() as old:  # has GetStatus, like the first release
        endpoints = f"{old.endpoints},127.0.0.1:{server.port}"
        async with aio.connect(endpoints) as client:
            added = await client.cluster.add("n3", "h3:7401")
        async with aio.connect(old.endpoints) as client:
            with pytest.raises(Unavailable, match="does not know this call"):
                await client.cluster.members(timeout_s=60)
    assert added.name == "n3"


async def test_a_call_that_no_member_knows_is_refused_long_before_its_time() -> None:
    with FakeCluster() as old:
        async with aio.connect(old.endpoints) as client:
            with pytest.raises(Unavailable, match="does not know this call"):
                await client.cluster.add("n3", "h3:7401", timeout_s=600)


async def test_a_status_of_the_first_release_has_defaults() -> None:
    with FakeCluster() as old:
        async with aio.connect(old.endpoints) as client:
            (member,) = (await client.status()).members
    assert (member.role, member.kind) == (MemberRole.LEADER, MemberKind.VOTER)
    assert (member.level, member.limits) == (1, {})
    assert member.snapshot_percent is None
    assert member.disk_free_bytes is None
    assert member.wall_ms is None
    assert member.compared_age_ms is None


async def test_a_backup_is_saved_whole(
    client: aio.Client, node: SoloNode, tmp_path: Path
) -> None:
    node.file = [b"a" * (3 << 20), b"b"]
    steps: list[int] = []
    target = tmp_path / "b.backup"
    target.write_bytes(b"older")
    info = await client.cluster.backup(
        target, on_progress=lambda progress: steps.append(progress.bytes_done)
    )
    assert target.read_bytes() == b"".join(node.file)
    assert [path.name for path in tmp_path.iterdir()] == ["b.backup"]
    assert info.size_bytes == target.stat().st_size == steps[-1]
    assert info.cluster_id == CLUSTER_ID.hex()
    assert info.member == "n1"
    assert steps == sorted(steps)
    assert len(steps) == 3


async def test_a_backup_that_breaks_off_leaves_the_older_file(
    client: aio.Client, node: SoloNode, server: ApiServer, tmp_path: Path
) -> None:
    is_halfway = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"first"
        is_halfway.set()
        await asyncio.Event().wait()

    node._pieces = pieces  # type: ignore[method-assign]  # noqa: SLF001  # a node that stalls
    target = tmp_path / "b.backup"
    target.write_bytes(b"older")
    saving = asyncio.create_task(client.cluster.backup(target))
    await is_halfway.wait()
    await server.stop(0)
    with pytest.raises(Unavailable, match="broke off"):
        await saving
    assert target.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["b.backup"]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"end": {"bytes": 3, "blake2b": b"0" * 32}}], "came out damaged"),
        ([], "broke off after 3 bytes"),
    ],
    ids=["wrong hash", "no end"],
)
async def test_a_backup_that_does_not_prove_itself_is_not_kept(
    messages: list[dict[str, object]], said: str, tmp_path: Path
) -> None:
    stream = [{"facts": {"name": "n1"}}, {"chunk": b"abc"}, *messages]

    async def status(raw: bytes, context: object) -> bytes:
        return cluster_pb2.GetStatusResponse().SerializeToString()

    async def backup(raw: bytes, context: object) -> AsyncIterator[bytes]:
        for body in stream:
            yield cluster_pb2.StreamBackupResponse(**body).SerializeToString()  # type: ignore[arg-type]  # of the parameters

    server = grpc.aio.server()
    handlers: dict[str, Any] = {
        "GetStatus": grpc.unary_unary_rpc_method_handler(status),
        "StreamBackup": grpc.unary_stream_rpc_method_handler(backup),
    }
    name = "raftpb.v1.ClusterService"
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(name, handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.connect(f"127.0.0.1:{port}") as client:
        with pytest.raises(Unavailable, match=said):
            await client.cluster.backup(tmp_path / "b")
    await server.stop(0)
    assert list(tmp_path.iterdir()) == []


async def test_a_backup_to_nowhere_is_the_disk_s_own_error(
    client: aio.Client, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        await client.cluster.backup(tmp_path / "no" / "b")


async def test_threads_have_the_same_calls(
    server: ApiServer, node: SoloNode, tmp_path: Path
) -> None:
    def work() -> list[str]:
        with raftclient.connect(f"127.0.0.1:{server.port}") as client:
            client.cluster.backup(tmp_path / "b")
            return [member.name for member in client.cluster.members()]

    assert await asyncio.to_thread(work) == ["n1", "n2"]
    assert (tmp_path / "b").read_bytes() == b"onetwo"
