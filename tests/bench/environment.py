"""On what was measured: so that two results can be told apart a year later.

Source: PERFORMANCE.md (figures hold only side by side, on one machine).
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from raftd.statemachine import machine

__all__ = ["Environment", "environment_of"]

_ROOT: Final = Path(__file__).resolve().parents[2]


class Environment(msgspec.Struct, frozen=True):
    """The machine and the programs.

    Attributes:
        date: UTC, to the minute.
        commit: Of raftd; ends in ``+`` if files differ from it.
        is_core_compiled: Whether the pure packages were loaded as machine code.
        versions: Of every system that was measured.
        processors: That this process may use.
        file_system: Where all systems kept their data.
    """

    date: str
    commit: str
    is_core_compiled: bool
    versions: dict[str, str]
    python: str
    kernel: str
    processors: int
    processor: str
    memory_mib: int
    file_system: str


def environment_of(folder: Path, versions: dict[str, str]) -> Environment:
    """Look at this machine.

    Args:
        folder: Where the data is.
        versions: Of the peers; ours is added.
    """
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return Environment(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M}",
        commit=_commit(),
        is_core_compiled=not str(machine.__file__).endswith(".py"),
        versions={"raftd": importlib.metadata.version("raftd"), **versions},
        python=f"{platform.python_implementation()} {platform.python_version()}",
        kernel=f"{platform.system()} {platform.release().partition('-')[0]}",
        processors=len(os.sched_getaffinity(0)),
        processor=_processor(),
        memory_mib=pages * page_bytes // 2**20,
        file_system=_file_system(folder),
    )


def _commit() -> str:
    revision = _git("rev-parse", "--short", "HEAD")
    return revision + (
        "+" if revision and _git("status", "--porcelain", "-uno") else ""
    )


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):  # a release has no history
        return ""
    return done.stdout.strip()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(folder: Path) -> str:
    """Return the type of the innermost mount that a folder is in."""
    mounts = [
        line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()
    ]
    home = folder.resolve()
    above = [
        (len(Path(at).parts), kind)
        for at, kind in mounts
        if Path(at) == home or Path(at) in home.parents
    ]
    return max(above)[1] if above else "unknown"
