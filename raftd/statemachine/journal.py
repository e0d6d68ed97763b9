"""The undo journal: how a refused command leaves nothing behind.

Whoever changes the state notes first how to take the change back. A refusal runs the
notes backwards; any other end of the command drops them.

Trap: a dict entry taken back goes to the *end* of its dict. Order that means something
(a queue of waiters) must be kept by sorted numbers, never by insertion.

Source: DESIGN.md section 5 (modules).
"""

from collections.abc import Callable, MutableMapping
from typing import Any, TypeVar

__all__ = ["Journal"]

_K = TypeVar("_K")
_V = TypeVar("_V")


class Journal:
    """Before-images of the running command."""

    __slots__ = ("notes",)

    def __init__(self) -> None:
        self.notes: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def undo(self, take_back: Callable[..., object], *arguments: Any) -> None:
        """Note that ``take_back(*arguments)`` undoes the change made next."""
        self.notes.append((take_back, arguments))

    def attribute(self, owner: object, name: str) -> None:
        """Note the value of an attribute that is about to change."""
        self.notes.append((setattr, (owner, name, getattr(owner, name))))

    def item(self, mapping: MutableMapping[_K, _V], key: _K) -> None:
        """Note the entry of a mapping that is about to change, come or go."""
        if key in mapping:
            self.notes.append((mapping.__setitem__, (key, mapping[key])))
        else:
            self.notes.append((mapping.__delitem__, (key,)))

    def drop(self) -> None:
        """Forget the notes: the command stands."""
        self.notes.clear()

    def roll_back(self) -> None:
        """Take everything back, the newest first."""
        notes = self.notes
        while notes:
            take_back, arguments = notes.pop()
            take_back(*arguments)
