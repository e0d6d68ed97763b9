"""The client's session: what its locks and candidacies hang on.

It is opened with the first write or claim, kept alive apart from the caller's thread
and loop, and followed by a new one if it is lost; claims do not come back by
themselves.

Source: SEMANTICS.md section 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftclient.fences import LeaseFence

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftclient._core import Core
    from raftclient._held import Held

__all__ = ["Session", "SessionCalls"]


class Session:
    """An open session; usable wherever a lease is."""

    def __init__(self, held: Held) -> None:
        self.held: Final = held

    @property
    def lease_id(self) -> int:
        """Its id; a session is a lease."""
        return self.held.id

    @property
    def is_lost(self) -> bool:
        """Whether it must count as lost."""
        return self.held.is_lost()

    @property
    def remaining_s(self) -> float:
        """How long it is safe without another renewal; 0 if lost."""
        return self.held.remaining_s

    def check(self) -> None:
        """Raise unless it is safe to go on.

        Raises:
            LeaseLost: Stop the work that hangs on it.
        """
        self.held.check()

    def fence(self) -> LeaseFence:
        """Return the fence that binds a write to this session; see ``check``."""
        self.check()
        return LeaseFence(self.lease_id)

    def on_lost(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once if it is lost, on any thread; it must not block."""
        self.held.on_lost(listener)


class SessionCalls:
    """The calls about the client itself."""

    _core: Core

    @property
    def revision(self) -> int:
        """The newest revision that any answer came from; 0 before the first."""
        return self._core.shared.revision

    @property
    def claimant(self) -> str:
        """What others see of this client."""
        return self._core.shared.claimant

    async def session(self, *, timeout_s: float | None = None) -> Session:
        """Return the session in use, opening one if need be.

        Raises:
            Unavailable: None could be opened in time: try again.
        """
        return Session(await self._core.claim(timeout_s))
