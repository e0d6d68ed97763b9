"""How long and how random: the gate repeats itself, a soak never does.

Rules: in the gate every draw follows from the test's own source (``derandomize``), so
that it never fails by chance. With ``RAFTD_FUZZ=soak`` in the environment the draws
are random and more, and what fails prints how to repeat it. Nothing is stored between
runs. Every example is counted under its test's name, for the published results.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

__all__ = [
    "COUNTS",
    "COUNTS_VARIABLE",
    "IS_SOAK",
    "PROFILE_VARIABLE",
    "SHRINK_VARIABLE",
    "FuzzMachine",
    "case_of",
    "examples_of",
    "fuzzed",
    "profile",
]

PROFILE_VARIABLE: Final = "RAFTD_FUZZ"
COUNTS_VARIABLE: Final = "RAFTD_FUZZ_COUNTS"
"""A file to write to how many examples each test had, and which tests failed."""

IS_SOAK: Final = os.environ.get(PROFILE_VARIABLE) == "soak"
SHRINK_VARIABLE: Final = "RAFTD_FUZZ_SHRINK"
"""Set to 0, a failure is told as it was found, at once."""

_PHASES: Final = [Phase.explicit, Phase.generate] + (
    [] if os.environ.get(SHRINK_VARIABLE) == "0" else [Phase.shrink]
)
COUNTS: Final[Counter[str]] = Counter()
_SOAK_FACTOR: Final = 3
_Test = TypeVar("_Test", bound=Callable[..., None])


def examples_of(examples: int) -> int:
    """Return how many examples a test runs now that runs so many in the gate."""
    return examples * _SOAK_FACTOR if IS_SOAK else examples


def profile(examples: int, steps: int = 50) -> settings:
    """Return the settings of a test that runs so many examples in the gate."""
    return settings(
        max_examples=examples_of(examples),
        stateful_step_count=steps,
        derandomize=not IS_SOAK,
        database=None,
        deadline=None,
        print_blob=True,
        phases=_PHASES,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.filter_too_much,
            HealthCheck.function_scoped_fixture,
        ],
    )


def fuzzed(
    examples: int, *drawn: st.SearchStrategy[Any], **named: st.SearchStrategy[Any]
) -> Callable[[_Test], _Test]:
    """Give a test drawn values, so many times in the gate, and count them."""

    def wrap(test: _Test) -> _Test:
        @functools.wraps(test)
        def counted(*args: Any, **values: Any) -> None:
            COUNTS[f"{test.__module__.rpartition('.')[2]}.{test.__name__}"] += 1
            test(*args, **values)

        made: Any = profile(examples)(given(*drawn, **named)(counted))
        wrapped: _Test = made
        return wrapped

    return wrap


class FuzzMachine(RuleBasedStateMachine):
    """A machine of rules whose runs are counted."""

    def __init__(self) -> None:
        super().__init__()
        COUNTS[f"{type(self).__module__.rpartition('.')[2]}.{type(self).__name__}"] += 1


def case_of(machine: type[FuzzMachine], examples: int, steps: int) -> Any:
    """Return the test case of a machine of rules."""
    case = machine.TestCase
    case.settings = profile(examples, steps)
    return case
