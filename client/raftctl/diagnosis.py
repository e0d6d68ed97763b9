"""The doctor's judgement: from what members tell to what is wrong. Pure.

Rules: nothing is asked here and no clock is read. What must move to be well is judged
by two looks some seconds apart; ``needs_second_look`` says whether there is anything of
the kind, so that a healthy cluster is judged by one.

Source: CLI.md (raftctl doctor).
"""

from __future__ import annotations

from typing import Final

from raftclient import MemberKind
from raftctl import checks_cluster, checks_machines, checks_members
from raftctl.look import Case, Check, Finding, Look, Severity

__all__ = ["CHECKS", "judge", "needs_second_look"]

CHECKS: Final[tuple[Check, ...]] = (
    *checks_cluster.CHECKS,
    *checks_members.CHECKS,
    *checks_machines.CHECKS,
)

_ORDER: Final = {severity: rank for rank, severity in enumerate(Severity)}


def judge(now: Look, before: Look | None = None) -> list[Finding]:
    """Find all that is wrong or risky.

    Args:
        now: The last look.
        before: An earlier one, for what should have moved since.

    Returns:
        Worst first; empty = nothing was found.
    """
    case = Case(now, before)
    found = [finding for check in CHECKS for finding in check(case)]
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def needs_second_look(look: Look) -> bool:
    """Tell whether something is under way whose progress must be seen."""
    case = Case(look)
    newest = max((each.checkpoint_index for each in case.told), default=0)
    return any(
        each.kind is MemberKind.LEARNER
        or each.lag > checks_members.LAG_ENTRIES
        or each.config_pending
        or each.snapshot_percent is not None
        or each.checkpoint_index < newest
        for each in case.reachable
    ) or (case.leader is None and bool(case.reachable))
