"""What the doctor finds: one case for each finding, in what members tell."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from raftclient import MemberKind
from raftctl import checks_cluster, checks_machines, checks_members
from raftctl.diagnosis import judge, needs_second_look
from raftctl.look import Look
from tests.cli.doctor_cases import CASES, Seen
from tests.cli.statuses import cluster_of, down, member

APART_S = 5.0


def judged(seen: Seen) -> list[Any]:
    before = None
    if seen.before is not None:
        before = Look(cluster_of(*seen.before, leader=seen.leader), (), 100.0)
    now = Look(cluster_of(*seen.now, leader=seen.leader), seen.direct, 100.0 + APART_S)
    return judge(now, before)


@pytest.mark.parametrize("seen", CASES, ids=lambda seen: seen.what)
def test_each_finding(seen: Seen) -> None:
    found = judged(seen)
    assert [(f.severity, f.kind, f.what) for f in found] == list(seen.found)
    for finding in found:
        assert "\n" not in finding.what + finding.means + finding.help
        assert finding.means.endswith(".")
        assert finding.means[0].isupper()
        assert finding.help


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ("one voter", "raftctl member add"),
        ("an unreachable member", "raftctl member replace n3 n3 h3:7401"),
        ("a learner whose machine has not come", "raftctl member remove n4"),
        ("a member that only its peers cannot reach", "raftctl member update n3"),
        ("a log kept for a member that is down", "raftctl member remove n3"),
        ("a change of members that does not end", "raftctl member ls"),
        ("a disk that hung", "raftctl leader transfer"),
        ("no majority", "raftd recover -h"),
    ],
)
def test_help_names_the_command(seen: str, said: str) -> None:
    (case,) = [each for each in CASES if each.what == seen]
    assert any(said in finding.help for finding in judged(case))


@pytest.mark.parametrize(
    ("down_ids", "said"),
    [
        ((5,), "Writes go on; 1 more may stop."),
        ((4, 5), "Writes go on; if one more voter stops, they stop."),
        ((3, 4, 5), "Without it there is no majority that takes writes."),
    ],
)
def test_a_missing_voter_is_weighed(down_ids: tuple[int, ...], said: str) -> None:
    members = [down(n) if n in down_ids else member(n) for n in range(1, 6)]
    found = judge(Look(cluster_of(*members)))
    missing = [each for each in found if each.kind == "unreachable"]
    assert {each.means for each in missing} == {said}


def test_a_full_disk_counts_as_a_voter_that_takes_no_writes() -> None:
    members = (member(1), member(2, is_disk_full=True), down(3))
    (missing,) = [
        each for each in judge(Look(cluster_of(*members))) if each.kind == "unreachable"
    ]
    assert missing.means == "Without it there is no majority that takes writes."
    assert "raftctl member replace n3" in missing.help


def test_no_replacing_is_proposed_without_a_majority_to_agree_to_it() -> None:
    found = judge(Look(cluster_of(member(1), down(2), down(3))))
    help = {each.help for each in found if each.kind == "unreachable"}
    assert help == {f"Start raftd on n{n}, or look at its log." for n in (2, 3)}


def test_members_of_one_name_are_told_apart() -> None:
    replacing = down(4, name="n3", kind=MemberKind.LEARNER)
    members = (member(1), member(2), down(3), replacing)
    old, new = judge(Look(cluster_of(*members)))
    assert old.what == "n3 (id 3) (h3:7401) does not answer n1."
    assert old.help.endswith("raftctl member replace 3 n3 h3:7401")
    assert new.what == "n3 (id 4) is a learner, and does not answer n1."
    assert new.help.endswith("raftctl member remove 4")


def test_every_finding_has_a_case() -> None:
    modules = (checks_cluster, checks_machines, checks_members)
    named = {
        kind
        for module in modules
        for kind in re.findall(r'kind="(\w+)"', inspect.getsource(module))
    }
    assert len(named) > 20
    assert {kind for case in CASES for _, kind, _ in case.found} == named


@pytest.mark.parametrize("seen", CASES, ids=lambda seen: seen.what)
def test_what_two_looks_find_asks_for_a_second_look(seen: Seen) -> None:
    needs = needs_second_look(Look(cluster_of(*(seen.before or seen.now))))
    if seen.before is not None and seen.found:
        assert needs
    if seen.what in {"a healthy cluster", "one voter", "an idle cluster"}:
        assert not needs


def test_one_look_alone_never_says_stuck() -> None:
    for seen in CASES:
        if seen.before is not None:
            found = judge(Look(cluster_of(*seen.now)))
            assert not [each for each in found if "stuck" in each.kind]
