"""The packages of the release before, for nodes that are of it.

Source: tests/e2e/previous/README.md; RELIABILITY.md rule 54.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Final

__all__ = ["unpack_release_before"]

_ARCHIVES: Final = Path(__file__).parents[1] / "e2e" / "previous"


def unpack_release_before(folder: Path) -> Path:
    """Unpack the release before, and return the folder."""
    (archive,) = _ARCHIVES.glob("raftd-*.tar.xz")
    with tarfile.open(archive) as packed:
        # The first releases of 3.11 have no filters.
        packed.extraction_filter = getattr(tarfile, "data_filter", None)
        packed.extractall(folder)  # noqa: S202  # our own archive
    return folder
