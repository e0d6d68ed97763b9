"""The longer measurements as programs: what they print, write and end with.

Rules: rows are written whenever there is one more, so that what ends early, by Ctrl-C
or because something does not work, has told what it measured. SIGTERM is as Ctrl-C. A
record of rows is a record as ``make bench`` writes it, and ``--show`` reads both.

Source: PERFORMANCE.md (the harness writes ``bench.json``).
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from raftctl.bench_workloads import WorkloadFailed
from tests.bench.environment import environment_of
from tests.bench.peers.base import PeerFailed
from tests.bench.record import Record, json_of
from tests.bench.sections import Keep, Say, SectionRow, table_of

__all__ = [
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "run_program",
    "sigterm_as_ctrl_c",
    "tell_failure",
]

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


def run_program(
    measure: Callable[[Say, Keep], object],
    json: Path | None,
    before: Sequence[SectionRow] = (),
) -> int:
    """Measure, print the table, and write the rows.

    Args:
        measure: Is told whom to tell how far it is, and all rows so far.
        json: Where to write, or None.
        before: Told if nothing is measured.

    Returns:
        The exit code: 0, or 1 if something did not work, or 130 after Ctrl-C.
    """
    environment = environment_of(Path(tempfile.gettempdir()), {})
    rows = tuple(before)

    def keep(found: Sequence[SectionRow]) -> None:
        nonlocal rows
        rows = tuple(found)
        if json is not None:
            json.write_bytes(json_of(Record(environment, 0, 0.0, 0.0, (), (), rows)))

    code = 0
    try:
        with sigterm_as_ctrl_c():
            measure(_say, keep)
    except (WorkloadFailed, PeerFailed) as failed:
        tell_failure(failed)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if rows:
        print(table_of(rows))
    return code


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM end what is done as Ctrl-C does: with all that it started."""

    def end(*_: object) -> None:
        if callable(signal.getsignal(signal.SIGINT)):  # a running loop has its own
            signal.raise_signal(signal.SIGINT)
        else:  # ignored, as in a shell's background jobs
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def tell_failure(failed: Exception) -> None:
    """Say what did not work, with the ends of logs that were noted with it."""
    notes = getattr(failed, "__notes__", ())
    print("\n".join([f"error: {failed}", *notes]), file=sys.stderr)


def _say(what: str) -> None:
    """Tell how far it is, on standard error."""
    print(what, file=sys.stderr, flush=True)
