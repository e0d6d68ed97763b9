"""The settings of a node: where they come from, and what each kind of typo says.

Every bad input gives one sentence that names the place, the setting and the range;
the tests compare whole sentences, since the sentence is the feature.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from raftd.server.config import (
    Address,
    ConfigError,
    Limits,
    Member,
    Settings,
    load_settings,
    options,
)
from raftd.statemachine.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMBERS_TEXT = "1=n1@a:7401/a:7400,2=n2@b:7401/b:7400,3=n3@[::1]:7401/c:7400"
ENVIRON = {
    "RAFTD_NODE_ID": "2",
    "RAFTD_MEMBERS": MEMBERS_TEXT,
    "RAFTD_DATA_DIR": "/var/lib/raftd",
}
FILE = """\
node_id = 1
data_dir = "data"
heartbeat_ms = 50

[limits]
key_bytes_max = 2048

[[members]]
id = 1
name = "n1"
peer = "127.0.0.1:7401"
client = "127.0.0.1:7400"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "raftd.toml"
    path.write_text(text, encoding="utf-8")
    return path


def sentence(
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, str | None] | None = None,
    file: Path | None = None,
) -> str:
    """Return what is said about settings that must be refused."""
    with pytest.raises(ConfigError) as caught:
        load_settings(
            file, environ=ENVIRON if environ is None else environ, flags=flags
        )
    return str(caught.value)


def test_defaults_are_those_of_the_documentation() -> None:
    settings = load_settings(environ=ENVIRON)
    assert settings == Settings(
        node_id=2,
        members=(
            Member(id=1, name="n1", peer=Address("a", 7401), client=Address("a", 7400)),
            Member(id=2, name="n2", peer=Address("b", 7401), client=Address("b", 7400)),
            Member(
                id=3, name="n3", peer=Address("::1", 7401), client=Address("c", 7400)
            ),
        ),
        data_dir=Path("/var/lib/raftd"),
        cluster="raftd",
        client_listen=Address("127.0.0.1", 7400),
        peer_listen=Address("127.0.0.1", 7401),
        http_listen=Address("127.0.0.1", 7402),
        advertise_client=None,
        advertise_peer=None,
        join=(),
        heartbeat_ms=100,
        election_ms=1000,
        checkpoint_log_bytes=64 * 1024 * 1024,
        checkpoint_interval_ms=60_000,
        log_level="info",
        limits=Limits(
            name_bytes_max=256,
            key_bytes_max=1024,
            value_bytes_max=1024 * 1024,
            request_bytes_max=4 * 1024 * 1024,
            txn_ops_max=128,
            lease_attachments_max=10_000,
            range_delete_keys_max=10_000,
            promotions_max=1000,
            state_bytes_max=2 * 1024 * 1024 * 1024,
        ),
    )


