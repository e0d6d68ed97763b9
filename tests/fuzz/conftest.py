"""Writes down what each fuzz test came to, for ``python -m tests.fuzz``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.profiles import COUNTS, COUNTS_VARIABLE
from tests.fuzz.rounds import Round

_failed: Final[list[str]] = []


PATIENCE_S: Final = 600
"""For one test, that may be hundreds of examples on a busy machine."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder more time than others."""
    for item in items:
        if "/fuzz/" in item.path.as_posix():
            item.add_marker(pytest.mark.timeout(PATIENCE_S))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note a failure, of a test of this folder or of another."""
    if report.failed:
        _failed.append(report.nodeid)


def pytest_sessionfinish() -> None:
    """Write it down, if somebody asks for it."""
    path = os.environ.get(COUNTS_VARIABLE)
    if path:
        Path(path).write_bytes(Round(dict(COUNTS), list(_failed)).encoded())
