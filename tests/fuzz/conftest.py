"""Writes down what each fuzz test came to, for ``python -m tests.fuzz``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.profiles import COUNTS, COUNTS_VARIABLE
from tests.fuzz.rounds import Round

_failed: Final[list[str]] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a failure, of a test of this folder or of another."""
    if report.failed:
        _failed.append(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write it down, if somebody asks for it."""
    path = os.environ.get(COUNTS_VARIABLE)
    if path:
        Path(path).write_bytes(Round(dict(COUNTS), list(_failed)).encoded())
