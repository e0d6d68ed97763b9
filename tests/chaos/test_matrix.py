"""The order of faults: a seed decides it, each has its turn, in a fitting world."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from tests.chaos.faults import FAULTS
from tests.chaos.loads import PauseClient
from tests.chaos.matrix import Pace, Round, rounds_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.chaos.fault import Fault

_ALL: Final[Mapping[str, type[Fault]]] = {**FAULTS, PauseClient.name: PauseClient}
_PACE: Final = Pace(fault_s=3.0, round_s=30.0)


def _rounds(seed: int, count: int) -> list[Round]:
    return list(itertools.islice(rounds_of(seed, _ALL, (3, 5), _PACE), count))


def test_a_seed_decides_everything() -> None:
    assert _rounds(1, 20) == _rounds(1, 20)
    assert _rounds(1, 20) != _rounds(2, 20)


def test_every_fault_has_its_turn_and_rows_take_turns() -> None:
    rounds = _rounds(3, 60)
    order = [name for each in rounds for cut in each.slices for name in cut.names]
    assert set(order) == set(_ALL)
    first = {order.index(name) for name in _ALL}
    assert max(first) < 2 * len(_ALL), "nothing comes again before all had a turn"
    rows = {kind.row for kind in _ALL.values()}
    early = {_ALL[name].row for name in order[: 2 * len(rows)]}
    assert len(early) > 2 * len(rows) / 3, "one of each row comes before the second"


def test_a_round_is_a_world_in_which_all_its_faults_can_happen() -> None:
    for each in _rounds(4, 80):
        names = [name for cut in each.slices for name in cut.names]
        assert names, "a round without a fault would be waited for in vain"
        for name in names:
            assert _ALL[name].wants <= each.wants
        for cut in each.slices:
            if len(cut.names) > 1:
                assert all(_ALL[name].may_be_combined for name in cut.names)
        once = [name for name in names if _ALL[name].is_once]
        assert len(once) == len(set(once))


def test_faults_are_combined_once_each_had_its_turn_alone() -> None:
    assert any(len(cut.names) > 1 for each in _rounds(5, 60) for cut in each.slices)
