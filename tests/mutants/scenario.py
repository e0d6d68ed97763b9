"""A scenario that a proof has to reach, and what reaches it.

Rules: ``reached_by`` names, each in one of these forms, and ``test_scenarios`` proves
that there is such a thing:

* ``script NAME``: a scenario of ``tests/consensus/scripts``, on real cores;
* ``planted NAME``: a planted bug of this package: its finder runs through it;
* ``fault NAME``: a fault of the simulator's random runs (level A);
* ``draw NAME``: a draw of the simulator without which it would not come about;
* ``tests/...py::NAME``: a test.

Source: RELIABILITY.md section 3.
"""

from __future__ import annotations

import dataclasses

__all__ = ["Scenario"]


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the table.

    Attributes:
        number: In RELIABILITY.md section 3.
        title: What happens.
        breaks: Codes of the promises that are at stake.
        reached_by: See the module.
        note: Why nothing reaches it, if that is so, or what is special here.
    """

    number: int
    title: str
    breaks: str
    reached_by: tuple[str, ...]
    note: str = ""
