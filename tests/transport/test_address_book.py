"""Addresses: several for one id, in the order of trust, and for everyone who counts."""

from __future__ import annotations

import msgspec
import pytest

from raftd.consensus.types import NodeId
from raftd.node.roster import MemberRecord, Roster, first_roster
from raftd.transport.address_book import AddressBook, split_address
from raftd.transport.frames import Hello


def _hello(node_id: int, peer_address: str) -> Hello:
    return Hello(
        version=2,
        cluster_name="c",
        cluster_id=b"C" * 16,
        node_id=node_id,
        incarnation=b"i" * 16,
        peers={},
        peer_address=peer_address,
    )


def _roster(*ids: int) -> Roster:
    return first_roster(
        ids, [MemberRecord(NodeId(n), f"n{n}", f"log{n}:7401", "") for n in ids]
    )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("h:7401", ("h", 7401)),
        ("[::1]:7401", ("::1", 7401)),
        ("a.b-c:65535", ("a.b-c", 65535)),
        ("h", None),
        ("h:", None),
        (":7401", None),
        ("h:0", None),
        ("h:65536", None),
        ("h:x", None),
        ("", None),
    ],
)
def test_addresses_are_split_or_are_none(
    text: str, address: tuple[str, int] | None
) -> None:
    assert split_address(text) == address


def test_what_was_told_comes_before_the_configuration_and_that_before_the_log() -> None:
    book = AddressBook(1, {1: "conf1:1", 2: "conf2:1"})
    assert book.peers() == {2: (("conf2", 1),)}
    book.roster = _roster(1, 2, 3)
    assert book.peers() == {2: (("conf2", 1), ("log2", 7401)), 3: (("log3", 7401),)}
    assert book.note(_hello(2, "told2:1"))
    assert book.peers()[NodeId(2)] == (("told2", 1), ("conf2", 1), ("log2", 7401))
    assert not book.note(_hello(2, "told2:1")), "that is no news"
    assert book.note(_hello(2, "log2:7401"))
    assert book.peers()[NodeId(2)] == (("log2", 7401), ("conf2", 1))


def test_a_stranger_is_dialled_back_and_a_removed_member_no_more() -> None:
    book = AddressBook(1, {3: "conf3:1"})
    book.roster = _roster(1, 2, 3)
    assert book.note(_hello(9, "stranger:1"))
    assert sorted(book.peers()) == [2, 3, 9]
    removed = msgspec.structs.replace(_roster(1, 2), removed=(3, 9))
    book.roster = removed
    assert sorted(book.peers()) == [2]


def test_who_says_no_address_is_looked_for_where_it_was() -> None:
    book = AddressBook(1, {2: "conf2:1"})
    assert not book.note(_hello(2, ""))
    assert not book.note(_hello(2, "nonsense"))
    assert book.peers() == {2: (("conf2", 1),)}


def test_strangers_are_remembered_up_to_a_bound() -> None:
    book = AddressBook(1, {})
    told = [book.note(_hello(100 + n, f"s{n}:1")) for n in range(100)]
    assert told.count(True) == 18
    book.roster = _roster(1, 2)
    assert book.note(_hello(2, "told2:1")), "members always"
