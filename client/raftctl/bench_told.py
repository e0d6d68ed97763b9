"""What ``raftctl bench`` says: before, meanwhile and afterwards.

Source: CLI.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from raftclient import ClusterStatus
from raftctl.app import App
from raftctl.bench_run import Plan, Row
from raftctl.options import OutputFormat
from raftctl.progress import Bar, progress
from raftctl.sizes import format_bytes

__all__ = ["announcement", "cluster_name", "settings_text", "shown", "tell"]

_BESIDES_S: Final = 0.5
"""What a workload takes beside its load, about: to prepare, prove and sweep."""
_TICK_S: Final = 0.2
_HEADS: Final = {
    "name": "WORKLOAD",
    "rate": "OP/S",
    "p50": "P50 MS",
    "p99": "P99 MS",
    "max": "MAX MS",
    "pause": "PAUSE MS",
    "errors": "ERRORS",
}
_NUMBERS: Final = ("rate", "p50", "p99", "max", "pause")


def announcement(app: App, plan: Plan, status: ClusterStatus) -> str:
    """Say which cluster will be loaded, with what, for how long."""
    members = status.members
    leader = next((m.name for m in members if m.node_id == status.leader), "nobody")
    total_s = len(plan.workloads) * (plan.workload_s + _BESIDES_S)
    return (
        f"loading cluster {cluster_name(status) or status.cluster_id} at"
        f" {app.settings.endpoints} ({_count(len(members), 'member')}, {leader} leads)"
        f" for about {total_s:.0f} s with {', '.join(plan.workloads)}:"
        f" {settings_text(plan)}\n"
        f"its keys, locks and jobs are under {plan.prefix}/ and go at the end, also"
        " after Ctrl-C"
    )


def settings_text(plan: Plan) -> str:
    """Say with what the cluster is loaded."""
    return (
        f"{plan.in_flight} in flight over {_count(plan.connections, 'connection')},"
        f" values of {format_bytes(plan.value_bytes)}"
    )


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def cluster_name(status: ClusterStatus) -> str:
    """Return the name that its members have for it; empty if none was given."""
    return next((m.cluster_name for m in status.members if m.cluster_name), "")


@contextmanager
def shown(app: App, plan: Plan) -> Iterator[Callable[[str], None]]:
    """Show how far it is; yields what is told of each workload that begins."""
    with progress(app, "measuring") as bar:
        clock = _Clock(bar, plan)
        try:
            yield clock.begin
        finally:
            clock.stop()


class _Clock:
    """Moves the bar while the load runs."""

    def __init__(self, bar: Bar, plan: Plan) -> None:
        self._loop: Final = asyncio.get_running_loop()
        self._bar: Final = bar
        self._workload_ms: Final = int(plan.workload_s * 1000)
        self._total_ms: Final = len(plan.workloads) * self._workload_ms
        self._before_ms = -self._workload_ms
        self._began_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, name: str) -> None:
        """Count the workloads before it as done."""
        assert name, "every workload has a name"
        self.stop()
        self._before_ms += self._workload_ms
        self._began_s = time.monotonic()
        self._tick()

    def stop(self) -> None:
        """Move it no longer; may be called twice."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        spent_ms = int((time.monotonic() - self._began_s) * 1000)
        done_ms = self._before_ms + min(spent_ms, self._workload_ms)
        self._bar(done_ms, self._total_ms)
        self._timer = self._loop.call_later(_TICK_S, self._tick)


def tell(app: App, plan: Plan, status: ClusterStatus, rows: Sequence[Row]) -> None:
    """Write the figures, as a table or for scripts."""
    records = [_record(plan, row) for row in rows]
    match app.out.format:
        case OutputFormat.HUMAN:
            columns, cells = _aligned([_cells(each) for each in records])
            app.out.rows(cells, columns=columns, value="name")
            app.out.note("all that was acknowledged was found again")
        case OutputFormat.VALUE:
            app.out.rows(records, columns={}, value="rate")
        case OutputFormat.JSON | OutputFormat.JSONL:
            app.out.record(_document(plan, status, records), value=None)


def _document(
    plan: Plan, status: ClusterStatus, records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "cluster_id": status.cluster_id,
        "cluster": cluster_name(status),
        "prefix": plan.prefix,
        "in_flight": plan.in_flight,
        "connections": plan.connections,
        "value_bytes": plan.value_bytes,
        "warm_up_s": plan.warm_up_s,
        "measured_s": plan.measured_s,
        "workloads": records,
    }


def _record(plan: Plan, row: Row) -> dict[str, Any]:
    load, latencies = row.load, row.latencies
    assert load is not None, "what is told is proved"
    return {
        "name": row.name,
        "operations": load.operations,
        "rate": round(load.operations / plan.measured_s, 1),
        "p50_us": _us(latencies.quantile_s(0.50)),
        "p99_us": _us(latencies.quantile_s(0.99)),
        "max_us": _us(latencies.max_s),
        "pause_us": _us(load.pause_s),
        "errors": dict(load.errors.most_common()),
    }


def _us(span_s: float) -> int:
    return round(span_s * 1e6)


def _cells(record: dict[str, Any]) -> dict[str, str]:
    errors = (f"{count} {reason}" for reason, count in record["errors"].items())
    spans = {name: record[f"{name}_us"] for name in ("p50", "p99", "max", "pause")}
    return {
        "name": record["name"],
        "rate": f"{record['rate']:,.0f}",
        **{name: f"{span_us / 1000:,.2f}" for name, span_us in spans.items()},
        "errors": ", ".join(errors) or "-",
    }


def _aligned(
    rows: Sequence[dict[str, str]],
) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Put figures under each other by their last digit; returns heads and rows."""
    heads, cells = dict(_HEADS), [dict(row) for row in rows]
    for name in _NUMBERS:
        width = max(len(row[name]) for row in (heads, *cells))
        for row in (heads, *cells):
            row[name] = row[name].rjust(width)
    return heads, cells
