"""``python -m tests.proof``: write the report; ``--check`` says whether it is fresh.

Source: RELIABILITY.md section 7.
"""

from __future__ import annotations

import sys
from typing import Final

from tests.proof.arguments import Parser, existing_file, new_file
from tests.proof.report import report_of
from tests.proof.results import RESULTS, ResultsError, load

__all__ = ["REPORT", "main"]

REPORT: Final = RESULTS.with_suffix(".md")


def main(args: list[str] | None = None) -> int:
    """Write or compare.

    Returns:
        0 = done, 1 = not fresh, 2 = the rows cannot be read.
    """
    parser = Parser(prog="python -m tests.proof", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--rows", type=existing_file, default=RESULTS)
    parser.add_argument("--to", type=new_file, default=REPORT)
    options = parser.parse_args(args)
    try:
        page = report_of(load(options.rows))
    except ResultsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
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
