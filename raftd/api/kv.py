"""Keys at the doors.

Rules: a page token is opaque to clients: the revision that all pages show, then the
key where the next page begins. The translators of single writes serve transactions
too, whose operations have fields of the same names.

Source: SEMANTICS.md section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from raftd.api.calls import Call, Query, Read, Watch, Write
from raftd.api.checks import check_key, invalid, optional_of, page_items
from raftd.api.kv_messages import (
    fill_deleted,
    fill_incremented,
    fill_key,
    fill_put,
    fill_range_deleted,
    has_previous,
)
from raftd.api.kv_watch import plan_watch
from raftd.api.limits import DoorLimits
from raftd.statemachine.machine import Machine
from raftd.statemachine.refusals import too_large
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.kv import (
    DeleteKey,
    DeleteRange,
    IncrementKey,
    PutKey,
)
from raftpb.v1 import kv_pb2, txn_pb2

__all__ = ["KeyCalls"]

_REVISION_BYTES: Final = 8


class KeyCalls:
    """The calls of KvService."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits
        self._key_bytes_max: Final = limits.apply.key_bytes_max
        self._value_bytes_max: Final = limits.apply.value_bytes_max

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        limits = self._limits
        return (
            Write("put_key", self.put, fill_put, is_large=has_previous),
            Write("delete_key", self.delete, fill_deleted, is_large=has_previous),
            Write("delete_range", self.delete_range, fill_range_deleted),
            Write("increment_key", self.increment, fill_incremented),
            Read("get_key", self._get),
            Read("list_keys", self._list),
            Watch("watch_keys", partial(plan_watch, limits=limits)),
        )

    # --- writes ------------------------------------------------------------------

    def put(
        self, request: kv_pb2.PutKeyRequest | txn_pb2.PutOp, session: int
    ) -> PutKey | Refusal:
        """Translate a put."""
        # The hottest path of the doors: each field is read once, presence only at 0.
        key = request.key
        value = request.value
        if (
            not 0 < len(key) <= self._key_bytes_max
            or len(value) > self._value_bytes_max
        ):
            return self._refuse(key, value)
        if_mod_rev: int | None = request.if_mod_rev
        if not if_mod_rev and not request.HasField("if_mod_rev"):
            if_mod_rev = None
        return PutKey(key, value, request.lease_id, if_mod_rev, request.want_previous)

    def delete(
        self, request: kv_pb2.DeleteKeyRequest | txn_pb2.DeleteOp, session: int
    ) -> DeleteKey | Refusal:
        """Translate a delete."""
        key = request.key
        if_mod_rev = optional_of(request, "if_mod_rev", request.if_mod_rev)
        return check_key(key, self._limits) or DeleteKey(
            key, if_mod_rev, request.want_previous
        )

    def delete_range(
        self, request: kv_pb2.DeleteRangeRequest | txn_pb2.DeleteRangeOp, session: int
    ) -> DeleteRange | Refusal:
        """Translate a range delete."""
        start, end = request.start, request.end
        return _check_range(start, end, self._limits) or DeleteRange(start, end)

    def increment(
        self, request: kv_pb2.IncrementKeyRequest | txn_pb2.IncrementOp, session: int
    ) -> IncrementKey | Refusal:
        """Translate an increment."""
        key = request.key
        if not 0 < len(key) <= self._key_bytes_max:
            return self._refuse(key, b"")
        return IncrementKey(key, request.by, request.lease_id)

    def _refuse(self, key: bytes, value: bytes) -> Refusal:
        return check_key(key, self._limits) or too_large(
            "the value", len(value), "value_bytes_max", self._value_bytes_max
        )

    # --- reads -------------------------------------------------------------------

    def _get(self, request: kv_pb2.GetKeyRequest) -> Query | Refusal:
        key, at_rev = request.key, request.at_revision
        refusal = check_key(key, self._limits)
        if refusal is not None:
            return refusal

        def query(machine: Machine) -> kv_pb2.GetKeyResponse | Refusal:
            found = machine.kv.get(key, at_rev)
            if isinstance(found, Refusal):
                return found
            response = kv_pb2.GetKeyResponse(found=found is not None)
            if found is not None:
                fill_key(response.key_value, found)
            return response

        return query

    def _list(self, request: kv_pb2.ListKeysRequest) -> Query | Refusal:
        wanted = _Range(
            request.start,
            request.end,
            request.at_revision,
            page_items(request.limit, self._limits),
            self._limits.page_bytes_max,
            request.keys_only,
        )
        refusal = _check_range(wanted.start, wanted.end, self._limits)
        if refusal is not None:
            return refusal
        if request.count_only:
            return _count(wanted)
        if request.page_token:
            token = _read_token(request.page_token, self._limits)
            if isinstance(token, Refusal):
                return token
            wanted = wanted._replace(at_rev=token[0], start=token[1])
        return _page(wanted)


class _Range(NamedTuple):
    start: bytes
    end: bytes
    at_rev: int
    items_max: int
    bytes_max: int
    is_keys_only: bool


def _check_range(start: bytes, end: bytes, limits: DoorLimits) -> Refusal | None:
    """Refuse a range with a bound that is no key; both may be empty."""
    key_bytes_max = limits.apply.key_bytes_max
    longest = max(len(start), len(end))
    if longest > key_bytes_max:
        return too_large(
            "a bound of the range", longest, "key_bytes_max", key_bytes_max
        )
    if end and end <= start:
        return invalid("the range is empty: its end is not above its start")
    return None


def _count(wanted: _Range) -> Query:
    def query(machine: Machine) -> kv_pb2.ListKeysResponse | Refusal:
        count = machine.kv.count(wanted.start, wanted.end, wanted.at_rev)
        if isinstance(count, Refusal):
            return count
        return kv_pb2.ListKeysResponse(
            count=count, at_revision=wanted.at_rev or machine.revision
        )

    return query


def _page(wanted: _Range) -> Query:
    def query(machine: Machine) -> kv_pb2.ListKeysResponse | Refusal:
        page = machine.kv.range(
            wanted.start, wanted.end, wanted.items_max, wanted.at_rev
        )
        if isinstance(page, Refusal):
            return page
        at_rev = wanted.at_rev or machine.revision
        response = kv_pb2.ListKeysResponse(at_revision=at_rev)
        next_start = page.next_start
        room = wanted.bytes_max
        for found in page.items:
            room -= len(found.key) + (0 if wanted.is_keys_only else len(found.value))
            if room < 0 and response.key_values:
                next_start = found.key
                break
            fill_key(response.key_values.add(), found, is_key_only=wanted.is_keys_only)
        if next_start is not None:
            response.next_page_token = (
                at_rev.to_bytes(_REVISION_BYTES, "big") + next_start
            )
        return response

    return query


def _read_token(token: bytes, limits: DoorLimits) -> tuple[int, bytes] | Refusal:
    at_rev = int.from_bytes(token[:_REVISION_BYTES], "big")
    start = token[_REVISION_BYTES:]
    if not at_rev or not 0 < len(start) <= limits.apply.key_bytes_max:
        return invalid("the page token is not one of an earlier answer")
    return at_rev, start
