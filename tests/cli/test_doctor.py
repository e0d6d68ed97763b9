"""The doctor as a command: what it asks, what it prints, how it ends."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from raftclient import ClusterStatus
from raftctl.exit_codes import ExitCode
from tests.cli.conftest import Ctl
from tests.cli.fake_cluster import FakeMember
from tests.cli.statuses import cluster_of, down, learner, member


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMember]:
    with FakeMember() as fake:
        monkeypatch.setenv("RAFTCTL_ENDPOINTS", fake.address)
        yield fake


def test_a_healthy_cluster_is_code_zero_after_one_look(
    offline: Ctl, fake: FakeMember
) -> None:
    healthy = cluster_of(member(1), member(2), member(3))
    fake.looks = [healthy, cluster_of(member(1))]
    ran = offline("doctor")
    assert ran.code == ExitCode.OK
    assert ran.text == "nothing found: 3 voters, n1 leads, 1 may stop without harm\n"
    assert len(fake.looks) == 1, "one look was enough"
    fake.looks = [healthy]
    assert offline("doctor", "-o", "json").json == []


def test_findings_are_printed_worst_first_and_end_with_one(
    offline: Ctl, fake: FakeMember
) -> None:
    fake.looks = [
        cluster_of(
            member(1), member(2, sync_p50_us=30_000), member(3, is_disk_full=True)
        )
    ]
    ran = offline("doctor")
    assert ran.code == ExitCode.ERROR
    lines = ran.text.splitlines()
    assert lines[0] == "critical: The disk of n3 is full."
    assert lines[1].startswith("  It takes no more entries")
    assert lines[2].startswith("  Make room")
    assert lines[3].startswith("warning: The disk of n2 is slow")
    assert ran.err == ""


def test_json_findings_have_stable_fields(offline: Ctl, fake: FakeMember) -> None:
    fake.looks = [cluster_of(member(1), member(2))]
    ran = offline("doctor", "-o", "json")
    assert ran.code == ExitCode.ERROR
    (found,) = ran.json
    assert set(found) == {"severity", "kind", "members", "what", "means", "help"}
    assert (found["severity"], found["kind"]) == ("warning", "two_voters")
    assert found["members"] == ["n1", "n2"]
    ran = offline("doctor", "-o", "value")
    assert (ran.code, ran.text) == (ExitCode.ERROR, "two_voters\n")


def test_what_is_under_way_is_looked_at_twice(offline: Ctl, fake: FakeMember) -> None:
    three = (member(1), member(2), member(3))
    fake.looks = [
        cluster_of(*three, learner(4, lag=60_000)),
        cluster_of(*three, learner(4, lag=60_500)),
    ]
    ran = offline("doctor", "--apart", "100ms")
    assert ran.code == ExitCode.ERROR
    assert "n4 is a learner, 60500 entries behind, and came no nearer" in ran.text
    assert "something is under way; looking again in 0.1 s" in ran.err
    fake.looks = [
        cluster_of(*three, learner(4, lag=60_000)),
        cluster_of(*three, learner(4, lag=20_000)),
    ]
    assert offline("doctor", "--apart", "100ms").code == ExitCode.OK


def test_a_member_that_others_cannot_reach_is_asked_itself(
    offline: Ctl, fake: FakeMember
) -> None:
    with FakeMember() as third:
        own = member(3, limits={"key_bytes_max": 2048}, leader=0)
        third.looks = [cluster_of(own, down(1), leader=0)]
        lost = down(3, client_address=third.address)
        fake.looks = [cluster_of(member(1), member(2), lost)]
        ran = offline("doctor", "-o", "value")
    assert ran.text == "limits_differ\nunlinked\n"


@pytest.mark.parametrize(
    "other",
    [
        cluster_of(member(2, is_disk_full=True), down(3)),
        msgspec.structs.replace(cluster_of(member(3)), cluster_id="d" * 32),
    ],
    ids=["another member", "another cluster"],
)
def test_who_else_answers_there_is_not_taken_for_it(
    offline: Ctl, fake: FakeMember, other: ClusterStatus
) -> None:
    with FakeMember() as third:
        third.looks = [other]
        lost = down(3, client_address=third.address)
        fake.looks = [cluster_of(member(1), member(2), lost)]
        assert offline("doctor", "-o", "value").text == "unreachable\n"
