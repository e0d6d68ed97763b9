"""What the library sends, in the words of a history: specs, compares, operations.

Source: proto/raftpb/v1/txn.proto; `tests.checkers.records` for the fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from raftd.statemachine.schema.jobs import OnParentFailure
from raftd.statemachine.schema.txn import CompareOp, CompareTarget
from tests.checkers.history import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

    from raftclient import txn
    from raftpb.v1 import txn_pb2
    from raftpb.v1.sessions_pb2 import StreamRequest
    from tests.checkers.parts import Fields

__all__ = ["compares_of", "fields_of", "jobs_of", "ops_of", "posted_of"]

_RENAMED: Final = {
    "lease_id": "lease",
    "job_id": "job",
    "fatal": "is_fatal",
}
_POSTED: Final = {
    "cancel_acquire": "cancel_acquire",
    "release_lock": "release_lock",
    "withdraw_campaign": "withdraw",
    "resign": "resign",
    "release_job": "release_job",
    "revoke_lease": "revoke",
}


def fields_of(message: Message) -> Fields:
    """Return what is set in a message, by the names of the log's commands."""
    found: Fields = {}
    for field, value in message.ListFields():
        found[_RENAMED.get(field.name, field.name)] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return as_text(value)
    if isinstance(value, str | int | float):
        return value
    if hasattr(value, "ListFields"):
        return fields_of(value)
    if hasattr(value, "items"):
        return dict(value.items())
    return [_plain(each) for each in value]


def jobs_of(specs: Iterable[txn_pb2.JobSpec]) -> list[Fields]:
    """Return what jobs are to be."""
    return [_job(spec) for spec in specs]


def _job(spec: txn_pb2.JobSpec) -> Fields:
    fields = fields_of(spec)
    if "on_parent_failure" in fields:
        fields["on_parent_failure"] = OnParentFailure(spec.on_parent_failure).name
    return fields


def compares_of(compares: Iterable[txn.Compare]) -> list[Fields]:
    """Return conditions; the log has the same numbers for targets and operators."""
    found = []
    for compare in compares:
        fields = fields_of(compare.wire)
        fields["target"] = CompareTarget(fields["target"]).name
        fields["op"] = CompareOp(fields.pop("operator", CompareOp.EQUAL)).name
        found.append(fields)
    return found


def ops_of(ops: Iterable[txn.Op]) -> list[Fields]:
    """Return operations, each with its name as ``op``."""
    found = []
    for each in ops:
        kind = each.wire.WhichOneof("op")
        assert kind is not None, "made by a function of raftclient.txn"
        fields = fields_of(getattr(each.wire, kind))
        if kind == "enqueue":
            fields = {"jobs": jobs_of(each.wire.enqueue.jobs)}
        name: str = "incr" if kind == "increment" else kind
        if kind == "put" and "if_mod_rev" in fields:
            name = "cas"
        found.append({"op": name, **fields})
    return found


def posted_of(request: StreamRequest) -> tuple[str, Fields] | None:
    """Name what the library sends of its own accord; None = nothing of ours."""
    kind = request.WhichOneof("body")
    if kind is None or kind not in _POSTED:
        return None
    return _POSTED[kind], fields_of(getattr(request, kind))
