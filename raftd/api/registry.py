"""The table of all RPCs, and what the generated descriptors say of each.

A new primitive is one line in ``_PRIMITIVES`` and its file in ``_FILES``. The table is
checked when it is built: an RPC without an entry, an entry without an RPC and a stream
field without an entry are bugs, and the server does not start.

Source: DESIGN.md section 2 ("one line in each registry").
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from raftd.api.backup import BackupCalls
from raftd.api.calls import Call, Direct, Flow
from raftd.api.cluster import ClusterCalls
from raftd.api.elections import ElectionCalls
from raftd.api.jobs import JobCalls
from raftd.api.kv import KeyCalls
from raftd.api.leases import LeaseCalls
from raftd.api.limits import DoorLimits
from raftd.api.locks import LockCalls
from raftd.api.members import MemberCalls
from raftd.api.queues import QueueCalls
from raftd.api.sessions import SessionCalls
from raftd.api.txn import TxnCalls
from raftpb.v1 import (
    cluster_pb2,
    elections_pb2,
    kv_pb2,
    leases_pb2,
    locks_pb2,
    queues_pb2,
    sessions_pb2,
    txn_pb2,
)

__all__ = ["STREAM_METHOD", "Method", "Table", "service_names"]

STREAM_METHOD: Final = "stream_session"

_FILES: Final = (
    kv_pb2,
    txn_pb2,
    leases_pb2,
    sessions_pb2,
    locks_pb2,
    elections_pb2,
    queues_pb2,
    cluster_pb2,
)
_PRIMITIVES: Final = (
    KeyCalls,
    TxnCalls,
    LeaseCalls,
    SessionCalls,
    LockCalls,
    ElectionCalls,
    JobCalls,
    QueueCalls,
    ClusterCalls,
    MemberCalls,
    BackupCalls,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """An RPC: where it is, what it takes and gives, and its entry.

    Attributes:
        has_write_header: Whether the request says which session it is of.
    """

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    call: Call
    has_write_header: bool


class Table:
    """All RPCs but the session stream, by how the doors look them up."""

    def __init__(self, limits: DoorLimits) -> None:
        calls = {
            call.field: call
            for primitive in _PRIMITIVES
            for call in primitive(limits).calls()
        }
        methods = dict(_methods())
        assert methods.keys() == calls.keys() | {STREAM_METHOD}, (
            f"calls and methods differ: {methods.keys() ^ calls.keys()}"
        )
        self.methods: Final[tuple[Method, ...]] = tuple(
            _join(descriptor, calls[field])
            for field, descriptor in methods.items()
            if field != STREAM_METHOD
        )
        self.stream_calls: Final[Mapping[str, Call]] = _stream_calls(calls)


def service_names() -> list[str]:
    """Return the full names of all services."""
    return [
        service.full_name
        for file in _FILES
        for service in file.DESCRIPTOR.services_by_name.values()
    ]


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                yield _snake_case(method.name), method


def _join(method: MethodDescriptor, call: Call) -> Method:
    request = method.input_type
    header = request.fields_by_name.get("write")
    return Method(
        method.containing_service.full_name,
        method.name,
        GetMessageClass(request),
        GetMessageClass(method.output_type),
        call,
        header is not None,
    )


def _stream_calls(calls: Mapping[str, Call]) -> dict[str, Call]:
    body = sessions_pb2.StreamRequest.DESCRIPTOR.oneofs_by_name["body"]
    fields = [field.name for field in body.fields]
    expected = {
        field for field, call in calls.items() if not isinstance(call, Direct | Flow)
    }
    assert set(fields) == expected, (
        f"stream requests and calls differ: {set(fields) ^ expected}"
    )
    return {field: calls[field] for field in fields}


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
