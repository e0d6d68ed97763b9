"""What the proofs' command lines take: refused at once, in a sentence, with code 2.

Rules: an hour of work is not begun for a file that cannot be written in the end.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

__all__ = ["Parser", "count", "existing_file", "natural", "new_file", "span"]


def natural(text: str) -> int:
    """Take a whole number that is not negative."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return number


def count(text: str) -> int:
    """Take a whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return number


def span(text: str) -> float:
    """Take a length of time, in whatever unit: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not math.isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def existing_file(text: str) -> Path:
    """Take a file that is there to be read."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    if not os.access(path, os.R_OK):
        raise argparse.ArgumentTypeError(f"{text} may not be read")
    return path


def new_file(text: str) -> Path:
    """Take a file that can be written, or added to; its directory is there."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a directory, not a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} may not be written")
    return path


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one sentence, and ends with code 2."""

    def error(self, message: str) -> NoReturn:
        """End the program."""
        self.exit(2, f"error: {message}\n")

    def refuse_idle(
        self, given: argparse.Namespace, mode: str, used: Collection[str]
    ) -> None:
        """Refuse what was asked for and would be passed over in silence.

        Args:
            given: What was parsed.
            mode: What is to be done, as a sentence calls it.
            used: Names of all arguments that it looks at.
        """
        for name, value in vars(given).items():
            if name not in used and value != self.get_default(name):
                option = "--" + name.replace("_", "-")
                self.error(f"{option} means nothing to {mode}")