def test_file_variables_and_flags_weigh_in_this_order(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    from_file = load_settings(path, environ={})
    assert from_file.heartbeat_ms == 50
    assert from_file.limits.key_bytes_max == 2048

    environ = {"RAFTD_HEARTBEAT_MS": "60", "RAFTD_LIMITS_KEY_BYTES_MAX": "4096"}
    from_variables = load_settings(path, environ=environ)
    assert from_variables.heartbeat_ms == 60
    assert from_variables.limits.key_bytes_max == 4096
    assert from_variables.limits.name_bytes_max == 256

    flags = {"heartbeat_ms": "70", "limits.key_bytes_max": "512", "cluster": None}
    from_flags = load_settings(path, environ=environ, flags=flags)
    assert from_flags.heartbeat_ms == 70
    assert from_flags.limits.key_bytes_max == 512
    assert from_flags.cluster == "raftd"


def test_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    path = written(tmp_path, FILE)
    assert load_settings(environ={"RAFTD_CONFIG": str(path)}).heartbeat_ms == 50


def test_members_read_alike_from_tables_and_from_one_line(tmp_path: Path) -> None:
    from_table = load_settings(written(tmp_path, FILE), environ={})
    environ = {
        "RAFTD_NODE_ID": "1",
        "RAFTD_DATA_DIR": "data",
        "RAFTD_MEMBERS": "1=n1@127.0.0.1:7401/127.0.0.1:7400",
    }
    assert load_settings(environ=environ).members == from_table.members


def test_member_is_this_node_and_may_advertise_another_address() -> None:
    settings = load_settings(environ=ENVIRON)
    assert settings.listed == settings.members[1]
    assert settings.advertised_client == Address("b", 7400)
    moved = load_settings(environ=ENVIRON, flags={"advertise_client": "x:9"})
    assert moved.advertised_client == Address("x", 9)


def test_configured_limits_reach_the_state_machine() -> None:
    limits = load_settings(environ=ENVIRON, flags={"limits.txn_ops_max": "7"}).limits
    assert limits.of_apply() == dataclasses.replace(DEFAULT_LIMITS, txn_ops_max=7)


def test_listening_on_ports_of_the_systems_choice() -> None:
    listen = "127.0.0.1:0"
    flags = {"client_listen": listen, "peer_listen": listen, "http_listen": listen}
    assert load_settings(environ=ENVIRON, flags=flags).peer_listen.port == 0


def test_every_setting_has_one_name_in_three_spellings() -> None:
    by_name = {option.name: option for option in options()}
    assert by_name["limits.key_bytes_max"].variable == "RAFTD_LIMITS_KEY_BYTES_MAX"
    assert by_name["limits.key_bytes_max"].flag == "--limits-key-bytes-max"
    assert by_name["heartbeat_ms"].default == "100"
    assert by_name["node_id"].default is None
    assert len({option.variable for option in options()}) == len(options())


def test_foreign_variables_and_empty_ones_are_left_alone() -> None:
    environ = ENVIRON | {
        "PATH": "/bin",
        "RAFTD_HEARTBEAT_MS": "",
        "RAFTD_SERVICE_HOST": "10.0.0.1",
        "RAFTD_PEER_SERVICE_PORT": "7401",
        "RAFTD_PORT": "tcp://10.0.0.1:7400",
        "RAFTD_PORT_7400_TCP_ADDR": "10.0.0.1",
    }
    assert load_settings(environ=environ) == load_settings(environ=ENVIRON)


def test_config_typo_names_the_nearest_known_key(tmp_path: Path) -> None:
    path = written(tmp_path, "hartbeat_ms = 50\n" + FILE)
    assert sentence({}, file=path) == (
        f"{path}: unknown key 'hartbeat_ms' (did you mean 'heartbeat_ms'?)."
    )
    path = written(tmp_path, FILE.replace("key_bytes_max", "keys_bytes_max"))
    assert sentence({}, file=path) == (
        f"{path}: unknown key 'limits.keys_bytes_max'"
        " (did you mean 'limits.key_bytes_max'?)."
    )
    assert sentence(ENVIRON | {"RAFTD_HEARTBEATS_MS": "1"}) == (
        "unknown variable 'RAFTD_HEARTBEATS_MS' (did you mean 'RAFTD_HEARTBEAT_MS'?)."
    )
    assert sentence(flags={"zzz": "1"}) == "unknown flag 'zzz'."


@pytest.mark.parametrize("name", ["node_id", "members", "data_dir"])
def test_what_has_no_default_must_be_given(name: str) -> None:
    variable = f"RAFTD_{name.upper()}"
    environ = {key: value for key, value in ENVIRON.items() if key != variable}
    assert sentence(environ) == (
        f"{name} is not set: give it in the file, as {variable} or as"
        f" --{name.replace('_', '-')}."
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "heartbeat_ms",
            "fast",
            "a whole number from 10 to 10000, but 'fast' is not a whole number.",
        ),
        (
            "heartbeat_ms",
            "9",
            "a whole number from 10 to 10000, but 9 is out of range.",
        ),
        (
            "node_id",
            "65537",
            "a whole number from 1 to 65536, but 65537 is out of range.",
        ),
        (
            "client_listen",
            "7400",
            "host:port with a port from 0 to 65535, but '7400' is not host:port.",
        ),
        (
            "peer_listen",
            "a:65536",
            "host:port with a port from 0 to 65535, but 65536 is out of range.",
        ),
        (
            "advertise_client",
            "a:0",
            "host:port with a port from 1 to 65535, but 0 is out of range.",
        ),
        (
            "http_listen",
            "a b:1",
            "host:port with a port from 0 to 65535, but 'a b:1' is not host:port.",
        ),
        (
            "cluster",
            "x" * 65,
            "a name of 1 to 64 bytes without control characters,"
            f" but '{'x' * 65}' has 65 bytes.",
        ),
        (
            "cluster",
            "a\nb",
            "a name of 1 to 64 bytes without control characters,"
            " but 'a\\nb' has control characters or outer blanks.",
        ),
        (
            "log_level",
            "loud",
            "one of debug, info, warning, error, but 'loud' is none of them.",
        ),
        ("data_dir", "a\0b", "the path of a folder, but 'a\\x00b' is not a path."),
        (
            "limits.txn_ops_max",
            "0",
            "a whole number from 1 to 4096, but 0 is out of range.",
        ),
    ],
)
def test_wrong_text_names_setting_value_and_range(
    name: str, text: str, said: str
) -> None:
    flag = "--" + name.replace(".", "-").replace("_", "-")
    assert sentence(flags={name: text}) == f"{flag}: {name} must be {said}"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            'heartbeat_ms = "100"',
            "heartbeat_ms must be a whole number from 10 to 10000,"
            " but '100' is not a whole number.",
        ),
        (
            "heartbeat_ms = true",
            "heartbeat_ms must be a whole number from 10 to 10000,"
            " but True is not a whole number.",
        ),
        (
            "client_listen = 7400",
            "client_listen must be host:port with a port from 0 to 65535,"
            " but 7400 is not host:port.",
        ),
        (
            "cluster = 7",
            "cluster must be a name of 1 to 64 bytes without control characters,"
            " but 7 is not a text.",
        ),
        ("data_dir = 7", "data_dir must be the path of a folder, but 7 is not a path."),
        ("limits = 5", "limits must be a table, written [limits]."),
    ],
)
def test_wrong_type_in_the_file_names_key_value_and_range(
    tmp_path: Path, line: str, said: str
) -> None:
    path = written(tmp_path, line + "\n")
    assert sentence({}, file=path) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1=n1@a:1", "'1=n1@a:1' has another form"),
        ("0=n1@a:1/a:2", "0 is out of range"),
        ("x=n1@a:1/a:2", "'x' is not a whole number"),
        ("1=n1@a:0/a:2", "0 is out of range"),
        ("1=n1@a:1/b:1,1=n2@c:1/d:1", "id 1 is used twice"),
        ("1=n1@a:1/b:1,2=n1@c:1/d:1", "name n1 is used twice"),
        ("1=n1@a:1/b:1,2=n2@a:1/d:1", "peer a:1 is used twice"),
        ("1=n1@a:1/b:1,2=n2@c:1/b:1", "client b:1 is used twice"),
        (",".join(f"{i}=n{i}@p:{i}/c:{i}" for i in range(1, 11)), "there are 10"),
    ],
)
def test_wrong_members_line_says_which_part(text: str, reason: str) -> None:
    said = sentence(flags={"members": text})
    assert said.startswith("--members: members must be 1 to 9 members, each ")
    assert said.endswith(f", but {reason}.")


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ("members = 3", "3 is not a list of tables"),
        ("members = [3]", "3 is not a table"),
        ("members = []", "there are 0"),
        (
            '[[members]]\nid = 1\nnaem = "n1"',
            "a member has no 'naem' (did you mean 'name'?)",
        ),
        (
            '[[members]]\nid = 1\nname = "n"\npeer = "a:1"',
            "client is missing from {'id': 1, 'name': 'n', 'peer': 'a:1'}",
        ),
    ],
)
def test_wrong_members_table_says_which_part(
    tmp_path: Path, members: str, reason: str
) -> None:
    said = sentence({}, file=written(tmp_path, members))
    assert said.endswith(f", but {reason}.")


