"""What a single key and a single lock do, for the search of `wgl`.

Numbers that the cluster drew (revisions, tokens) are only names here: whether they rise
is not asked.

Source: RELIABILITY.md section 4 (Models).
"""

from __future__ import annotations

from typing import Any, Final, Literal, assert_never

import msgspec

__all__ = ["KeyModel", "KeyOp", "LockModel", "LockOp"]


class KeyOp(msgspec.Struct, frozen=True):
    """An operation on one key.

    Attributes:
        what: ``missed`` is a conditional write that was refused for its condition.
        value: Put, got, or the sum after an incr; None = nothing was there, and of an
            unknown incr: the sum is not known.
        name: Of the version written or read: its mod_rev; negative = not known.
        expected: The version that must be there; None = any, 0 = nothing.
        by: Of an incr.
        was_there: Of a delete; None = not known.
    """

    what: Literal["put", "get", "delete", "incr", "missed"]
    value: str | None = None
    name: int = 0
    expected: int | None = None
    by: int = 0
    was_there: bool | None = None


_KeyState = tuple[str | None, int]
"""Value and name of the version."""
_NOTHING: Final[_KeyState] = (None, 0)


class KeyModel:
    """One key.

    Args:
        known: Names of versions whose writer is known.
    """

    def __init__(self, known: frozenset[int]) -> None:
        self._known: Final = known
        self.initial: Final = _NOTHING

    def step(self, state: _KeyState, what: Any) -> _KeyState | None:
        """See `wgl.Model`."""
        op: KeyOp = what
        value, name = state
        if op.what == "missed":
            return None if op.expected == name else state
        if op.expected is not None and not self._may_be(name, op.expected):
            return None
        match op.what:
            case "get":
                is_same = value == op.value and self._may_be(name, op.name)
                return state if is_same else None
            case "put":
                return op.value, op.name
            case "delete":
                if op.was_there is None or op.was_there == (value is not None):
                    return _NOTHING
                return None
            case "incr":
                total = str(int(value or "0") + op.by)
                if op.value is not None and op.value != total:
                    return None
                return total, op.name
            case _:
                assert_never(op.what)

    def _may_be(self, name: int, wanted: int) -> bool:
        """Tell whether a version may have this name; unknown ones may have any free."""
        if name == wanted or wanted < 0:
            return True
        return name < 0 < wanted and wanted not in self._known


class LockOp(msgspec.Struct, frozen=True):
    """An operation on one exclusive lock.

    Attributes:
        what: ``end`` is the end of the lease that holds it under ``token``.
        token: Negative = not known.
    """

    what: Literal["acquire", "release", "cancel", "break", "end"]
    token: int = 0
    lease: int = 0
    claimant: str = ""


_FREE: Final = (0, 0, "")


class LockModel:
    """One exclusive lock; a state of zeros is free."""

    initial: Final = _FREE

    def step(
        self, state: tuple[int, int, str], what: Any
    ) -> tuple[int, int, str] | None:
        """See `wgl.Model`."""
        op: LockOp = what
        token, lease, claimant = state
        match op.what:
            case "acquire":
                mine = (op.token, op.lease, op.claimant)
                return mine if state in {_FREE, mine} else None
            case "release":
                return _FREE if token == op.token else None
            case "end":
                return _FREE if token == op.token else None
            case "cancel":
                is_mine = (lease, claimant) == (op.lease, op.claimant)
                return _FREE if is_mine else state
            case "break":
                return _FREE
            case _:
                assert_never(op.what)
