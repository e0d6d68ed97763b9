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

from tests.bench.environment import environment_of
from tests.bench.options import Options, parse
from tests.bench.parts import RATES, PartFailed, run_part
from tests.bench.plot import svg_of
from tests.bench.record import Record, RecordError, json_of, read_records
from tests.bench.report import report_of
from tests.bench.results import Results
from tests.bench.rounds import Plan, run_plan
from tests.bench.workloads import WORKLOADS, WorkloadFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    options = parse(arguments)
    try:
        if options.records:
            record = read_records(options.records)
            print(report_of(record))
        else:
            record = _measured(options)
    except RecordError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (PartFailed, WorkloadFailed) as failed:
        print(f"error: {failed}", file=sys.stderr)
        print("\n".join(getattr(failed, "__notes__", ())), file=sys.stderr)
        return 1
    _write(record, options)
    return 0


def _measured(options: Options) -> Record:
    """Run the parts in turn; each prints its table when it is done."""
    record = _empty(options)
    for part in options.sections:
        if part == RATES:
            record = _with_rates(record, options)
            print(report_of(record), flush=True)
        else:
            print(f"\n{part}\n", flush=True)
            record = replace(record, rows=(*record.rows, *run_part(part)))
    return record


def _empty(options: Options) -> Record:
    environment = environment_of(Path(tempfile.gettempdir()), {})
    return Record(
        environment, options.rounds, options.warm_up_s, options.measured_s, (), ()
    )


def _with_rates(record: Record, options: Options) -> Record:
    plan = Plan(
        [spec for spec in WORKLOADS if spec.name in options.measures],
        options.rounds,
        options.warm_up_s,
        options.measured_s,
        options.peers,
    )
    outcome = uvloop.run(run_plan(plan, _say))
    _say("")
    return replace(
        record,
        environment=replace(record.environment, versions=outcome.versions),
        turns=tuple(outcome.turns),
        left_out=tuple(outcome.left_out),
    )


def _write(record: Record, options: Options) -> None:
    if options.json is not None:
        options.json.write_bytes(json_of(record))
    comparisons = Results(record.turns).comparisons()
    if options.plot is not None and comparisons:
        title = f"raftd beside others, commit {record.environment.commit}"
        options.plot.write_text(svg_of(comparisons, title), encoding="utf-8")


def _say(what: str) -> None:
    """Tell a person who waits, but no file."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
