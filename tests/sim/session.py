"""What a client believes of its session and its locks, and whether that is true.

Rules: a session lives until the last renewal that counted was sent, plus its time to
live, less the drift of clocks. Nobody may end it before, and no two clients may at one
instant both believe to hold a lock.

Source: RELIABILITY.md rules 35 to 38, and section 4 (client belief).
"""

from __future__ import annotations

from typing import Final

from tests.sim.clock import DRIFT_PPM_MAX
from tests.sim.model import Model
from tests.sim.world import SimFailure, World

__all__ = ["Belief", "Beliefs"]

_MILLION: Final = 1_000_000

Beliefs = dict[str, "Belief"]
"""Who was last told that it holds a lock, by name."""


class Belief:
    """One client's view."""

    def __init__(
        self, world: World, model: Model, ttl_ms: int, beliefs: Beliefs
    ) -> None:
        self._world: Final = world
        self._model: Final = model
        self._beliefs: Final = beliefs
        self._live_us: Final = (
            ttl_ms * 1000 * (_MILLION - 2 * DRIFT_PPM_MAX) // _MILLION
        )
        self._until_us = 0
        self.held: Final[dict[str, int]] = {}

    def renewed(self, session: int, sent_us: int) -> None:
        """A renewal sent at that instant counts."""
        self._until_us = max(self._until_us, sent_us + self._live_us)
        expired_us = self._model.expired_us.get(session)
        if expired_us is not None and expired_us < self._until_us:
            raise SimFailure(
                f"session {session} expired at {expired_us}, renewed at {sent_us}"
            )

    @property
    def is_alive(self) -> bool:
        """Whether the session is still believed to live."""
        return self._world.now_us < self._until_us

    def take(self, name: str, token: int) -> None:
        """A lock was granted; it counts only while the session lives."""
        self.held[name] = token
        if not self.is_alive:
            return
        other = self._beliefs.get(name)
        if other is not None and other is not self and other.holds(name):
            raise SimFailure(f"two clients believe to hold {name}, one with {token}")
        self._beliefs[name] = self

    def let_go(self, name: str) -> None:
        """The lock is about to be released."""
        del self.held[name]

    def holds(self, name: str) -> bool:
        """Tell whether this client believes to hold a lock now."""
        return name in self.held and self.is_alive

    def forget(self) -> None:
        """The session is lost, and all with it."""
        self.held.clear()
        self._until_us = 0
