"""Negative controls: corrupt a legal history in one named way.

Source: RELIABILITY.md section 4 (corrupt one answer in a good history: it must become
illegal).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.checkers import corrupt_claims, corrupt_jobs, corrupt_keys, corrupt_watches
from tests.checkers.corruption import CORRUPTIONS, Unable

if TYPE_CHECKING:
    import random

    from tests.checkers.history import History

__all__ = ["CORRUPTIONS", "MODULES", "Unable", "corrupt"]

MODULES = (corrupt_keys, corrupt_claims, corrupt_jobs, corrupt_watches)
"""Where the corruptions are; importing them fills `CORRUPTIONS`."""


def corrupt(history: History, how: str, rng: random.Random) -> History:
    """Return a copy that is wrong in one way.

    Args:
        history: Legal; it is left as it is.
        how: A name of `CORRUPTIONS`.
        rng: Chooses what is changed.

    Raises:
        Unable: There is nothing that could be changed so.
    """
    copy = msgspec.structs.replace(
        history,
        ops=list(history.ops),
        seen=list(history.seen),
        observed=list(history.observed),
        guarded=list(history.guarded),
        beliefs=list(history.beliefs),
        entries=list(history.entries),
        finals=list(history.finals),
    )
    CORRUPTIONS[how].change(copy, rng)
    return copy
