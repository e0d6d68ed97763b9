"""Tells when a database is no longer the file that was opened.

A file that is moved, removed or replaced under a running node goes on taking writes
that no restart will ever find. SQLite does not notice; comparing what the names lead to
now with what they led to then does.

Rules: cheap enough to be asked about once a second: one look at each name, nothing
read.

Source: RELIABILITY.md rules 46 and 49; https://www.sqlite.org/howtocorrupt.html section
2.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from raftd.storage.errors import translate_errors

__all__ = ["FileWatch"]


class FileWatch:
    """What some names lead to, from its making on.

    Raises:
        DiskFailed: One of them leads to nothing.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._identities = {path: self._look(path) for path in paths}

    def replaced(self) -> str | None:
        """Say in a sentence which file is another one now, if any."""
        for path, opened in self._identities.items():
            try:
                found = path.stat()
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                return f"{path} was taken from under the running node: {reason}."
            if (found.st_dev, found.st_ino) != opened:
                return f"{path} was replaced by another file under the running node."
        return None

    @staticmethod
    def _look(path: Path) -> tuple[int, int]:
        with translate_errors(path, "look at"):
            found = path.stat()
        return found.st_dev, found.st_ino
