"""Whatever a run left behind when it was killed: found by name, and ended.

Each process of a world carries the world's name in its environment, and each folder of
one in its own name: the process that made the world, by number and start time. Network
namespaces, devices, mounts and loop devices belong to processes of the world and go
with them; only a frozen disk must be thawed first, or its writers never end.

Rules: nothing is ended that does not carry such a name; names of worlds whose maker
lives are left alone.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = [
    "DISK",
    "WORLD",
    "end_world",
    "make_folder",
    "new_world",
    "passing_folder",
    "sweep",
]

WORLD: Final = "CHAOS_WORLD"
"""The variable with the name of a world."""

DISK: Final = "CHAOS_DISK"
"""The variable with the disk of a process, as it sees it."""

_FOLDER: Final = "raftd-chaos-"
_END_S: Final = 10.0
_POLL_S: Final = 0.02
_THAW_S: Final = 20.0
_numbers: Final = itertools.count(1)


def new_world() -> str:
    """Return a name for a world of this process."""
    return f"{os.getpid()}.{_started(os.getpid())}.{next(_numbers)}"


def make_folder(world: str) -> Path:
    """Make a folder that ``sweep`` finds."""
    return Path(tempfile.mkdtemp(prefix=f"{_FOLDER}{world}-"))


def passing_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for a while; ``sweep`` finds it if it is left behind."""
    return tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{new_world()}-")


def sweep() -> int:
    """End what worlds of dead processes left; returns how many processes that was."""
    found = {world for _, world in _marked() if _is_orphan(world)}
    ended = sum(map(end_world, found))
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        if _is_orphan(folder.name.removeprefix(_FOLDER).rpartition("-")[0]):
            shutil.rmtree(folder, ignore_errors=True)
    return ended


def end_world(world: str) -> int:
    """Kill all processes of a world but this one; returns how many there were."""
    ended: dict[int, None] = {}
    end_s = time.monotonic() + _END_S
    while time.monotonic() < end_s:
        pids = [pid for pid, name in _marked() if name == world]
        if not pids:
            break
        for pid in pids:
            if pid not in ended:
                _thaw(pid)
            ended[pid] = None
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)
    return len(ended)


def _marked() -> Iterator[tuple[int, str]]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            world = _variable(folder, WORLD)
            if world and not _is_ended(folder):
                yield int(folder.name), world


def _variable(process: Path, name: str) -> str:
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    prefix = f"{name}=".encode()
    found = (text[len(prefix) :] for text in variables if text.startswith(prefix))
    return next(found, b"").decode(errors="replace")


def _is_ended(process: Path) -> bool:
    """Tell whether only its entry is left, for its parent to read."""
    return _fields(process)[:1] in ([], ["Z"], ["X"])


def _fields(process: Path) -> list[str]:
    """Return the state of a process and what follows; empty if there is none."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


@functools.cache
def _own_start() -> str:
    return _fields(Path("/proc/self"))[19]


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty if there is none."""
    if pid == os.getpid():
        return _own_start()
    return "".join(_fields(Path(f"/proc/{pid}"))[19:20])


def _is_orphan(world: str) -> bool:
    parts = world.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return False
    return _started(int(parts[0])) != parts[1]


def _thaw(pid: int) -> None:
    disk = _variable(Path(f"/proc/{pid}"), DISK)
    if disk:
        command = ["nsenter", f"--mount=/proc/{pid}/ns/mnt", "fsfreeze", "-u", disk]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, check=False, timeout=_THAW_S)
