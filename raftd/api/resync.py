"""Joins a RESYNC with the list that follows it: one message says both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.message import Message

from raftd.node.service import WatchBatch, WatchKind

__all__ = ["ResyncJoiner"]


class ResyncJoiner:
    """Makes the messages of a watch that has no kinds of its own."""

    def __init__(self, make: Callable[..., Any]) -> None:
        """Make messages with ``revision``, ``events`` and ``is_resync``."""
        self._make: Final = make
        self._is_resync = False

    def to_messages(self, batch: WatchBatch) -> Sequence[Message]:
        """Turn a batch into messages; a RESYNC waits for what follows it."""
        if batch.kind is WatchKind.RESYNC:
            self._is_resync = True
            return ()
        message: Message = self._make(
            revision=batch.revision, events=batch.items, is_resync=self._is_resync
        )
        self._is_resync = False
        return (message,)
