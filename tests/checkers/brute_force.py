"""A judge that tries every order: slow, and too simple to be wrong.

The oracle for `wgl` in tests; it shares nothing with it but the models.
"""

from __future__ import annotations

from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.checkers.wgl import Call, Model

__all__ = ["is_linearizable"]


def is_linearizable(model: Model, calls: Sequence[Call]) -> bool:
    """Tell whether any order of any of the open calls fits."""
    closed = [call for call in calls if call.end_us is not None]
    still_open = [call for call in calls if call.end_us is None]
    for count in range(len(still_open) + 1):
        for some in combinations(still_open, count):
            for order in permutations([*closed, *some]):
                if _keeps_time(order) and _fits(model, order):
                    return True
    return False


def _keeps_time(order: Sequence[Call]) -> bool:
    """Tell whether nobody stands before one who had ended when it began."""
    for place, call in enumerate(order):
        for later in order[place + 1 :]:
            if later.end_us is not None and later.end_us < call.begin_us:
                return False
    return True


def _fits(model: Model, order: Sequence[Call]) -> bool:
    state: Any = model.initial
    for call in order:
        state = model.step(state, call.what)
        if state is None:
            return False
    return True
