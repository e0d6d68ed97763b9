"""Nodes of the release before beside nodes of today, on the same data directories.

Source: tests/e2e/previous/README.md; RELIABILITY.md rule 54.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cluster.processes import Processes
from tests.e2e.tools import told_by

__all__ = ["MixedProcesses"]

_ARCHIVES: Final = Path(__file__).parent / "previous"
#: Little: only who can take a snapshot gets on without the log.
_FLAGS_OF_TODAY: Final = ("--log-keep-bytes", "1048576")


class MixedProcesses(Processes):
    """Nodes that begin with the release before, and change to today's one by one."""

    def __init__(self, folder: Path, size: int = 3, flags: Sequence[str] = ()) -> None:
        """Unpack the release before; ``start`` starts."""
        super().__init__(folder, size, flags)
        self._packages = folder / "previous"
        self.previous: set[int] = set(self.ids)
        (archive,) = _ARCHIVES.glob("raftd-*.tar.xz")
        with tarfile.open(archive) as packed:
            # The first releases of 3.11 have no filters.
            packed.extraction_filter = getattr(tarfile, "data_filter", None)
            packed.extractall(self._packages)  # noqa: S202  # our own archive
        found = subprocess.run(
            [sys.executable, "-c", "import raftd; print(raftd.__file__)"],
            env=self.environment(1),
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.strip() == str(self._packages / "raftd" / "__init__.py")

    def environment(self, node_id: int) -> dict[str, str]:
        """As of any node; the packages of the release before come first."""
        variables = super().environment(node_id)
        if node_id in self.previous:
            variables["PYTHONPATH"] = str(self._packages)
            variables["PYTHONSAFEPATH"] = "1"  # else the working directory comes first
        return variables

    def frugal_flags(self, node_id: int) -> tuple[str, ...]:
        """Those of today also keep little log; the release before knows neither."""
        if node_id in self.previous:
            return ()
        return (*super().frugal_flags(node_id), *_FLAGS_OF_TODAY)

    def upgrade(self, node_id: int) -> None:
        """Stop a node of the release before, and start it as one of today."""
        self.stop(node_id)
        self.previous.remove(node_id)
        self.start(node_id)

    def downgrade(self, node_id: int) -> None:
        """Stop a node of today, and start it as one of the release before."""
        self.stop(node_id)
        self.previous.add(node_id)
        self.start(node_id)

    def check_releases(self) -> None:
        """See each running node be of the release that it should be of."""
        for node_id in self.running:
            # The release before does not tell its level.
            assert (told_by(self, node_id).level == 0) == (node_id in self.previous)
