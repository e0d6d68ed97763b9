"""The client's keeper on a simulated thread: one for each process.

Rules: everything but the waiting is the production code. What other threads tell it
wakes it up by an event of the world.

Source: ``raftclient._keepalive``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from raftclient._clock import boottime_s
from raftclient._keepalive import Keeper
from tests.service.loop import current_loop

if TYPE_CHECKING:
    from raftclient._held import Held
    from tests.service.hosts import Host

__all__ = ["KeeperOfAll"]


class _NoThread:
    """Stands in for the keeper's thread, which is a loop here."""

    @staticmethod
    def is_alive() -> bool:
        """Tell that none has to be started."""
        return True


class _HostKeeper(Keeper):
    """The keeper of one process; woken by a timer or by what changes."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._loop: Final = host.loops[1]
        self._thread: Any = _NoThread()
        self._timer: asyncio.TimerHandle | None = None

    def _schedule(self, entry: Any, due_s: float) -> None:
        super()._schedule(entry, due_s)
        self._loop.call_soon_threadsafe(self._turn)

    def _turn(self) -> None:
        """Do what ``_run`` does between two waits."""
        for entry in self._take_due():
            self._step(entry)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            wait_s = max(0.0, self._heap[0][0] - boottime_s())
            self._timer = self._loop.call_later(wait_s, self._turn)


class KeeperOfAll:
    """Stands in for ``KEEPER``: goes to the keeper of the process that runs."""

    def __init__(self) -> None:
        self._keepers: Final[dict[tuple[str, int], _HostKeeper]] = {}

    def _own(self) -> _HostKeeper:
        host = current_loop().host
        key = (host.name, host.life)
        keeper = self._keepers.get(key)
        if keeper is None:
            keeper = self._keepers[key] = _HostKeeper(host)
        return keeper

    def add(
        self, held: Held, send: Any, ttl_ms_of: Callable[[Any], int], **others: Any
    ) -> None:
        """Renew it from now on."""
        self._own().add(held, send, ttl_ms_of, **others)

    def remove(self, held: Held) -> None:
        """Renew it no longer."""
        self._own().remove(held)
