"""What the library sends, in the words of a history: specs, compares, operations.

Source: proto/raftpb/v1/txn.proto; `tests.checkers.records` for the fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

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
    return [fields_of(spec) for spec in specs]


def compares_of(compares: Iterable[txn.Compare]) -> list[Fields]:
    """Return conditions; targets and operators are the log's numbers."""
    found = []
    for compare in compares:
        wire = compare.wire
        fields = fields_of(wire)
        fields["op"] = fields.pop("operator", 1)
        found.append(fields)
    return found


def ops_of(ops: Iterable[txn.Op]) -> list[Fields]:
    """Return operations, each with its name as ``op``."""
    found = []
    for each in ops:
        kind = each.wire.WhichOneof("op")
        assert kind is not None, "made by a function of raftclient.txn"
        fields = fields_of(getattr(each.wire, kind))
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
