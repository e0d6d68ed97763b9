"""Fixtures of the command line's tests: a real node, and raftctl in this process."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.processes import Processes
from raftctl.main import main


@dataclass(frozen=True)
class Ran:
    """How a command line ended, and what it wrote."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Ctl = Callable[..., Ran]

_TIMEOUT = "60s"


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """A cluster of one, for all tests of this folder."""
    with Processes(tmp_path_factory.mktemp("node"), size=1) as processes:
        yield processes


@pytest.fixture
def offline(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Ctl:
    """Raftctl in this process, without a cluster."""

    def run(*args: str, stdin: bytes = b"") -> Ran:
        reader, writer = os.pipe()
        assert len(stdin) <= 65_536, "more than a pipe takes at once"
        os.write(writer, stdin)
        os.close(writer)
        with os.fdopen(reader, "rb") as raw:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
            with pytest.raises(SystemExit) as ended:
                main(args)
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        assert b"Traceback" not in err
        return Ran(code, out, err.decode())

    return run


@pytest.fixture
def ctl(node: Processes, offline: Ctl, monkeypatch: pytest.MonkeyPatch) -> Ctl:
    """Raftctl in this process, with the real node."""
    monkeypatch.setenv("RAFTCTL_ENDPOINTS", node.endpoints)
    monkeypatch.setenv("RAFTCTL_TIMEOUT", _TIMEOUT)
    return offline


Spawn = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def spawn(node: Processes) -> Iterator[Spawn]:
    """Raftctl as a process of its own, with the real node; killed in the end."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*args: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "raftctl.main", *args],
            env={
                **os.environ,
                "RAFTCTL_ENDPOINTS": node.endpoints,
                "RAFTCTL_TIMEOUT": _TIMEOUT,
            },
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()
