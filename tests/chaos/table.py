"""What all rounds of a run came to: a row for each fault, and a table for people.

A slice of several faults is a slice of ``combined``, whatever they were. What went
wrong in a slice is its own; what a checker finds in a round is counted in every fault
of it: nobody knows yet which it was.

Source: RELIABILITY.md sections 5 and 7 (columns to publish).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.proof.results import Row, new_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.run import RoundReport, SliceReport
    from tests.checkers.verdict import Verdict

__all__ = ["COMBINED", "Totals"]

COMBINED: Final = "combined"

_WORDS: Final = {
    "lost": ("nowhere in the log", "is lost", "missing", "was never told"),
    "doubled": ("twice", "a second time", "repeated"),
    "overlapping": ("overlap", "at the same time", "both believe"),
}
"""What a sentence says decides first."""
_OF_CHECKER: Final = {
    "evidence": "lost",
    "witness": "stale",
    "linear": "stale",
    "locks": "overlapping",
    "elections": "overlapping",
    "outside": "overlapping",
    "jobs": "doubled",
    "watches": "stale",
}
_COUNTED: Final = (
    *("runs", "failures", "faults", "operations", "lost", "doubled", "stale"),
    *("overlapping", "stuck", "unknown", "undecided"),
)


class Totals:
    """See the module."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, int]] = {}
        self._seconds: dict[str, float] = {}
        self._pause_ms: dict[str, int] = {}
        self.rounds = 0
        self.failures = 0
        """Rounds in which something was wrong."""

    def add(self, report: RoundReport, verdicts: Sequence[Verdict]) -> None:
        """Count a round that was judged."""
        bad = [each for each in verdicts if each.outcome != "legal"]
        is_whole = bool(bad or report.troubles)
        self.rounds += 1
        self.failures += bool(bad or report.is_bad)
        names = {self._name(each) for each in report.slices} or {"start"}
        for each in report.slices:
            self._add_slice(each)
            if each.trouble and not is_whole:
                self._of(self._name(each))["failures"] += 1
        for name in sorted(names):
            counts = self._of(name)
            counts["failures"] += is_whole
            counts["stuck"] += report.is_stuck
            for verdict in bad:
                counts[_column(verdict)] += 1

    def _add_slice(self, slice_: SliceReport) -> None:
        name = self._name(slice_)
        counts = self._of(name)
        counts["runs"] += 1
        counts["faults"] += slice_.faults
        counts["operations"] += slice_.calls
        counts["unknown"] += slice_.unknown
        counts["stuck"] += slice_.is_stuck
        self._seconds[name] += slice_.seconds
        pause_ms = slice_.pause_us // 1000
        self._pause_ms[name] = max(self._pause_ms[name], pause_ms)

    @staticmethod
    def _name(slice_: SliceReport) -> str:
        return slice_.names[0] if len(slice_.names) == 1 else COMBINED

    def _of(self, name: str) -> dict[str, int]:
        self._seconds.setdefault(name, 0.0)
        self._pause_ms.setdefault(name, 0)
        return self._counts.setdefault(name, dict.fromkeys(_COUNTED, 0))

    def rows(self, command: str, commit: str) -> list[Row]:
        """Return a row for each fault, of the commit that the run began with."""
        return [
            new_row(
                "chaos",
                name=name,
                commit=commit,
                seconds=round(self._seconds[name], 1),
                longest_pause_ms=self._pause_ms[name],
                command=command,
                **{what: count for what, count in counts.items() if count},
            )
            for name, counts in sorted(self._counts.items())
        ]

    def table(self) -> str:
        """Return all of it for people."""
        head = ("fault", *_COUNTED, "longest pause")
        lines = [
            (name, *map(str, counts.values()), f"{self._pause_ms[name] / 1000:.2f} s")
            for name, counts in sorted(self._counts.items())
        ]
        every = {
            what: sum(counts[what] for counts in self._counts.values())
            for what in _COUNTED
        }
        pause_s = max(self._pause_ms.values(), default=0) / 1000
        lines.append(("all", *map(str, every.values()), f"{pause_s:.2f} s"))
        widths = [
            max(len(line[n]) for line in (head, *lines)) for n in range(len(head))
        ]
        drawn = [
            "  ".join(
                text.ljust(width) if place == 0 else text.rjust(width)
                for place, (text, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in (head, *lines)
        ]
        total = f"{self.rounds} rounds, {self.failures} of them failed"
        return "\n".join([*drawn, total])


def _column(verdict: Verdict) -> str:
    """Choose where a finding is counted."""
    if verdict.outcome == "unknown":
        return "undecided"
    sentence = verdict.sentence.lower()
    for column, words in _WORDS.items():
        if any(word in sentence for word in words):
            return column
    return _OF_CHECKER[verdict.checker]
