"""A progress bar on standard error, if a person looks on. Source: CLI.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from raftctl.app import App

__all__ = ["Bar", "progress"]


class Bar(Protocol):
    """What is told each step."""

    def __call__(self, count: int, total: int) -> None:
        """So many of about so many are done; a total of 0 is not known."""


@contextmanager
def progress(app: App, what: str, *, is_bytes: bool = False) -> Iterator[Bar]:
    """Show how far something is.

    Args:
        app: Of the command.
        what: In front of the bar.
        is_bytes: Whether the steps are bytes.
    """
    if not (app.out.is_human and sys.stderr.isatty()):
        yield lambda count, total: None
        return
    import rich.console  # noqa: PLC0415 - slow to load, and scripts never need it
    import rich.progress  # noqa: PLC0415 - slow to load, and scripts never need it

    counter: rich.progress.ProgressColumn = (
        rich.progress.DownloadColumn(binary_units=True)
        if is_bytes
        else rich.progress.TaskProgressColumn()
    )
    with rich.progress.Progress(
        rich.progress.SpinnerColumn(),
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        counter,
        rich.progress.TimeElapsedColumn(),
        console=rich.console.Console(stderr=True),
        transient=True,
    ) as shown:
        task = shown.add_task(what, total=None)
        yield lambda count, total: shown.update(
            task, completed=count, total=max(count, total) if total else None
        )
