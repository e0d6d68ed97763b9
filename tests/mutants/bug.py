"""A planted bug: a mistake in the production code, put in in memory, and its finder.

Rules: each is a mistake that somebody made, or that the rules warn of, as a few lines
in the place of the right ones; a sentence says what goes wrong, codes say which promise
it breaks. ``planted`` puts it in and takes it out again. A finder knows the promises,
and nothing of the lines: what a try raises is a broken promise.

Source: RELIABILITY.md section 6 (prove the simulator).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Final, Protocol

__all__ = ["FOUND", "Bug", "Finder", "Patch", "planted"]

Patch = tuple[Any, str, Any]
"""Whose attribute becomes what."""

FOUND: Final = (AssertionError, LookupError)
"""What a try that sees the bug raises: a broken promise, or an impossible state."""


class Finder(Protocol):
    """One way to look for a bug."""

    @property
    def kind(self) -> str:
        """What it is called in the report."""

    @property
    def is_random(self) -> bool:
        """Whether another seed is another try."""

    def run(self, seed: int) -> None:
        """Try once.

        Raises:
            AssertionError: A promise was broken.
            LookupError: The production code found itself in an impossible state.
        """


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """One planted bug.

    Attributes:
        does: What goes wrong, in a sentence.
        breaks: Codes of the broken promises (RELIABILITY.md, first lines).
        repeats: Where it happened to somebody, or which rule warns of it.
        patches: The bug itself.
        finder: What finds it.
        script: A scenario that finds it too, for where a random finder takes long:
            the gate uses it.
    """

    name: str
    does: str
    breaks: tuple[str, ...]
    repeats: str
    patches: tuple[Patch, ...]
    finder: Finder
    script: Finder | None = None

    @property
    def gate_finder(self) -> Finder:
        """What the gate looks with."""
        return self.script or self.finder


@contextlib.contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """Run the body with the bug in the production code."""
    before = [(owner, attr, getattr(owner, attr)) for owner, attr, _ in bug.patches]
    try:
        for owner, attr, value in bug.patches:
            setattr(owner, attr, value)
        yield
    finally:
        for owner, attr, value in before:
            setattr(owner, attr, value)
