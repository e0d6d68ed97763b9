"""Names rotate before a search cannot cope with them; resources refuse old tokens."""

from __future__ import annotations

import itertools
import random
from collections import Counter

from tests.checkers.recorder import Recorder
from tests.checkers.records import Meta
from tests.workload.setting import Guard, Names


def test_a_name_has_at_most_300_operations() -> None:
    names = Names(random.Random(1), "k/", 3)
    used: Counter[str] = Counter()
    for _ in range(5000):
        name = names.pick()
        used[name] += 1
        names.count(name, is_unknown=False)
    assert max(used.values()) <= 300
    assert len(used) > 5000 / 300


def test_a_name_has_at_most_10_unknown_outcomes() -> None:
    names = Names(random.Random(2), "k/", 3)
    unknown: Counter[str] = Counter()
    for _ in range(500):
        name = names.pick()
        unknown[name] += 1
        names.count(name, is_unknown=True)
    assert max(unknown.values()) <= 10


def test_whoever_asked_is_told_of_each_new_name() -> None:
    told: list[str] = []
    names = Names(random.Random(3), "e/", 2, told.append)
    used = {names.pick() for _ in range(2000)}
    assert used <= set(told)


def test_a_resource_refuses_a_token_below_the_highest() -> None:
    clock = itertools.count()
    recorder = Recorder(lambda: next(clock), Meta(made_by="test"))
    guard = Guard(recorder, "a")
    assert guard.write("l/1", "a", 5)
    assert guard.write("l/1", "a", 5), "the holder writes more than once"
    assert guard.write("l/2", "b", 3), "another resource has tokens of its own"
    assert not guard.write("l/1", "b", 4)
    assert guard.refused == 1
    assert [each.accepted for each in recorder.history().guarded] == [
        True,
        True,
        True,
        False,
    ]
