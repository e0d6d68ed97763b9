"""The two headers: what binds a write to its session, and where an answer comes from.

Source: SEMANTICS.md sections 0 and 1.
"""

from __future__ import annotations

from raftd.api.checks import fences_of, invalid
from raftd.api.limits import DoorLimits
from raftd.api.sessions import check_session_key
from raftd.node.service import Header, WriteCall
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import AnyCommand
from raftpb.v1 import common_pb2

__all__ = ["bind_write", "check_write", "fill_header"]


def check_write(header: common_pb2.WriteHeader) -> Refusal | None:
    """Refuse a session without its key, and a number without its session."""
    if header.session_id:
        return check_session_key(header.session_key)
    if header.session_key or header.number or header.acknowledged:
        return invalid("a number or a session key comes with its session")
    return None


def bind_write(
    header: common_pb2.WriteHeader,
    command: AnyCommand,
    wait_ms: int | None,
    limits: DoorLimits,
) -> WriteCall | Refusal:
    """Join a command with what its header says."""
    fences = fences_of(header.fences, limits)
    if isinstance(fences, Refusal):
        return fences
    return WriteCall(
        command=command,
        session=header.session_id,
        session_key=header.session_key,
        number=header.number,
        acknowledged=header.acknowledged,
        fences=fences,
        wait_ms=wait_ms,
    )


def fill_header(
    message: common_pb2.ResponseHeader,
    header: Header,
    *,
    revision: int | None = None,
    age_ms: int = 0,
) -> None:
    """Say where an answer comes from.

    Args:
        message: Is filled.
        header: What this member knows.
        revision: Of the answer, where it is not this member's present one.
        age_ms: Of a stale read.
    """
    message.revision = header.revision if revision is None else revision
    message.raft_term = header.raft_term
    message.leader = header.leader
    message.cluster_id = header.cluster_id
    message.age_ms = age_ms
    message.node_id = header.node_id
