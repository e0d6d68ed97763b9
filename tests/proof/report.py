"""Draw ``docs/reliability.md`` from the rows, the scenarios and the bugs.

Rules: every figure comes from a row, and every row is in a figure. Texts that people
write (what is not covered) are in ``texts.py`` and ``bugs.py``.

Source: RELIABILITY.md section 7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tests.mutants.scenarios import SCENARIOS
from tests.proof.bugs import BUGS
from tests.proof.results import Kind, Row
from tests.proof.texts import HEAD, NOT_COVERED, SECTIONS

__all__ = ["report_of"]


def report_of(rows: Sequence[Row]) -> str:
    """Return the whole page."""
    parts = [
        HEAD,
        SECTIONS["simulator"],
        _simulator(rows),
        SECTIONS["chaos"],
        _chaos(_of(rows, "chaos")),
        SECTIONS["checkers"],
        _named(_of(rows, "checkers"), "judged"),
        SECTIONS["mutants"],
        _mutants(_of(rows, "mutant")),
        SECTIONS["fuzz"],
        _named(_of(rows, "fuzz"), "examples"),
        SECTIONS["scenarios"],
        _scenarios(),
        SECTIONS["bugs"],
        _bugs(),
        NOT_COVERED,
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _of(rows: Iterable[Row], kind: Kind) -> list[Row]:
    return [row for row in rows if row.kind == kind]


def _table(head: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    drawn = [
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |"
        for line in lines
    ]
    if not drawn:
        return "*No run is on record yet.*"
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *drawn])


def _count(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


def _total(rows: Iterable[Row], what: Callable[[Row], float]) -> str:
    return _count(sum(map(what, rows)))


def _commits(rows: Iterable[Row]) -> str:
    """Name the commits by their share, the newest last."""
    runs: Counter[str] = Counter()
    for row in rows:
        runs[row.commit] += row.runs
    return ", ".join(f"{commit} ({_count(n)})" for commit, n in runs.items())


def _groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    return dict(sorted(groups.items()))


def _simulator(rows: Sequence[Row]) -> str:
    head = ("level", "seeds", "events", "events/s", "failed", "commits (seeds)")
    lines = []
    for level, kind in (("A", "sim_a"), ("B", "sim_b")):
        for name, found in _groups(row for row in rows if row.kind == kind).items():
            events = sum(row.events for row in found)
            cpu_s = sum(row.cpu_s or row.seconds for row in found)
            lines.append(
                (
                    f"{level} {name}".strip(),
                    _total(found, lambda row: row.runs),
                    _count(events),
                    _count(events / cpu_s) if cpu_s else "",
                    _total(found, lambda row: row.failures),
                    _commits(found),
                )
            )
    return _table(head, lines)


def _chaos(rows: Sequence[Row]) -> str:
    head = (
        "fault",
        "runs",
        "faults",
        "operations",
        "lost",
        "doubled",
        "stale",
        "overlapping",
        "stuck",
        "failed",
        "undecided",
        "unknown",
        "longest pause",
        "minutes",
    )
    groups = [*_groups(rows).items(), *([("all", list(rows))] if rows else [])]
    lines = [
        (
            name,
            _total(found, lambda row: row.runs),
            _total(found, lambda row: row.faults),
            _total(found, lambda row: row.operations),
            _total(found, lambda row: row.lost),
            _total(found, lambda row: row.doubled),
            _total(found, lambda row: row.stale),
            _total(found, lambda row: row.overlapping),
            _total(found, lambda row: row.stuck),
            _total(found, lambda row: row.failures),
            _total(found, lambda row: row.undecided),
            _total(found, lambda row: row.unknown),
            f"{max(row.longest_pause_ms for row in found) / 1000:.2f} s",
            f"{sum(row.seconds for row in found) / 60:.1f}",
        )
        for name, found in groups
    ]
    commits = f"\n\nCommits (runs): {_commits(rows)}." if rows else ""
    return _table(head, lines) + commits


def _named(rows: Sequence[Row], what: str) -> str:
    lines = [
        (
            name,
            _total(found, lambda row: row.runs),
            _total(found, lambda row: row.failures),
            _total(found, lambda row: row.undecided),
            _commits(found),
        )
        for name, found in _groups(rows).items()
    ]
    return _table(("what", what, "failed", "undecided", "commits"), lines)


def _mutants(rows: Sequence[Row]) -> str:
    """Show the newest run of each."""
    head = ("planted bug", "what it breaks", "found by", "median seeds", "CPU s each")
    newest = {row.name: row for row in rows}
    lines = [
        (
            name,
            row.breaks,
            row.found_by if not row.failures else "**not found**",
            row.median_seeds or "",
            f"{row.cpu_s:.1f}" if row.cpu_s else "",
        )
        for name, row in sorted(newest.items())
    ]
    commits = ", ".join(dict.fromkeys(row.commit for row in newest.values()))
    return f"{len(newest)} planted bugs ({commits}).\n\n" + _table(head, lines)


def _scenarios() -> str:
    head = ("#", "scenario", "breaks", "reached by")
    lines = [
        (
            each.number,
            each.title,
            each.breaks,
            ", ".join(f"`{name}`" for name in each.reached_by) or each.note,
        )
        for each in SCENARIOS
    ]
    return _table(head, lines)


def _bugs() -> str:
    head = ("what broke", "found by", "in", "kept as")
    lines = [(bug.what, bug.found_by, bug.since, f"`{bug.test}`") for bug in BUGS]
    return _table(head, lines)
