"""The status of a cluster: one table that fits, and everything in JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from raftclient import MemberStatus
from raftctl.exit_codes import ExitCode
from tests.cli.conftest import Ctl, Ran
from tests.cli.fake_cluster import FakeMember
from tests.cli.statuses import GIB, cluster_of, down, learner, member

WIDTH_MAX = 100


@pytest.fixture
def fake() -> Iterator[FakeMember]:
    with FakeMember() as fake:
        yield fake


def show(offline: Ctl, fake: FakeMember, *members: MemberStatus, **told: int) -> Ran:
    fake.looks = [cluster_of(*members, **told)]
    return offline("--endpoints", fake.address, "status")


def test_the_table_shows_lag_sizes_sync_times_disk_and_health(
    offline: Ctl, fake: FakeMember
) -> None:
    ran = show(offline, fake, member(1), member(2), member(3, lag=17))
    head, *lines = ran.text.splitlines()
    assert head.split() == [
        *("NAME", "ID", "ROLE", "ADDRESS", "LAG", "LOG", "STATE", "SYNC", "DISK"),
        *("UPTIME", "HEALTH"),
    ]
    assert lines[2].split() == [
        *("n3", "3", "follower", "h3:7400", "17", "80M", "300M", "0.8/12ms", "40%"),
        *("1h", "ok"),
    ]
    assert "cluster shop: term 4, commit 100000, revision 99000" in ran.err


def test_a_snapshot_shows_its_progress_where_it_goes(
    offline: Ctl, fake: FakeMember
) -> None:
    ran = show(
        offline,
        fake,
        member(1, snapshot_percent=42, snapshot_to=4),
        member(2),
        learner(4, lag=99_000),
    )
    assert ran.text.splitlines()[3].endswith("snapshot 42%")
    assert ran.text.splitlines()[1].endswith("ok")
    assert "learner" in ran.text.splitlines()[3]


def test_trouble_is_a_word_in_the_table_and_a_sentence_below(
    offline: Ctl, fake: FakeMember
) -> None:
    said = "the disk is full: this member takes no entries until there is room"
    ran = show(offline, fake, member(1), down(2), member(3, trouble=said))
    assert ran.text.splitlines()[2].split()[-1] == "unreachable"
    assert ran.text.splitlines()[3].split()[-1] == "trouble"
    assert f"n3: {said}" in ran.err


def test_no_leader_is_said(offline: Ctl, fake: FakeMember) -> None:
    ran = show(offline, fake, member(1), down(2), down(3), leader=0)
    assert ran.code == ExitCode.OK
    assert "no leader: writes wait until a majority of the members is back" in ran.err


@pytest.mark.parametrize(
    "address", ["h:7400", "192.168.100.100:17400", "raftd-1.raftd.prod.example:7400"]
)
def test_the_table_fits_a_hundred_columns(
    offline: Ctl, fake: FakeMember, address: str
) -> None:
    big = {
        "name": "raftd-1",
        "client_address": address,
        "log_bytes": 1023 * GIB,
        "state_bytes": 512 * GIB,
        "sync_p50_us": 18_400,
        "sync_max_us": 4_800_000,
        "lag": 1_234_567,
        "uptime_ms": 200 * 86_400_000 + 13 * 3_600_000,
        "disk_free_bytes": 0,
    }
    ran = show(offline, fake, member(1, **big), down(2, client_address=address))
    assert max(map(len, ran.text.splitlines())) <= WIDTH_MAX
    assert {"LAG", "SYNC", "HEALTH"} <= set(ran.text.splitlines()[0].split())


def test_json_has_all_that_members_tell(offline: Ctl, fake: FakeMember) -> None:
    fake.looks = [cluster_of(member(1), member(2, trouble="slow"), down(3))]
    found = offline("--endpoints", fake.address, "status", "-o", "json").json
    assert found["cluster"] == "shop"
    assert (found["leader"], found["answered_by"], found["term"]) == ("n1", 1, 4)
    first, second, third = found["members"]
    assert set(first) == {*MemberStatus.__struct_fields__, "health"} - {"leader"}
    assert (first["kind"], first["role"], first["health"]) == ("voter", "leader", "ok")
    assert second["health"] == "slow"
    assert (third["health"], third["wall_ms"]) == ("unreachable", None)


def test_a_member_of_the_first_release_shows_what_it_tells(
    offline: Ctl, fake: FakeMember
) -> None:
    unknown = dict.fromkeys(
        ("disk_free_bytes", "disk_total_bytes", "wall_ms", "loop_lag_max_us")
    )
    old = member(1, **unknown, level=1, limits={}, cluster_name="", log_entries=0)
    ran = show(offline, fake, old)
    assert ran.text.splitlines()[1].split() == [
        *("n1", "1", "leader", "h1:7400", "0", "80M", "300M", "0.8/12ms", "-"),
        *("1h", "ok"),
    ]
    assert f"cluster {'c' * 32}: term 4" in ran.err


def test_the_help_names_every_field_of_the_json(offline: Ctl) -> None:
    text = offline("status", "-h").text
    documented = set(re.findall(r"\w+", text))
    assert {*MemberStatus.__struct_fields__, "health"} - {"leader"} <= documented
