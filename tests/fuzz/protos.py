"""Messages of the API with any content, from the descriptions of their types.

Fields are set or left out, numbers lie at the edges of their types, enums have numbers
that nobody gave a name, and at most one field of a oneof is set, as on the wire. Fields
that name something are given, half of the time, what exists.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from tests.fuzz.structs import BYTES, TEXTS

__all__ = ["KEY", "messages_of"]

Strategy = st.SearchStrategy[Any]

KEY: Final = b"k" * 16
_DEPTH_MAX: Final = 4
_F = FieldDescriptor


def _edges(low: int, high: int) -> Strategy:
    few = st.integers(max(low, -2), 9)
    return st.one_of(few, few, st.sampled_from([low, low + 1, high - 1, high, 1000]))


_SIGNED_64: Final = _edges(-(1 << 63), (1 << 63) - 1)
_UNSIGNED_64: Final = _edges(0, (1 << 64) - 1)
_SIGNED_32: Final = _edges(-(1 << 31), (1 << 31) - 1)
_UNSIGNED_32: Final = _edges(0, (1 << 32) - 1)
_BY_TYPE: Final[dict[int, Strategy]] = {
    _F.TYPE_INT64: _SIGNED_64,
    _F.TYPE_SINT64: _SIGNED_64,
    _F.TYPE_SFIXED64: _SIGNED_64,
    _F.TYPE_UINT64: _UNSIGNED_64,
    _F.TYPE_FIXED64: _UNSIGNED_64,
    _F.TYPE_INT32: _SIGNED_32,
    _F.TYPE_SINT32: _SIGNED_32,
    _F.TYPE_UINT32: _UNSIGNED_32,
    _F.TYPE_FIXED32: _UNSIGNED_32,
    _F.TYPE_BOOL: st.booleans(),
    _F.TYPE_STRING: TEXTS,
    _F.TYPE_BYTES: BYTES,
    _F.TYPE_ENUM: st.one_of(st.integers(0, 5), st.integers(-3, 20)),
}
_NAMES: Final = st.sampled_from(["n", "n", "m"])
_SPANS: Final = st.sampled_from([0, 1000, 5000])
_SENSIBLE: Final[dict[str, Strategy]] = {
    # Ids and tokens are drawn from the revisions that the start of a run uses up.
    "session_id": st.sampled_from([0, 2, 2]),
    "session_key": st.sampled_from([KEY, KEY, b""]),
    "lease_id": st.sampled_from([0, 2, 4]),
    "token": st.integers(4, 16),
    "epoch": st.integers(4, 16),
    "job_id": st.integers(4, 12),
    "number": st.integers(0, 4),
    "acknowledged": st.integers(0, 2),
    "name": _NAMES,
    "queue": _NAMES,
    "claimant": st.sampled_from("ab"),
    "key": st.sampled_from([b"k", b"k1"]),
    "ttl_ms": st.sampled_from([1000, 5000]),
    "wait_ms": _SPANS,
    "page_token": st.one_of(
        st.binary(max_size=12), st.just((9).to_bytes(8, "big") + b"k")
    ),
    "limit": st.integers(0, 3),
    "mode": st.integers(1, 3),
    "target": st.integers(1, 11),
    "operator": st.integers(1, 4),
    "kind": st.integers(1, 4),
    "state": st.integers(1, 8),
    "backoff": st.integers(0, 3),
    "until": st.integers(1, 3),
    "on_conflict": st.integers(1, 3),
    "if_mod_rev": st.integers(0, 5),
    "priority": st.integers(0, 9),
    "jobs_max": st.integers(1, 4),
    "bytes_max": st.just(1 << 20),
    "progress": st.integers(0, 1000),
    "type": st.sampled_from(["", "t"]),
    "group": st.sampled_from(["", "g"]),
    "group_limit": st.integers(1, 2),
    "client_id": st.sampled_from(["", "c"]),
    "max_attempts": st.integers(1, 3),
    "max_crashes": st.integers(1, 3),
    "depth_max": st.integers(1, 9),
    "weight": st.integers(1, 3),
    "backoff_jitter": st.integers(0, 100),
    "code": st.integers(0, 3),
}
_IN_SESSION: Final = st.builds(
    lambda number: {"session_id": 2, "session_key": KEY, "number": number},
    st.integers(1, 5),
)
# The node of one has no log to wait for.
_FORCED: Final[dict[str, Strategy]] = {"min_revision": st.integers(0, 1)}


def _value(field: FieldDescriptor, depth: int) -> Strategy:
    if field.name in _FORCED:
        return _FORCED[field.name]
    if field.name == "write":
        wild = _contents(_entry_of(field), depth + 1)
        return st.one_of(st.just({}), st.just({}), _IN_SESSION, wild)
    if field.type == _F.TYPE_MESSAGE:
        return _contents(_entry_of(field), depth + 1)
    wild = _BY_TYPE[field.type]
    own = _SENSIBLE.get(field.name)
    if own is None and field.name.endswith("_ms"):
        own = _SPANS
    return wild if own is None or field.is_repeated else _mostly(own, wild)


def _entry_of(field: FieldDescriptor) -> Descriptor:
    kind = field.message_type
    assert kind is not None, f"{field.name} is no message"
    return kind


def _mostly(sensible: Strategy, wild: Strategy) -> Strategy:
    return st.integers(0, 9).flatmap(lambda draw: sensible if draw else wild)


def _is_map(field: FieldDescriptor) -> bool:
    kind = field.message_type
    return bool(kind is not None and kind.GetOptions().map_entry)


def _fields(kind: Descriptor, draw: st.DrawFn) -> list[FieldDescriptor]:
    """Choose the fields to set: of a oneof one at the most."""
    chosen = [field for field in kind.fields if field.containing_oneof is None]
    chosen += [draw(st.sampled_from(list(oneof.fields))) for oneof in kind.oneofs]
    return [field for field in chosen if draw(st.integers(0, 7))]


def _contents(kind: Descriptor, depth: int) -> Strategy:
    """Return what a message type's constructor takes, as a map."""

    @st.composite
    def contents(draw: st.DrawFn) -> dict[str, Any]:
        if depth > _DEPTH_MAX:
            return {}
        made: dict[str, Any] = {}
        for field in _fields(kind, draw):
            if _is_map(field):
                key, value = _entry_of(field).fields
                made[field.name] = draw(
                    st.dictionaries(
                        _value(key, depth), _value(value, depth), max_size=2
                    )
                )
            elif field.is_repeated:
                made[field.name] = draw(st.lists(_value(field, depth), max_size=3))
            else:
                made[field.name] = draw(_value(field, depth))
        return made

    return contents()


def messages_of(kind: type[Message]) -> st.SearchStrategy[Message]:
    """Return messages of a type, with anything in them."""
    make: Any = kind
    return _contents(make.DESCRIPTOR, 0).map(lambda made: make(**made))
