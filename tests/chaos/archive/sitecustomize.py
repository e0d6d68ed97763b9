"""Has a node write down the entries that it is about to cut from its log.

Python imports this at its start where this folder is on its path. It changes nothing
that a node does: the log that a checkpoint makes needless is needed as evidence.

Source: RELIABILITY.md section 4 (evidence).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from raftd.storage.log_store import LogStore

__all__ = ["ARCHIVE", "watch_cuts"]

ARCHIVE = "CHAOS_ARCHIVE"
"""The variable with the file that a node appends to."""

_SLICE_BYTES = 1 << 20


def watch_cuts(path: Path) -> None:
    """Append to a file, from now on, whatever this process cuts."""
    # Not at the top: who is not asked to does not even load them.
    import msgspec  # noqa: PLC0415  # see above

    from raftd.consensus.types import Index  # noqa: PLC0415  # see above
    from raftd.storage.log_store import LogStore  # noqa: PLC0415  # see above

    cut: Callable[[LogStore, int], Awaitable[None]] = LogStore.cut_prefix

    async def cut_prefix(self: LogStore, upto: int) -> None:
        low = self.first_index
        with path.open("ab") as file:
            while low <= upto:
                entries = self.read(low, Index(upto + 1), _SLICE_BYTES)
                for entry in entries:
                    data = msgspec.msgpack.encode(entry)
                    file.write(len(data).to_bytes(4) + data)
                low = Index(low + len(entries))
        await cut(self, upto)

    LogStore.cut_prefix = cut_prefix  # type: ignore[method-assign]  # the point of it


if ARCHIVE in os.environ:
    watch_cuts(Path(os.environ[ARCHIVE]))
