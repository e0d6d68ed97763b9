"""Measures raftd and the systems it is compared with: ``make bench-smoke``, ``bench``.

Nothing about timing is asserted: machines differ and are shared. It fails only if
something of ours does not work, be it one write that the cluster does not hold at the
end.

Source: PERFORMANCE.md; docs/performance.md says how to read it.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import uvloop
from msgspec.structs import replace

from raftctl.bench_workloads import WorkloadFailed
from tests.bench.document import DocumentError, fill_document
from tests.bench.environment import environment_of
from tests.bench.options import Options, parse
from tests.bench.parts import RATES, run_part
from tests.bench.plots import draw
from tests.bench.programs import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    sigterm_as_ctrl_c,
    tell_failure,
)
from tests.bench.record import Record, RecordError, json_of, read_records
from tests.bench.report import report_of
from tests.bench.rounds import Outcome, Plan, run_plan
from tests.bench.workloads import WORKLOADS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    if not options.records:
        with sigterm_as_ctrl_c():
            return _measure(options)
    try:
        record = read_records(options.records)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report_of(record))
    pictures = _write(record, options)
    if options.document is not None:
        try:
            fill_document(options.document, record, pictures)
        except DocumentError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return 0


def _measure(options: Options) -> int:
    """Run the parts in turn; each prints its table, and all is written, when it ends.

    Returns:
        The exit code: the first that was not 0; Ctrl-C ends the rest, too.
    """
    environment = environment_of(Path(tempfile.gettempdir()), {})
    record = Record(
        environment, options.rounds, options.warm_up_s, options.measured_s, (), ()
    )
    code = 0
    for name in options.sections:
        if name == RATES:
            record, code_now = _with_rates(record, options)
            print(report_of(record), flush=True)
        else:
            print(f"\n{name}\n", flush=True)
            part = run_part(name)
            record = replace(record, rows=(*record.rows, *part.rows))
            code_now = part.code
        _write(record, options)
        code = code or code_now
        if code_now == EXIT_INTERRUPTED:
            break
    return code


def _with_rates(record: Record, options: Options) -> tuple[Record, int]:
    plan = Plan(
        [spec for spec in WORKLOADS if spec.name in options.measures],
        options.rounds,
        options.warm_up_s,
        options.measured_s,
        options.peers,
    )
    outcome, code = Outcome(), 0
    try:
        uvloop.run(run_plan(plan, _say, outcome))
    except WorkloadFailed as failed:
        tell_failure(failed)
        code = EXIT_FAILED
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    _say("")
    versions = {**record.environment.versions, **outcome.versions}
    told = replace(
        record,
        environment=replace(record.environment, versions=versions),
        turns=tuple(outcome.turns),
        left_out=tuple(outcome.left_out),
    )
    return told, code


def _write(record: Record, options: Options) -> list[Path]:
    """Write what was asked for; returns the pictures."""
    if options.json is not None:
        options.json.write_bytes(json_of(record))
    return [] if options.plot is None else draw(record, options.plot)


def _say(what: str) -> None:
    """Tell a person who waits, but no file."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
