"""The settings of a node that joins a cluster, and of one that moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftd.server.config import Address, ConfigError, load_settings

_LISTED = {
    "RAFTD_NODE_ID": "2",
    "RAFTD_MEMBERS": "1=n1@a:7401/a:7400,2=n2@b:7401/b:7400",
    "RAFTD_DATA_DIR": "/var/lib/raftd",
}


def test_who_is_to_join_needs_no_members_and_says_where_it_is() -> None:
    environ = {"RAFTD_NODE_ID": "4", "RAFTD_DATA_DIR": "/var/lib/raftd"}
    flags = {"join": "a:7401, [::1]:7401,a:7401", "peer_listen": "10.0.0.4:7401"}
    settings = load_settings(environ=environ, flags=flags)
    assert settings.join == (Address("a", 7401), Address("::1", 7401))
    assert settings.members == ()
    assert settings.listed is None
    assert settings.advertised_peer == Address("10.0.0.4", 7401)
    hidden = load_settings(
        environ=environ,
        flags=flags | {"peer_listen": "0.0.0.0:7401", "advertise_client": "h:7400"},
    )
    assert hidden.advertised_peer is None
    assert hidden.advertised_client == Address("h", 7400)
    listed = load_settings(environ=_LISTED, flags={"advertise_peer": "x:9"})
    assert listed.advertised_peer == Address("x", 9)


@pytest.mark.parametrize("text", ['"a:7401,b:7401"', '["a:7401", "b:7401"]'])
def test_the_addresses_to_join_may_be_a_list_in_the_file(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "raftd.toml"
    file.write_text(f'node_id = 4\ndata_dir = "d"\njoin = {text}\n')
    settings = load_settings(file, environ={})
    assert settings.join == (Address("a", 7401), Address("b", 7401))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a", "'a' is not host:port"),
        ("a:7401,,b:1", "'' is not host:port"),
        ("a:0", "0 is out of range"),
        (",".join(f"h{n}:1" for n in range(10)), "there are 10"),
    ],
)
def test_wrong_addresses_to_join_say_which(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ=_LISTED, flags={"join": text})
    assert str(caught.value) == (
        "--join: join must be 1 to 9 addresses, each host:port, apart by commas, but"
        f" {reason}."
    )
