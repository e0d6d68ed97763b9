"""A sink for one answer that a coroutine awaits."""

from __future__ import annotations

import asyncio

from raftd.node.service import Answered
from raftd.statemachine.schema.base import Refusal

__all__ = ["FutureSink"]


class FutureSink:
    """Gives its one answer to whoever awaits ``future``."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Answered] = (
            asyncio.get_running_loop().create_future()
        )

    def answer(self, tag: int, answered: Answered) -> None:
        """Take the answer; a late one is dropped."""
        del tag
        if not self.future.done():
            self.future.set_result(answered)

    def flush(self) -> None:
        """Nothing to send."""

    def close(self, refusal: Refusal) -> None:
        """The node serves no longer: that is the answer."""
        self.answer(0, Answered(refusal, 0))
