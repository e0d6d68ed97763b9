"""Members and leadership on the command line, against a scripted member."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from raftctl.exit_codes import ExitCode
from raftd.server.config import load_settings
from raftpb.v1 import cluster_pb2
from tests.cli.conftest import Ctl
from tests.cli.fake_cluster import FakeMember, refusal
from tests.cli.statuses import cluster_of, learner, member

NEW = cluster_pb2.Member(
    node_id=4,
    name="n4",
    peer_address="h4:7401",
    kind=cluster_pb2.MEMBER_KIND_LEARNER,
    is_joining=True,
)
FLAGS = ["--node-id", "4", "--join", "h1:7401,h2:7401", "--cluster", "shop"]
LINE = (
    "raftd serve --node-id 4 --join h1:7401,h2:7401 --cluster shop --peer-listen"
    " h4:7401 --client-listen h4:7400 --data-dir raftd-4"
)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeMember]:
    with FakeMember() as fake:
        fake.looks = [cluster_of(member(1), member(2), member(3))]
        monkeypatch.setenv("RAFTCTL_ENDPOINTS", fake.address)
        yield fake


def test_ls_shows_kinds_addresses_and_what_is_under_way(
    offline: Ctl, fake: FakeMember
) -> None:
    joining = cluster_pb2.Member()
    joining.CopyFrom(NEW)
    joining.replaces = 1
    fake.answers["ListMembers"] = cluster_pb2.ListMembersResponse(
        members=[
            cluster_pb2.Member(
                node_id=1,
                name="n1",
                peer_address="h1:7401",
                client_address="h1:7400",
                kind=cluster_pb2.MEMBER_KIND_VOTER,
            ),
            joining,
        ]
    )
    head, first, second = offline("member", "ls").text.splitlines()
    assert head.split()[:3] == ["NAME", "ID", "KIND"]
    assert first.split() == ["n1", "1", "voter", "h1:7401", "h1:7400", "-"]
    assert second.split()[:5] == ["n4", "4", "learner", "h4:7401", "-"]
    assert second.endswith("joining, replaces n1")
    found = offline("member", "ls", "-o", "json").json
    assert found[1] == {
        "node_id": 4,
        "name": "n4",
        "peer_address": "h4:7401",
        "client_address": "",
        "kind": "learner",
        "is_joining": True,
        "replaces": 1,
    }
    assert offline("member", "ls", "-o", "value").text == "n1\nn4\n"


def test_add_prints_the_line_that_starts_the_new_machine(
    offline: Ctl, fake: FakeMember
) -> None:
    fake.answers["AddMember"] = cluster_pb2.AddMemberResponse(
        member=NEW, serve_flags=FLAGS
    )
    ran = offline("member", "add", "n4", "h4:7401", "--id", "4", "--force")
    assert ran.code == ExitCode.OK
    assert ran.err.startswith("warning: it was not checked that a majority")
    said, line = ran.text.splitlines()
    assert said.startswith("n4 (id 4) is a learner and becomes a voter by itself")
    assert line == LINE
    assert fake.asked == [
        cluster_pb2.AddMemberRequest(
            name="n4", peer_address="h4:7401", node_id=4, force=True
        )
    ]
    found = offline("member", "add", "n4", "h4:7401", "-o", "json").json
    assert found["command"] == LINE.split()
    assert (found["node_id"], found["kind"]) == (4, "learner")
    assert offline("member", "add", "n4", "h4:7401", "-o", "value").text == "4\n"


def test_the_printed_line_is_one_that_raftd_understands() -> None:
    words = LINE.split()[2:]
    flags = {
        name.removeprefix("--").replace("-", "_"): value
        for name, value in zip(words[::2], words[1::2], strict=True)
    }
    settings = load_settings(environ={}, flags=dict(flags))
    assert settings.node_id == 4
    assert [str(each) for each in settings.join] == ["h1:7401", "h2:7401"]
    assert str(settings.advertised_peer) == "h4:7401"
    assert str(settings.advertised_client) == "h4:7400"
    assert settings.cluster == "shop"


def test_replace_says_whose_place_it_takes(offline: Ctl, fake: FakeMember) -> None:
    fake.answers["ReplaceMember"] = cluster_pb2.ReplaceMemberResponse(
        member=NEW, serve_flags=FLAGS
    )
    ran = offline("member", "replace", "n2", "n4", "h4:7401", "--client", "h4:7500")
    said, line = ran.text.splitlines()
    assert "takes the place of n2 once it has caught up" in said
    assert line == LINE
    assert fake.asked == [
        cluster_pb2.ReplaceMemberRequest(
            old="n2", name="n4", peer_address="h4:7401", client_address="h4:7500"
        )
    ]


def test_wait_ends_when_the_new_member_is_a_voter(
    offline: Ctl, fake: FakeMember
) -> None:
    fake.answers["AddMember"] = cluster_pb2.AddMemberResponse(
        member=NEW, serve_flags=FLAGS
    )
    three = (member(1), member(2), member(3))
    fake.looks = [cluster_of(*three, learner(4)), cluster_of(*three, member(4))]
    ran = offline("member", "add", "n4", "h4:7401", "--wait", "20s")
    assert ran.code == ExitCode.OK
    assert "n4 (id 4) is a voter" in ran.err
    assert len(fake.looks) == 1


def test_wait_that_is_over_is_an_error_though_the_member_is_added(
    offline: Ctl, fake: FakeMember
) -> None:
    fake.answers["AddMember"] = cluster_pb2.AddMemberResponse(
        member=NEW, serve_flags=FLAGS
    )
    fake.looks = [cluster_of(member(1), learner(4))]
    ran = offline("member", "add", "n4", "h4:7401", "--wait", "100ms")
    assert ran.code == ExitCode.ERROR
    assert LINE in ran.text
    assert ran.err == (
        "error: n4 (id 4) is added, but no voter after 100ms; look at raftctl doctor.\n"
    )


def test_remove_and_update(offline: Ctl, fake: FakeMember) -> None:
    fake.answers["RemoveMember"] = cluster_pb2.RemoveMemberResponse(member=NEW)
    fake.answers["UpdateMember"] = cluster_pb2.UpdateMemberResponse(member=NEW)
    ran = offline("member", "remove", "4", "--force")
    assert ran.text.startswith("n4 (id 4) is removed; stop its raftd")
    assert ran.err.startswith("warning: it was not checked that a majority")
    assert offline("member", "remove", "4").err == ""
    ran = offline("member", "update", "n4", "--peer", "h4:7501", "--name", "n9")
    assert ran.text.startswith("n4 (id 4) is at h4:7401")
    assert fake.asked == [
        cluster_pb2.RemoveMemberRequest(member="4", force=True),
        cluster_pb2.RemoveMemberRequest(member="4"),
        cluster_pb2.UpdateMemberRequest(member="n4", name="n9", peer_address="h4:7501"),
    ]


def test_transfer_says_who_leads_and_how_long_writes_paused(
    offline: Ctl, fake: FakeMember
) -> None:
    fake.answers["TransferLeadership"] = cluster_pb2.TransferLeadershipResponse(
        leader=4, paused_ms=43
    )
    fake.answers["ListMembers"] = cluster_pb2.ListMembersResponse(members=[NEW])
    ran = offline("leader", "transfer")
    assert ran.text == "n4 leads; writes paused for 43ms at most\n"
    found = offline("leader", "transfer", "n4", "-o", "json").json
    assert found == {"leader": "n4", "node_id": 4, "paused_ms": 43}
    hand_overs = [
        each.to
        for each in fake.asked
        if isinstance(each, cluster_pb2.TransferLeadershipRequest)
    ]
    assert hand_overs == ["", "n4"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["member"], "usage"),
        (["member", "add"], "missing argument 'NAME'"),
        (["member", "add", "n4"], "missing argument 'PEER_ADDR'"),
        (["member", "add", "n4", "h:1", "--id", "0"], "0 is not in the range"),
        (["member", "add", "n4", "h:1", "--wait", "x"], '"x" is no duration'),
        (["member", "remove"], "missing argument 'MEMBER'"),
        (["member", "replace", "n1", "n2"], "missing argument 'PEER_ADDR'"),
        (["member", "update", "n1"], "say what to change: --name, --peer or --client"),
        (["member", "ls", "x"], "unexpected extra argument"),
        (["leader", "transfer", "a", "b"], "unexpected extra argument"),
        (["backup", "save"], "missing argument 'FILE'"),
        (["doctor", "x"], "unexpected extra argument"),
        (["doctor", "--apart", "1ms"], "1ms is too short"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    offline: Ctl, line: list[str], said: str
) -> None:
    ran = offline(*line)
    assert ran.code == ExitCode.USAGE
    assert said in (ran.err + ran.text).lower() or said in ran.err
    if line != ["member"]:
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("reason", "message", "code"),
    [
        ("INVALID_REQUEST", "the peer address 'h' is not host:port", 2),
        ("NOT_FOUND", "there is no member 'n9'; the members are n1 (id 1)", 3),
        ("PRECONDITION", "another change of the members is under way", 4),
    ],
)
@pytest.mark.parametrize(
    ("line", "method"),
    [
        (["member", "add", "n9", "h:1"], "AddMember"),
        (["member", "remove", "n9"], "RemoveMember"),
        (["member", "replace", "n9", "n8", "h:1"], "ReplaceMember"),
        (["member", "update", "n9", "--peer", "h:1"], "UpdateMember"),
        (["leader", "transfer", "n9"], "TransferLeadership"),
    ],
)
def test_a_refusal_is_one_sentence_with_its_code(
    offline: Ctl,
    fake: FakeMember,
    line: list[str],
    method: str,
    reason: str,
    message: str,
    code: int,
) -> None:
    fake.answers[method] = refusal(reason, message)
    ran = offline(*line)
    assert ran.code == code
    assert ran.err.startswith(f"error: {message}")
    assert ran.err.count("\n") == 1
    assert ran.out == b""


@pytest.mark.parametrize(
    "line",
    [
        ["member", "ls"],
        ["member", "add", "n4", "h4:7401"],
        ["leader", "transfer"],
        ["backup", "save", "/nowhere/b"],
        ["doctor"],
    ],
)
def test_no_cluster_is_code_six(offline: Ctl, line: list[str]) -> None:
    ran = offline("--endpoints", "127.0.0.1:1", "--timeout", "200ms", *line)
    assert ran.code == ExitCode.UNAVAILABLE
    assert "check raftctl status and --endpoints (127.0.0.1:1)" in ran.err


@pytest.mark.parametrize(
    "line",
    [
        *([noun] for noun in ("member", "leader", "backup", "doctor")),
        *(["member", verb] for verb in ("ls", "add", "remove", "replace", "update")),
        ["leader", "transfer"],
        ["backup", "save"],
        ["backup", "info"],
    ],
)
def test_every_level_has_help(offline: Ctl, line: list[str]) -> None:
    ran = offline(*line, "-h")
    assert ran.code == ExitCode.OK
    assert ran.text.startswith(f"Usage: raftctl {line[0]}")
    assert "--endpoints" in ran.text