def test_node_must_be_a_member() -> None:
    assert sentence(flags={"node_id": "4"}) == (
        "node_id 4 is not among the members [1, 2, 3]."
    )


def test_election_needs_ten_heartbeats() -> None:
    flags = {"election_ms": "999"}
    assert sentence(flags=flags) == (
        "election_ms (999) must be at least 10 times heartbeat_ms (100)."
    )


def test_a_value_must_fit_into_a_request() -> None:
    flags = {"limits.value_bytes_max": "2000", "limits.request_bytes_max": "1024"}
    assert sentence(flags=flags) == (
        "limits.value_bytes_max (2000) must not be more than"
        " limits.request_bytes_max (1024)."
    )


def test_the_three_listening_addresses_differ() -> None:
    assert sentence(flags={"http_listen": "127.0.0.1:7400"}) == (
        "client_listen, peer_listen and http_listen must differ, but are"
        " 127.0.0.1:7400, 127.0.0.1:7401, 127.0.0.1:7400."
    )


def test_a_file_that_is_missing_or_not_toml_is_one_sentence(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    assert sentence({}, file=missing) == (
        f"{missing}: cannot be read: No such file or directory."
    )
    broken = written(tmp_path, "node_id = = 1")
    assert sentence({}, file=broken).startswith(f"{broken}: is not valid TOML: ")
    foreign = tmp_path / "image.toml"
    foreign.write_bytes(b"\xff\xfe\x00")
    assert sentence({}, file=foreign).startswith(f"{foreign}: is not valid TOML: ")


def test_a_very_long_wrong_value_is_cut_in_the_message() -> None:
    assert len(sentence(flags={"log_level": "x" * 100_000})) < 250


def test_ipv6_addresses_keep_their_brackets() -> None:
    assert str(load_settings(environ=ENVIRON).members[2].peer) == "[::1]:7401"
