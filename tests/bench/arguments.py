"""What the programs of the benchmark have in common on their command lines.

Rules: a wrong argument is one sentence and exit code 2, as raftctl's is, and is found
before anything is started.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final, Never

__all__ = ["Parser", "count_up_to", "file_to_write", "number_within"]

_EXIT_WRONG: Final = 2


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence; who wants the usage asks for --help."""

    def __init__(self, name: str, description: str) -> None:
        """Begin the command line of ``python -m tests.bench.NAME``; "" = of all."""
        program = ".".join(["python -m tests.bench", *name.split()])
        super().__init__(prog=program, description=description, allow_abbrev=False)

    def error(self, message: str) -> Never:
        """End the program."""
        self.exit(_EXIT_WRONG, f"error: {message}\n")


def number_within(least: float, most: float) -> Callable[[str], float]:
    """Return what reads a number between two."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(
                f"{text} is not between {least:g} and {most:g}"
            )
        return number

    return read


def count_up_to(most: int, least: int = 1) -> Callable[[str], int]:
    """Return what reads a whole number."""

    def read(text: str) -> int:
        is_whole = text.isascii() and text.isdecimal()
        if not is_whole or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"{text} is not between {least} and {most}"
            )
        return int(text)

    return read


def file_to_write(text: str) -> Path:
    """Return a path that can be written to, before minutes were spent."""
    file = Path(text)
    if not file.parent.is_dir() or file.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: no such folder")
    return file
