"""Whether a member may be counted on, which is what load balancers and operators ask.

Rules: it is ready when it has caught up once with what was committed when it asked, a
leader is known, and nothing keeps it from serving. To know the first it does one
linearizable read of nothing: a follower asks its leader for the commit index, a leader
has its term's own entry committed first, and the read is answered when as much is
applied here. A snapshot that is offered makes it begin again; from the moment that
another state takes the place of its own until that is on its disk, it is not ready
either, since nothing that it has could be counted for a majority. Whoever stops
members in turn may stop the next as soon as all others are ready.

Source: DESIGN.md section 8; RELIABILITY.md rules 33 and 55.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from raftd.node.driver import Driver
from raftd.node.owned import own
from raftd.statemachine.schema.base import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftd.node.node import Node

__all__ = ["Readiness"]

_RETRY_S: Final = 0.2
"""After a read that was refused: the disk is full."""


class Readiness:
    """Of one member; see the module's rules."""

    def __init__(self, node: Node, driver: Driver, changed: Callable[[], None]) -> None:
        """Be behind, until ``start`` finds out.

        Args:
            node: Is asked to read.
            driver: Ends with what nobody expected.
            changed: Told when it may have become ready, or not ready.
        """
        self._node: Final = node
        self._driver: Final = driver
        self._changed: Final = changed
        self._is_caught_up = False
        self._is_installing = False
        self._is_behind: Final = asyncio.Event()
        self._is_behind.set()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether this member may be counted on; may be asked from any thread."""
        node = self._node
        return (
            self._is_caught_up
            and not self._is_installing
            and node.leader != 0
            and node.trouble is None
        )

    def start(self) -> None:
        """Begin to catch up; the driver runs."""
        self._task = own(self._catch_up(), "catching up", self._driver.fail)

    async def stop(self) -> None:
        """End it; may be called twice, or before ``start``."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def fall_behind(self) -> None:
        """A snapshot begins to come in: what is here is too old to go on from."""
        self._is_caught_up = False
        self._is_behind.set()
        self._changed()

    def begin_install(self) -> None:
        """Another state took the place of this member's; it is not durable yet."""
        self._is_installing = True
        self._changed()

    def end_install(self) -> None:
        """It is durable now."""
        self._is_installing = False
        self._changed()

    async def _catch_up(self) -> None:
        while True:
            await self._is_behind.wait()
            self._is_behind.clear()
            if not await self._has_read():
                self._is_behind.set()
                await asyncio.sleep(_RETRY_S)
            elif not self._is_behind.is_set():
                self._is_caught_up = True
                self._changed()

    async def _has_read(self) -> bool:
        """Wait until as much is applied here as was committed before, or refused."""
        read = await self._node.read(lambda _: None)
        return not isinstance(read.value, Refusal)
