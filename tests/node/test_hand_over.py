"""Who is to lead next."""

from __future__ import annotations

from typing import Any

import pytest

from raftd.consensus.types import Membership, NodeId
from raftd.node.hand_over import best_voter


class _Core:
    """A leader, two followers of which the last is further, and a learner."""

    node_id = NodeId(1)
    membership = Membership((NodeId(1), NodeId(2), NodeId(3)), learners=(NodeId(4),))

    def match_indexes(self) -> dict[int, int]:
        return {1: 9, 2: 5, 3: 7, 4: 9}


@pytest.mark.parametrize(
    ("in_touch", "best"),
    [({1, 2, 3, 4}, 3), ({1, 2, 4}, 2), ({1, 4}, None), (set(), None)],
)
def test_of_the_voters_in_touch_the_furthest_is_best(
    in_touch: set[int], best: int | None
) -> None:
    core: Any = _Core()
    assert best_voter(core, lambda peer: peer in in_touch) == best
