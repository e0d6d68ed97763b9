"""``python -m tests.proof``: write the report; ``--check`` says whether it is fresh.

Source: RELIABILITY.md section 7.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from tests.proof.report import report_of
from tests.proof.results import RESULTS, ResultsError, load

__all__ = ["REPORT", "main"]

REPORT: Final = RESULTS.with_suffix(".md")


def main(args: list[str] | None = None) -> int:
    """Write or compare; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--rows", type=Path, default=RESULTS)
    parser.add_argument("--to", type=Path, default=REPORT)
    options = parser.parse_args(args)
    try:
        page = report_of(load(options.rows))
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.check:
        if options.to.exists() and options.to.read_text(encoding="utf-8") == page:
            return 0
        print(f"error: {options.to} is not fresh: run 'make report'", file=sys.stderr)
        return 1
    options.to.write_text(page, encoding="utf-8")
    print(f"{options.to}: {len(page.splitlines())} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
