"""The 63 scenarios that happened to somebody, and what of ours reaches each.

Source: RELIABILITY.md section 3; see ``scenario`` for the names.
"""

from __future__ import annotations

from typing import Final

from tests.mutants.scenario import Scenario
from tests.mutants.scenarios_log import LOG_SCENARIOS
from tests.mutants.scenarios_service import SERVICE_SCENARIOS

__all__ = ["SCENARIOS", "Scenario"]

SCENARIOS: Final[tuple[Scenario, ...]] = LOG_SCENARIOS + SERVICE_SCENARIOS
