"""What carries the messages of a session stream, as the stream sees it.

gRPC hands messages to a task that reads, and takes them from a task that writes
(``MessageWriter``). A plain connection hands them in, and takes answers, on the spot
(``PlainLine``).

Source: docs/adr/0018.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from raftd.statemachine.schema.base import Refusal

__all__ = ["MessageWriter", "PlainLine", "Served"]


class MessageWriter(Protocol):
    """Takes one encoded message, and returns when there is room for the next."""

    async def write(self, message: bytes) -> None:
        """Write it."""


class PlainLine(MessageWriter, Protocol):
    """A connection that hands messages in, and takes answers, on the spot."""

    async def first(self) -> bytes:
        """Wait for the first message."""

    def others(self) -> AsyncIterator[bytes]:
        """Read the others, for whoever waits for each."""

    def join(self, stream: Served) -> Callable[[], None]:
        """Hand each message to the stream from here on, and write all its answers.

        Returns:
            What is to be called when there are answers.
        """


class Served(Protocol):
    """A stream, as its connection sees it."""

    @property
    def is_over(self) -> bool:
        """Whether all that is left is to take its last messages."""

    def take(self, raw: bytes) -> None:
        """Take one message; one that makes no sense ends the stream."""

    def refuse(self, refusal: Refusal) -> None:
        """End the stream with a reason."""

    def next_message(self) -> bytes | None:
        """Return all that is ready as one message; None = nothing now."""
