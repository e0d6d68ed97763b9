"""Every checker calls legal histories legal, and corrupted copies illegal."""

from __future__ import annotations

import functools
import random
import re
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.checkers import corrupt as corrupting
from tests.checkers.corrupt import CORRUPTIONS, corrupt
from tests.checkers.history import History
from tests.checkers.judge import CHECKERS, judge
from tests.checkers.synthetic import synthesize

if TYPE_CHECKING:
    from tests.checkers.verdict import Verdict

SEEDS = (1, 2)


@functools.cache
def history_of(seed: int) -> History:
    return synthesize(seed, seconds=8.0)


def outcomes(verdicts: list[Verdict]) -> dict[str, str]:
    return {each.checker: each.outcome for each in verdicts}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_legal_history_is_legal_to_all_checkers_and_gives_all_work(seed: int) -> None:
    verdicts = judge(history_of(seed))
    assert [each.sentence for each in verdicts if each.outcome != "legal"] == []
    assert [each.checker for each in verdicts] == list(CHECKERS)
    assert all(each.count > 50 for each in verdicts)


@pytest.mark.parametrize("losses", [0.0, 0.2])
def test_lost_requests_and_answers_make_nothing_illegal(losses: float) -> None:
    history = synthesize(5, seconds=4.0, losses=losses)
    unknown = sum(op.outcome == "unknown" for op in history.ops)
    assert (unknown > 100) == (losses > 0)
    illegal = [each for each in judge(history) if each.outcome == "illegal"]
    assert illegal == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("how", sorted(CORRUPTIONS))
def test_a_corrupted_copy_is_illegal_to_its_checker(how: str, seed: int) -> None:
    before = [*history_of(seed).records()]
    copy = corrupt(history_of(seed), how, random.Random(f"{seed}/{how}"))
    verdict = CHECKERS[CORRUPTIONS[how].checker](copy)
    assert verdict.outcome == "illegal", CORRUPTIONS[how].what
    assert re.fullmatch(r"[^.\n].*[^.\s]", verdict.sentence)
    known = {op.id for op in copy.ops}
    assert known.issuperset(verdict.pair)
    assert [*history_of(seed).records()] == before, "the history itself was changed"


@pytest.mark.parametrize(
    "how", ["lost-key", "held-in-the-end", "led-in-the-end", "lost-job"]
)
def test_the_end_is_compared_also_if_others_write_on(how: str) -> None:
    copy = corrupt(history_of(1), how, random.Random(how))
    last = copy.entries[-1]
    later = {"index": last.index + 1, "revision": last.revision + 1}
    copy.entries.append(msgspec.structs.replace(last, **later, events=[], requests=[]))
    assert CHECKERS[CORRUPTIONS[how].checker](copy).outcome == "illegal"


def test_every_checker_has_its_corruptions() -> None:
    assert {each.checker for each in CORRUPTIONS.values()} == set(CHECKERS)
    assert len(corrupting.MODULES) == 4


def test_equal_seeds_give_equal_histories() -> None:
    one, other = synthesize(9, seconds=1.0), synthesize(9, seconds=1.0)
    assert list(one.records()) == list(other.records())
    assert list(one.records()) != list(synthesize(8, seconds=1.0).records())


def test_without_evidence_nobody_says_legal_of_what_needs_it() -> None:
    history = history_of(1)
    bare = History(meta=history.meta, ops=history.ops, seen=history.seen)
    said = outcomes(judge(bare))
    for checker in ("evidence", "witness", "jobs", "watches"):
        assert said[checker] == "unknown"


def test_a_log_that_was_read_too_early_is_undecided() -> None:
    history = history_of(1)
    ops = [op for op in history.ops if op.name == "get"]
    short = History(meta=history.meta, ops=ops, entries=history.entries[:-100])
    assert outcomes(judge(short))["evidence"] == "unknown"
