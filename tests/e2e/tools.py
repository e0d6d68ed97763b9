"""What the tests on real processes share: waiting for a state, and asking nodes.

Rules: nothing here asserts how long something took. A deadline only ends a test whose
event never comes, so it is far beyond what a slow machine needs.

Source: SEMANTICS.md section 7 (status).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

import grpc

import raftclient
from cluster.processes import Processes
from raftpb.v1 import cluster_pb2, cluster_pb2_grpc

__all__ = [
    "DEADLINE_S",
    "eventually",
    "eventually_asked",
    "eventually_async",
    "everybody_agrees",
    "leader_of",
    "status_of",
    "told_by",
    "wait_until_agreed",
    "wait_until_caught_up",
    "wait_until_serving",
]

T = TypeVar("T")

DEADLINE_S: Final = 90.0
_POLL_S: Final = 0.05
_CALL_S: Final = 2.0
_LOOKS_PER_WRITE: Final = 40
_Role = cluster_pb2.MemberStatus


def eventually(look: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Look again and again until there is something true, and return it."""
    end_s = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end_s, f"it never came about that {what}"
        time.sleep(_POLL_S)


async def eventually_async(
    look: Callable[[], T], what: str, deadline_s: float = DEADLINE_S
) -> T:
    """Do as ``eventually`` without blocking the loop between two looks."""
    end_s = time.monotonic() + deadline_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end_s, f"it never came about that {what}"
        await asyncio.sleep(_POLL_S)


async def eventually_asked(
    ask: Callable[[], Awaitable[T | None]], what: str, deadline_s: float = DEADLINE_S
) -> T:
    """Do as ``eventually_async`` where a look is a question to somebody else."""
    end_s = time.monotonic() + deadline_s
    while True:
        found = await ask()
        if found:
            return found
        assert time.monotonic() < end_s, f"it never came about that {what}"
        await asyncio.sleep(_POLL_S)


def status_of(nodes: Processes, node_id: int) -> cluster_pb2.MemberStatus | None:
    """Ask a node about itself; None if it does not answer."""
    with grpc.insecure_channel(nodes.endpoint(node_id)) as channel:
        stub = cluster_pb2_grpc.ClusterServiceStub(channel)
        try:
            answer = stub.GetStatus(
                cluster_pb2.GetStatusRequest(), timeout=_CALL_S, wait_for_ready=True
            )
        except grpc.RpcError:
            return None
    (member,) = answer.members
    return member


def told_by(nodes: Processes, node_id: int) -> cluster_pb2.MemberStatus:
    """Ask a node that runs about itself, until it answers."""
    told: list[cluster_pb2.MemberStatus] = []

    def look() -> bool:
        status = status_of(nodes, node_id)
        told.extend([status] if status is not None else [])
        return bool(told)

    eventually(look, f"node {node_id} answers")
    return told[0]


def leader_of(nodes: Processes) -> int:
    """Wait until the running nodes follow one of them, and say which."""

    def look() -> int:
        found = [status_of(nodes, node_id) for node_id in nodes.running]
        leaders = {status.leader if status else 0 for status in found}
        if len(leaders) != 1:
            return 0
        leader = leaders.pop()
        roles = {status.node_id: status.role for status in found if status}
        return leader if roles.get(leader) == _Role.ROLE_LEADER else 0

    return eventually(look, "all running nodes follow one leader")


def wait_until_serving(nodes: Processes, wanted: Iterable[int] = ()) -> None:
    """Wait until nodes (all running ones) answer and know a leader."""
    for node_id in tuple(wanted) or nodes.running:

        def look(node_id: int = node_id) -> bool:
            status = status_of(nodes, node_id)
            return status is not None and status.leader != 0

        eventually(look, f"node {node_id} serves")


def wait_until_caught_up(nodes: Processes) -> None:
    """Wait until all running nodes have applied what is committed now."""
    index = told_by(nodes, leader_of(nodes)).commit_index

    def look() -> bool:
        found = [status_of(nodes, node_id) for node_id in nodes.running]
        return all(status and status.applied_index >= index for status in found)

    eventually(look, f"all running nodes have applied entry {index}")


def everybody_agrees(nodes: Processes, index: int, wanted: Sequence[int] = ()) -> bool:
    """Tell whether nodes (all) have compared their states at or after an index."""
    found = [status_of(nodes, node_id) for node_id in tuple(wanted) or nodes.ids]
    for status in found:
        assert status is None or "differs" not in status.trouble, status.trouble
    return all(
        status is not None and not status.trouble and status.compared_index >= index
        for status in found
    )


def wait_until_agreed(nodes: Processes, wanted: Sequence[int] = ()) -> None:
    """Wait until nodes (all) hold the same state at a mark after all that was written.

    Needs `--checkpoint-interval-ms` to be short. Marks come with writes: who got the
    newest one with a snapshot compares at the next.
    """
    index = told_by(nodes, leader_of(nodes)).last_index
    looks = itertools.count(1)

    def look() -> bool:
        if everybody_agrees(nodes, index, wanted):
            return True
        if next(looks) % _LOOKS_PER_WRITE == 0:
            endpoints = list(map(nodes.endpoint, nodes.running))
            with raftclient.connect(endpoints, timeout_s=DEADLINE_S) as client:
                client.delete("there is no such key")
        return False

    eventually(look, f"all nodes compared their states at or after entry {index}")
