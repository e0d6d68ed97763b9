"""The planted bugs are bugs, each has its finder, and a bug that is none is missed.

That each is found, and that its finder says nothing without it, proves ``make mutants``
(``python -m tests.mutants --gate``), which is a part of ``make check``.
"""

from __future__ import annotations

import inspect
import re

import pytest

from raftd.consensus import voting
from tests.mutants.__main__ import main
from tests.mutants.bug import Bug, planted
from tests.mutants.catalogue import BUGS
from tests.mutants.finders import Scripted
from tests.mutants.first_seeds import FIRST_SEEDS
from tests.mutants.seek import GATE_SEEDS, look, seek_first
from tests.mutants.test_scenarios import _CODES

_NEEDED = 40


def test_there_are_enough_and_each_name_once() -> None:
    assert len(BUGS) >= _NEEDED
    assert all(name == bug.name for name, bug in BUGS.items())


@pytest.mark.parametrize("bug", BUGS.values(), ids=lambda bug: bug.name)
def test_each_says_what_it_breaks_and_changes_something(bug: Bug) -> None:
    assert re.fullmatch(r"[a-z0-9'-]+", bug.name)
    assert bug.does, "a sentence"
    assert bug.does[0].islower()
    assert bug.breaks
    assert set(bug.breaks) <= _CODES
    assert bug.repeats
    for owner, attr, value in bug.patches:
        assert getattr(owner, attr) is not value
    with planted(bug):
        assert all(getattr(owner, attr) is value for owner, attr, value in bug.patches)
    for owner, attr, value in bug.patches:
        assert getattr(owner, attr) is not value, "it is taken out again"


@pytest.mark.parametrize("bug", BUGS.values(), ids=lambda bug: bug.name)
def test_each_is_called_as_what_it_takes_the_place_of(bug: Bug) -> None:
    """Else the call itself would be what fails, and any finder would find that."""
    for owner, attr, value in bug.patches:
        theirs = inspect.signature(value).parameters.values()
        ours = inspect.signature(getattr(owner, attr)).parameters.values()
        assert [each.kind for each in theirs] == [each.kind for each in ours]


def test_the_gate_knows_where_to_begin_with_each() -> None:
    random = [bug.name for bug in BUGS.values() if bug.gate_finder.is_random]
    assert sorted(FIRST_SEEDS) == sorted(random)
    assert all(seed >= 1 for seed in FIRST_SEEDS.values())


def _bug(name: str, finder: Scripted) -> Bug:
    return Bug(
        name=name,
        does="nothing",
        breaks=("ES",),
        repeats="nobody",
        patches=((voting, "may_campaign", voting.may_campaign),),
        finder=finder,
    )


def test_a_bug_that_is_none_is_not_found() -> None:
    sought = seek_first(_bug("none", Scripted("rule_07_votes")))
    assert not sought.is_good
    assert (sought.found, sought.seeds) == (0, 1)


def test_what_fails_without_the_bug_too_is_no_finder() -> None:
    class Cry:
        kind = "cries always"
        is_random = True

        def run(self, seed: int) -> None:
            raise AssertionError(f"wolf at {seed}")

    bug = _bug("wolf", Scripted("rule_07_votes"))
    object.__setattr__(bug, "finder", Cry())
    sought = seek_first(bug)
    assert sought.found == 1
    assert not sought.is_good
    assert "wolf" in sought.wrong


def test_a_seed_that_shows_nothing_is_followed_by_others() -> None:
    class Later:
        kind = "cries at the third seed"
        is_random = True

        def run(self, seed: int) -> None:
            assert seed != 3

    bug = _bug("later", Scripted("rule_07_votes"))
    object.__setattr__(bug, "finder", Later())
    assert look(bug, bug.finder, 1) is None
    sought = seek_first(bug)
    assert (sought.seeds, sought.found) == (3, 1)
    assert sought.seeds <= GATE_SEEDS


def test_the_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gate", "--jobs", "1", "--name", "old-term-reply"]) == 0
    told = capsys.readouterr().out
    assert "found  old-term-reply" in told
    assert "1 of 1 found" in told
