"""Where the picture of ``raftctl bench --plot FILE`` goes.

Rules: whatever would keep it from being drawn is said before the cluster is loaded. It
is drawn in memory and written under another name first, so FILE is a whole picture or
what it was. What draws is loaded only here and only when asked for.

Source: CLI.md; docs/adr/0002-dependencies.md.
"""

from __future__ import annotations

import importlib
import logging
import os
import textwrap
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from raftclient import ClusterStatus
from raftctl.bench_run import Plan, Row
from raftctl.exit_codes import ExitCode, Failure

__all__ = ["ROWS_MAX", "SUFFIXES", "Picture"]

SUFFIXES: Final = (".png", ".svg", ".pdf")
ROWS_MAX: Final = 20
"""Workloads, one below the other: a picture is drawn in memory."""
_DRAWS: Final = "raftctl.bench_figure"
_CHARS_MAX: Final = 200


class Picture:
    """The file of a picture."""

    def __init__(self, file: Path) -> None:
        """Choose the file; ``check`` comes before the load.

        Args:
            file: As the user wrote it; its suffix says the kind of picture.
        """
        self.name: Final = click.format_filename(file)
        self._kind: Final = file.suffix.lower()
        self._target: Final = Path(os.path.realpath(file))
        self._part: Final = self._target.with_name(
            f"{self._target.name}.{os.getpid()}.part"
        )
        self._began: Final = datetime.now(UTC)

    def check(self, rows: int) -> None:
        """Refuse what could not be drawn or written later.

        Args:
            rows: How many workloads are to be drawn.

        Raises:
            BadParameter: With the reason.
        """
        if self._kind not in SUFFIXES:
            raise _refused(f"{self.name} ends in none of {', '.join(SUFFIXES)}")
        if rows > ROWS_MAX:
            raise _refused(
                f"{rows} workloads are too many for a picture; ask for {ROWS_MAX} or"
                " fewer"
            )
        try:
            self._check_file()
        except OSError as error:
            raise _refused(f"{self.name} cannot be written: {_why(error)}") from error
        _load()

    def _check_file(self) -> None:
        if not self._target.parent.is_dir():
            folder = click.format_filename(self._target.parent)
            raise _refused(f"there is no folder {folder}; make it first")
        if self._target.exists():
            if not self._target.is_file():
                raise _refused(f"{self.name} is there, and is no ordinary file")
            if not os.access(self._target, os.W_OK):
                raise _refused(f"{self.name} is there, and may not be written")
        self._part.open("xb").close()
        self._part.unlink()

    def draw(self, plan: Plan, status: ClusterStatus, rows: Sequence[Row]) -> bool:
        """Draw what was measured; without any of it, leave the file as it is.

        Args:
            plan: What was asked for.
            status: Of the cluster, before the load.
            rows: Whose load has ended or was stopped.

        Returns:
            Whether something was drawn.

        Raises:
            Failure: It could not be written after all.
        """
        from raftctl import bench_figure  # noqa: PLC0415 - slow to load, and an extra

        measured = [row for row in rows if row.timeline.rate]
        if not measured:
            return False
        figure = bench_figure.figure_of(plan, status, measured, self._began)
        data = bench_figure.rendered(figure, self._kind[1:])
        try:
            self._part.write_bytes(data)
            self._part.replace(self._target)
        except OSError as error:
            raise Failure(
                f"the picture {self.name} could not be written: {_why(error)}",
                ExitCode.ERROR,
            ) from error
        finally:
            self._part.unlink(missing_ok=True)
        return True


def _load() -> None:
    """Load what draws: before the load, so that it does not compete with it."""
    # It tells of its caches, and a person reads our sentences.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        importlib.import_module(_DRAWS)
    except ModuleNotFoundError as error:
        raise _refused(
            f"{error.name}, which is needed to draw, is not installed; install it with"
            " pip install 'raftd[plot]'"
        ) from error
    except (ImportError, ValueError) as error:  # a variable of the user's, for one
        why = textwrap.shorten(str(error), _CHARS_MAX, placeholder=" ...")
        raise _refused(f"matplotlib, which draws, cannot be loaded: {why}") from error


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _refused(text: str) -> click.BadParameter:
    return click.BadParameter(text, param_hint="'--plot'")
