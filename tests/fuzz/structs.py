"""Values of any type that a codec knows, from its own description of the type.

``values_of`` asks msgspec what a type consists of, so a field or a command that is
added tomorrow is drawn tomorrow. ``wild`` values lie at the edges of what the wire can
carry; a field may be given values of its own by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

__all__ = ["BYTES", "INTEGERS", "TEXTS", "fields_of", "values_of"]

Strategy = st.SearchStrategy[Any]

INTEGERS: Final[Strategy] = st.one_of(
    st.integers(0, 9),
    st.integers(-3, 3000),
    st.sampled_from(
        [
            -(1 << 63),
            -(1 << 31) - 1,
            -1,
            (1 << 31) - 1,
            1 << 31,
            1 << 32,
            (1 << 53) + 1,
            (1 << 63) - 1,
            1 << 63,
            (1 << 64) - 1,
        ]
    ),
)
"""What msgpack can carry, with its edges."""

TEXTS: Final[Strategy] = st.one_of(
    st.sampled_from(["", "a", "b", "\0", "\n", "a\x7f", "é", "\u2028", "😀" * 70]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
BYTES: Final[Strategy] = st.one_of(
    st.sampled_from([b"", b"\0", b"\xff" * 20, b"7", b"-9223372036854775808"]),
    st.binary(max_size=24),
)


class _Builder:
    def __init__(self, fields: Mapping[str, Strategy], items_max: int) -> None:
        self._fields: Final = fields
        self._items_max: Final = items_max

    def of(self, info: msgspec.inspect.Type) -> Strategy:
        """Return values of a type."""
        match info:
            case msgspec.inspect.IntType():
                return INTEGERS
            case msgspec.inspect.StrType():
                return TEXTS
            case msgspec.inspect.BytesType():
                return BYTES
            case msgspec.inspect.BoolType():
                return st.booleans()
            case msgspec.inspect.NoneType():
                return st.none()
            case msgspec.inspect.FloatType():
                return st.floats(allow_nan=False)
            case msgspec.inspect.EnumType(cls=cls):
                return st.sampled_from(list(cls))
            case msgspec.inspect.StructType() | msgspec.inspect.NamedTupleType():
                return self._struct(info)
            case msgspec.inspect.UnionType(types=types):
                return st.one_of(*map(self.of, types))
            case _:
                return self._collection(info)

    def _collection(self, info: msgspec.inspect.Type) -> Strategy:
        match info:
            case msgspec.inspect.VarTupleType(item_type=item):
                return self._list(item).map(tuple)
            case msgspec.inspect.ListType(item_type=item):
                return self._list(item)
            case msgspec.inspect.TupleType(item_types=items):
                return st.tuples(*map(self.of, items))
            case msgspec.inspect.DictType(key_type=key, value_type=value):
                return st.dictionaries(
                    self.of(key), self.of(value), max_size=self._items_max
                )
            case _:
                raise TypeError(f"no values are known for {info}")

    def _list(self, item: msgspec.inspect.Type) -> Strategy:
        return st.lists(self.of(item), max_size=self._items_max)

    def _struct(
        self, info: msgspec.inspect.StructType | msgspec.inspect.NamedTupleType
    ) -> Strategy:
        cls: Any = info.cls
        values = {field.name: self._field(cls, field) for field in info.fields}

        # Not st.builds: what that prints of itself grows without bound.
        @st.composite
        def struct(draw: st.DrawFn) -> Any:
            return cls(**{name: draw(value) for name, value in values.items()})

        return struct()

    def _field(self, cls: type, field: msgspec.inspect.Field) -> Strategy:
        own = self._fields.get(f"{cls.__name__}.{field.name}")
        if own is None:
            own = self._fields.get(field.name)
        if own is None:
            return self.of(field.type)
        if _may_be_none(field.type):
            return own
        return own.filter(lambda value: value is not None)


def _may_be_none(info: msgspec.inspect.Type) -> bool:
    return isinstance(info, msgspec.inspect.UnionType) and info.includes_none


def values_of(
    type_: Any, fields: Mapping[str, Strategy] | None = None, *, items_max: int = 3
) -> Strategy:
    """Return values of a type that msgspec can encode.

    Args:
        type_: A struct, a union, a tuple ...
        fields: Values for all struct fields of these names (``field``, or
            ``Struct.field``, which counts more), instead of wild ones.
        items_max: Of a list or a map.
    """
    return _Builder(fields or {}, items_max).of(msgspec.inspect.type_info(type_))


def fields_of(cls: type[msgspec.Struct]) -> dict[str, Strategy]:
    """Return wild values for each field of a struct."""
    builder = _Builder({}, 3)
    info = msgspec.inspect.type_info(cls)
    assert isinstance(info, msgspec.inspect.StructType)
    return {field.name: builder.of(field.type) for field in info.fields}
