"""Writes down how many examples each fuzz test had, for ``python -m tests.fuzz``."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from tests.fuzz.profiles import COUNTS, COUNTS_VARIABLE


def pytest_sessionfinish() -> None:
    """Write the counts, if somebody asks for them."""
    path = os.environ.get(COUNTS_VARIABLE)
    if path:
        Path(path).write_bytes(msgspec.json.encode(dict(COUNTS)))
