"""What the digests of a mark say, in every order they may be told."""

from __future__ import annotations

from itertools import permutations

import pytest

from raftd.node.digests import Digests, Verdict


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({1: b"a", 2: b"a", 3: b"a"}, Verdict.AGREED),
        ({1: b"a", 2: b"a", 3: b"b"}, Verdict.AGREED),
        ({1: b"b", 2: b"a", 3: b"a"}, Verdict.DIVERGED),
        ({1: b"a", 2: b"b", 3: b"c"}, Verdict.SPLIT),
        ({1: b"a", 2: b"b"}, Verdict.OPEN),
        ({2: b"a", 3: b"a"}, Verdict.OPEN),
        ({1: b"a"}, Verdict.OPEN),
    ],
)
def test_three_members(told: dict[int, bytes], expected: Verdict) -> None:
    for order in permutations(told):
        digests = Digests(1, (1, 2, 3))
        verdicts = [digests.note(member, 10, told[member]) for member in order]
        assert verdicts[-1] is expected
        assert digests.compared_index == (10 if Verdict.AGREED in verdicts else 0)


def test_two_members_that_differ_have_no_majority() -> None:
    digests = Digests(1, range(1, 2 + 1))
    digests.note(1, 10, b"a")
    assert digests.note(2, 10, b"b") is Verdict.SPLIT


def test_old_marks_are_forgotten_and_never_lower_what_was_compared() -> None:
    digests = Digests(1, (1, 2, 3))
    for index in range(10, 20):
        digests.note(1, index, b"a")
    assert digests.note(2, 19, b"a") is Verdict.AGREED
    assert digests.note(2, 15, b"a") is Verdict.AGREED
    assert digests.compared_index == 19
    assert digests.note(2, 10, b"a") is Verdict.OPEN


def test_a_learner_is_judged_and_does_not_count() -> None:
    digests = Digests(4, (1, 2, 3))
    assert digests.note(4, 10, b"b") is Verdict.OPEN
    assert digests.note(1, 10, b"a") is Verdict.OPEN
    assert digests.note(2, 10, b"a") is Verdict.DIVERGED
    voter = Digests(1, (1, 2, 3))
    voter.note(1, 10, b"a")
    assert voter.note(4, 10, b"a") is Verdict.OPEN, "a learner makes no majority"


def test_the_majority_is_that_of_the_voters_there_are() -> None:
    digests = Digests(1, (1, 2, 3))
    digests.note_voters((1, 2, 3, 4, 5))
    digests.note(1, 10, b"a")
    assert digests.note(2, 10, b"a") is Verdict.OPEN
    assert digests.note(5, 10, b"a") is Verdict.AGREED


def test_a_member_that_tells_of_marks_to_come_pushes_out_only_its_own() -> None:
    digests = Digests(1, (1, 2, 3))
    digests.note(1, 10, b"a")
    for index in range(1000, 1020):
        assert digests.note(3, index, b"b") is Verdict.OPEN
    assert digests.note(2, 10, b"a") is Verdict.AGREED
    assert digests.compared_index == 10


def test_what_was_told_by_who_is_no_voter_any_more_is_forgotten() -> None:
    digests = Digests(1, (1, 2, 3))
    digests.note(2, 10, b"a")
    digests.note_voters((1, 3))
    digests.note_voters((1, 2, 3))
    assert digests.note(1, 10, b"a") is Verdict.OPEN
    assert digests.note(3, 10, b"a") is Verdict.AGREED
