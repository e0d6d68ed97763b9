"""Which member is asked next: own endpoints first, leaders by node id."""

from __future__ import annotations

import pytest

from raftclient import _endpoints
from raftclient._endpoints import Endpoints, Target, parse_endpoints
from raftclient.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a:1,b:2", ("a:1", "b:2")),
        (" a , b:2 ,", ("a:7400", "b:2")),
        ("a:1,a:1", ("a:1",)),
        ("[::1]:7000,[::1]", ("[::1]:7000", "[::1]:7400")),
        ("::1", ("[::1]:7400",)),
    ],
)
def test_endpoints_are_read(text: str, found: tuple[str, ...]) -> None:
    assert parse_endpoints(text) == found


@pytest.mark.parametrize("text", ["", " , ", "a:b", ":7400"])
def test_what_is_no_endpoint_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(InvalidRequest, match="endpoint"):
        parse_endpoints(text)


def test_a_leader_is_found_behind_an_own_endpoint_by_its_id() -> None:
    endpoints = Endpoints(["x:1", "y:1", "z:1"])
    endpoints.learn("x:1", 1, {3: "n3:7400"})
    endpoints.learn("z:1", 3, {})
    endpoints.redirect(3, "n3:7400")
    assert endpoints.pick() == Target("z:1")


def test_an_unknown_own_endpoint_is_tried_before_an_advertised_address() -> None:
    endpoints = Endpoints(["x:1", "y:1"])
    endpoints.learn("x:1", 1, {})
    endpoints.redirect(3, "n3:7400")
    assert endpoints.pick() == Target("y:1")
    endpoints.learn("y:1", 2, {})
    assert endpoints.pick() == Target("n3:7400")


def test_a_leader_that_cannot_be_reached_is_relayed_to() -> None:
    endpoints = Endpoints(["x:1"])
    endpoints.learn("x:1", 1, {})
    endpoints.redirect(3, "n3:7400")
    endpoints.failed("n3:7400")
    assert endpoints.pick() == Target("x:1", is_relay=True)


def test_a_failed_endpoint_comes_last_and_comes_again() -> None:
    endpoints = Endpoints(["x:1", "y:1"])
    assert endpoints.pick() == Target("x:1")
    endpoints.failed("x:1")
    assert endpoints.pick() == Target("y:1")
    endpoints.failed("y:1")
    assert endpoints.pick().address in {"x:1", "y:1"}


def test_learnt_members_are_tried_when_all_own_endpoints_fail() -> None:
    endpoints = Endpoints(["x:1"])
    endpoints.learn("x:1", 1, {1: "n1:7400", 2: "n2:7400"})
    endpoints.failed("x:1")
    endpoints.failed("n1:7400")
    assert endpoints.pick() == Target("n2:7400")


def test_a_leader_that_fails_is_not_insisted_on() -> None:
    endpoints = Endpoints(["x:1", "y:1"])
    endpoints.learn("x:1", 1, {})
    endpoints.learn("y:1", 2, {})
    endpoints.redirect(1, "")
    endpoints.failed("x:1")
    assert endpoints.pick() == Target("y:1")


@pytest.mark.parametrize(
    ("is_silent", "passed_s", "expected"),
    [(True, 0.9, "y:1"), (True, 1.1, "x:1"), (False, 0.0, "x:1")],
    ids=["silent just now", "silent before", "ended the stream"],
)
def test_a_leader_that_fell_silent_is_not_gone_back_to_on_old_word(
    monkeypatch: pytest.MonkeyPatch, *, is_silent: bool, passed_s: float, expected: str
) -> None:
    """The others name it until they find out, and each try would take seconds."""
    now_s = 100.0
    monkeypatch.setattr(_endpoints, "boottime_s", lambda: now_s)
    endpoints = Endpoints(["x:1", "y:1"])
    endpoints.learn("x:1", 1, {})
    endpoints.learn("y:1", 2, {})
    endpoints.redirect(1, "")
    endpoints.failed("x:1", is_silent=is_silent)
    now_s += passed_s
    endpoints.redirect(1, "x:1")
    assert endpoints.pick() == Target(expected)


def test_who_fell_silent_is_tried_again_only_when_nobody_else_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr(_endpoints, "boottime_s", lambda: now_s)
    endpoints = Endpoints(["x:1", "y:1", "z:1"])
    endpoints.failed("x:1", is_silent=True)
    tried = []
    for _ in range(6):
        tried.append(endpoints.pick().address)
        endpoints.failed(tried[-1])
    assert set(tried) == {"y:1", "z:1"}
    now_s += 1.1
    for _ in range(3):
        tried.append(endpoints.pick().address)
        endpoints.failed(tried[-1])
    assert "x:1" in tried
    lone = Endpoints(["x:1"])
    lone.failed("x:1", is_silent=True)
    assert lone.pick() == Target("x:1")


def test_another_is_known_to_be_there_only_after_it_said_so() -> None:
    endpoints = Endpoints(["x:1"])
    assert not endpoints.is_other("x:1", 2)
    endpoints.learn("x:1", 1, {})
    assert endpoints.is_other("x:1", 2)
    assert not endpoints.is_other("x:1", 1)


def test_a_new_leader_is_gone_to_at_once() -> None:
    endpoints = Endpoints(["x:1", "y:1"])
    endpoints.learn("x:1", 1, {})
    endpoints.learn("y:1", 2, {})
    endpoints.redirect(1, "")
    endpoints.failed("x:1", is_silent=True)
    endpoints.redirect(2, "")
    assert endpoints.pick() == Target("y:1")


def test_others_are_asked_in_turn() -> None:
    endpoints = Endpoints(["x:1", "y:1", "z:1"])
    assert {endpoints.another("y:1") for _ in "ab"} == {"x:1", "z:1"}
    assert Endpoints(["x:1"]).another("x:1") is None


def test_unary_calls_go_to_the_leader_while_it_answers() -> None:
    endpoints = Endpoints(["x:1", "y:1"])
    endpoints.learn("y:1", 2, {})
    endpoints.redirect(2, "")
    assert endpoints.preferred() == "y:1"
    endpoints.failed("y:1")
    assert endpoints.preferred() == "x:1"
