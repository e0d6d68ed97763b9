"""What the operations of a transaction gave.

Source: SEMANTICS.md section 3; proto/raftpb/v1/txn.proto, OpResult.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from raftclient.keys import KeyValue, key_value_from_wire

if TYPE_CHECKING:
    from collections.abc import Iterable

    from raftpb.v1 import txn_pb2

__all__ = [
    "Done",
    "Enqueued",
    "OpResult",
    "Put",
    "Removed",
    "Sum",
    "TxnResult",
    "results_from_wire",
]


class Put(msgspec.Struct, frozen=True):
    """A put: its revision, and the key as it was, if asked for."""

    mod_rev: int
    previous: KeyValue | None


class Removed(msgspec.Struct, frozen=True):
    """A delete: how many keys went, and the one key as it was, if asked for."""

    deleted: int
    previous: KeyValue | None


class Sum(msgspec.Struct, frozen=True):
    """An increment: the sum."""

    value: int
    mod_rev: int


class Enqueued(msgspec.Struct, frozen=True):
    """An enqueue: the jobs' ids, and which of them existed before."""

    job_ids: tuple[int, ...]
    existed: tuple[bool, ...]


class Done(msgspec.Struct, frozen=True):
    """An operation that only succeeds."""


OpResult = Put | Removed | Sum | Enqueued | Done | KeyValue | None
"""What an operation gave; a get of a missing key gives None."""


class TxnResult(msgspec.Struct, frozen=True):
    """Whether the compares held, and what the chosen operations gave, in order."""

    succeeded: bool
    revision: int
    results: tuple[OpResult, ...]


def results_from_wire(found: Iterable[txn_pb2.OpResult]) -> tuple[OpResult, ...]:
    """Turn the API's results into ours."""
    return tuple(_result(each) for each in found)


def _result(found: txn_pb2.OpResult) -> OpResult:
    match found.WhichOneof("result"):
        case "put":
            put_result = found.put
            return Put(put_result.mod_rev, _previous(put_result))
        case "delete":
            return Removed(found.delete.deleted, _previous(found.delete))
        case "increment":
            return Sum(found.increment.value, found.increment.mod_rev)
        case "get":
            if not found.get.found:
                return None
            return key_value_from_wire(found.get.key_value)
        case "enqueue":
            return Enqueued(tuple(found.enqueue.job_ids), tuple(found.enqueue.existed))
        case _:
            return Done()


def _previous(
    found: txn_pb2.PutOpResult | txn_pb2.DeleteOpResult,
) -> KeyValue | None:
    if not found.HasField("previous"):
        return None
    return key_value_from_wire(found.previous)
