"""Builds the load programs, without a network, once for each state of their sources.

They go into a folder beside the repository's own files that git does not see.

Source: PERFORMANCE.md (Debian's packages hold the clients' libraries).
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.bench.peers.base import PeerMissing

__all__ = ["CACHE", "build_go", "build_java", "need_file", "need_program"]

_HERE: Final = Path(__file__).resolve().parent
CACHE: Final = _HERE.parents[2] / ".bench"
_GO_PACKAGES: Final = "/usr/share/gocode"  # where Debian keeps sources of Go packages
_BUILD_S: Final = 600.0


def need_program(name: str, package: str) -> str:
    """Find a program.

    Raises:
        PeerMissing: It is not there; the sentence names the package.
    """
    # Servers are in sbin, which is not on everybody's path.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise PeerMissing(f"{name} is not here: install Debian's {package}")
    return found


def need_file(path: Path, package: str) -> Path:
    """See that a file or folder is there.

    Raises:
        PeerMissing: It is not; the sentence names the package.
    """
    if not path.exists():
        raise PeerMissing(f"{path} is not here: install Debian's {package}")
    return path


async def build_go(name: str, *packages: tuple[str, str]) -> Path:
    """Build a command of the folder ``go``.

    Args:
        name: Of the command.
        packages: What it imports beyond Go's own, each with Debian's name for it.

    Returns:
        The program.

    Raises:
        PeerMissing: A package is missing, or it cannot be built.
    """
    go = need_program("go", "golang-go")
    for imported, package in packages:
        need_file(Path(_GO_PACKAGES, "src", imported), package)
    sources = _HERE / "go"
    target = CACHE / f"{name}-{_digest(sources)}"
    if target.exists():
        return target
    # With modules off, imports are found in folders named so, and no network is asked.
    ours = CACHE / "go"
    shutil.copytree(sources, ours / "src" / "raftdbench", dirs_exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    await _build(
        [go, "build", "-o", str(fresh), f"raftdbench/{name}"],
        {
            "GO111MODULE": "off",
            "GOFLAGS": "",
            "GOPATH": f"{ours}:{_GO_PACKAGES}",
            "GOCACHE": str(CACHE / "go-cache"),
        },
    )
    return fresh.replace(target)


async def build_java(class_path: str) -> Path:
    """Compile the folder ``java``.

    Args:
        class_path: Of the libraries.

    Returns:
        The folder of the classes.

    Raises:
        PeerMissing: There is no compiler, or it cannot be compiled.
    """
    compiler = need_program("javac", "default-jdk-headless")
    sources = _HERE / "java"
    target = CACHE / f"java-{_digest(sources)}"
    if target.exists():
        return target
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    files = sorted(map(str, sources.glob("*.java")))
    await _build([compiler, "-Werror", "-cp", class_path, "-d", str(fresh), *files], {})
    return fresh.replace(target)


async def _build(command: Sequence[str], variables: Mapping[str, str]) -> None:
    CACHE.mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=PIPE,
        stderr=STDOUT,
        env={**os.environ, **variables},
    )
    try:
        async with asyncio.timeout(_BUILD_S):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise PeerMissing(
            f"the load program cannot be built: {told.decode(errors='replace')[-1500:]}"
        )


def _digest(sources: Path) -> str:
    """Tell one state of the sources from another."""
    digest = hashlib.sha256()
    for path in sorted(path for path in sources.rglob("*") if path.is_file()):
        digest.update(str(path.relative_to(sources)).encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
