"""What a fault is: one thing that happens to a world, and is taken back.

Rules: a fault draws all that it decides from the generator it is given. ``inject``
returns as soon as the fault is there; ``heal`` ends it in whatever state it is, also
where ``inject`` broke off half-way, and may be called twice. What a fault asserts
beyond what the checkers judge it raises as ``Broken``, from either. An instance is
injected once and healed; for the next time there is a new one.

Source: RELIABILITY.md section 5 (the matrix).
"""

from __future__ import annotations

import abc
import enum
from typing import TYPE_CHECKING, ClassVar, Final

from tests.chaos.ground import why_no_ground
from tests.chaos.shim import COMPILER

if TYPE_CHECKING:
    import random

    from tests.chaos.world import World

__all__ = ["OWN_PREFIX", "Broken", "Fault", "Want", "variant", "why_no_world"]


def why_no_world() -> str:
    """Say in a sentence why no world can be made here; empty if one can."""
    if COMPILER is None:
        return "no C compiler (cc or gcc) to make what stands between node and disk"
    return why_no_ground()


OWN_PREFIX: Final = "chaos/"
"""Names that begin so belong to clients of faults."""


class Broken(AssertionError):
    """The cluster did what it must not do under this fault; the text says what."""


class Want(enum.Enum):
    """What a fault wants the world to be made with."""

    RELEASE_BEFORE = "all nodes begin with the release before"
    UNSYNCED = "what syncs have not made durable can be taken away"
    SHORT_LOG = "so little log is kept that who was away needs a snapshot"


class Fault(abc.ABC):
    """One fault.

    Attributes:
        name: As a row of results has it.
        row: The row of the matrix that it belongs to.
        wants: What its world must be made with.
        lasts_s: For how long it is sensibly left, from and to.
        is_once: It happens at most once to a world.
        may_be_combined: Others may happen at the same time.
        has_happened: Whether it came about, known once it is healed: there may have
            been nobody to suffer it, or nobody came to the point.
    """

    name: ClassVar[str]
    row: ClassVar[str]
    wants: ClassVar[frozenset[Want]] = frozenset()
    lasts_s: ClassVar[tuple[float, float]] = (1.0, 10.0)
    is_once: ClassVar[bool] = False
    may_be_combined: ClassVar[bool] = True
    has_happened: bool = False

    def needs(self) -> str | None:
        """Say in a sentence why this is not possible here; None if it is."""
        return why_no_world() or None

    @abc.abstractmethod
    async def inject(self, world: World, rng: random.Random) -> None:
        """Let it happen.

        Raises:
            Broken: The cluster did what it must not do.
        """

    @abc.abstractmethod
    async def heal(self, world: World) -> None:
        """End it, and see that whoever suffered from it runs again.

        Raises:
            Broken: The cluster did what it must not do.
        """


def variant(kind: type[Fault], name: str, /, **fields: object) -> type[Fault]:
    """Return one fault of a family: the kind with a name and these attributes."""
    return type(name, (kind,), {"name": name, "__doc__": kind.__doc__, **fields})
