"""Keys and results of key operations as messages; of single writes and transactions.

Source: SEMANTICS.md section 2.
"""

from __future__ import annotations

from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.kv import (
    KeyDeleted,
    KeyGot,
    KeyIncremented,
    KeyPut,
    KeyValue,
    RangeDeleted,
)
from raftpb.v1 import kv_pb2, txn_pb2

__all__ = [
    "fill_deleted",
    "fill_got",
    "fill_incremented",
    "fill_key",
    "fill_put",
    "fill_range_deleted",
    "has_previous",
]


def fill_key(
    message: kv_pb2.KeyValue, found: KeyValue, *, is_key_only: bool = False
) -> None:
    """Write a key into a message."""
    message.key = found.key
    if not is_key_only:
        message.value = found.value
    message.create_rev = found.create_rev
    message.mod_rev = found.mod_rev
    message.version = found.version
    message.lease_id = found.lease


def _fill_kept(
    message: kv_pb2.KeyValue, found: KeyValue, machine: Machine | None
) -> None:
    """Write a key as a result has it; a re-sent answer finds its value again."""
    if machine is not None and not found.value:
        found = machine.kv.exact(found.key, found.mod_rev) or found
    fill_key(message, found)


def fill_put(
    response: kv_pb2.PutKeyResponse | txn_pb2.PutOpResult,
    result: KeyPut,
    machine: Machine | None = None,
) -> None:
    """Write the result of a put."""
    response.mod_rev = result.mod_rev
    previous = result.previous
    if previous is not None:
        _fill_kept(response.previous, previous, machine)


def fill_deleted(
    response: kv_pb2.DeleteKeyResponse | txn_pb2.DeleteOpResult,
    result: KeyDeleted,
    machine: Machine | None = None,
) -> None:
    """Write the result of a delete."""
    response.deleted = result.deleted
    if result.previous is not None:
        _fill_kept(response.previous, result.previous, machine)


def fill_range_deleted(
    response: kv_pb2.DeleteRangeResponse | txn_pb2.DeleteOpResult,
    result: RangeDeleted,
    machine: Machine | None = None,
) -> None:
    """Write the result of a range delete."""
    response.deleted = result.deleted


def fill_incremented(
    response: kv_pb2.IncrementKeyResponse | txn_pb2.IncrementOpResult,
    result: KeyIncremented,
    machine: Machine | None = None,
) -> None:
    """Write the result of an increment."""
    response.value = result.value
    response.mod_rev = result.mod_rev


def fill_got(
    response: txn_pb2.GetOpResult, result: KeyGot, machine: Machine | None = None
) -> None:
    """Write the result of a read within a transaction."""
    response.found = result.found is not None
    if result.found is not None:
        _fill_kept(response.key_value, result.found, machine)


def has_previous(result: KeyPut | KeyDeleted) -> bool:
    """Tell whether a result carries the value that was there before."""
    return result.previous is not None
