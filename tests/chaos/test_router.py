"""The network does what its rules say, to packets and connections of real sockets.

Rules: nothing is asserted about how quick it is, only what arrives and in which order;
what is drawn is drawn from a seed.

Source: RELIABILITY.md section 5 (partitions, loss, delay, duplicate, resets).
"""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.chaos.fault import why_no_world
from tests.chaos.ground import Ground, GroundError
from tests.chaos.leftovers import WORLD, end_world, new_world
from tests.chaos.packets import destination_of, resets_for
from tests.chaos.router import Count
from tests.chaos.rules import CLIENTS, OPEN, Pair, Rule, merged
from tests.chaos.shapes import SHAPES, in_whole_majorities

needs_ground = pytest.mark.skipif(bool(why_no_world()), reason=why_no_world())

_PORT: Final = 7777
_WAIT_S: Final = 20.0
_BRIEF_S: Final = 0.3
_THERE: Final[Pair] = (CLIENTS, 1)
_BACK: Final[Pair] = (1, CLIENTS)
_ECHO: Final = """
import socket, threading
def streams():
    server = socket.create_server(("0.0.0.0", 7777))
    while True:
        threading.Thread(target=echo, args=server.accept()[:1], daemon=True).start()
def echo(stream):
    try:
        while data := stream.recv(4096):
            stream.sendall(data)
    except OSError:
        pass
threading.Thread(target=streams, daemon=True).start()
packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
packets.bind(("0.0.0.0", 7777))
print("ready", flush=True)
while True:
    packets.sendto(*packets.recvfrom(4096))
"""


class _Echo:
    """A node that says again what it is told, by packets and on connections."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._address = (ground.host(1), _PORT)
        self._old: list[socket.socket] = []
        self._packets = self._open()

    def _open(self) -> socket.socket:
        packets = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        packets.connect(self._address)
        return packets

    def forget(self) -> None:
        """Hear nothing more of what was told so far, however late it comes."""
        self._old.append(self._packets)  # open: nobody is told that it is not
        self._packets = self._open()

    def rules(self, to_it: Rule = OPEN, back: Rule = OPEN) -> None:
        self.ground.shape(self, {(CLIENTS, 1): to_it, (1, CLIENTS): back})

    def tell(self, *words: int) -> None:
        for word in words:
            self._packets.send(str(word).encode())

    def hear(self, wait_s: float = _WAIT_S) -> int | None:
        self._packets.settimeout(wait_s)
        with contextlib.suppress(TimeoutError):
            return int(self._packets.recv(4096))
        return None

    def lost_of(self, words: int, pair: Pair = _THERE) -> int:
        """Tell words to it, wait until the router has seen all, and count the lost.

        Those on the way back are what it says again.
        """
        before = self.count(pair)
        self.tell(*range(words))
        while (now := self.count(pair))[0] < before[0] + words:
            continue
        return now[1] - before[1]

    def count(self, pair: Pair) -> tuple[int, int]:
        """Return how many packets the router has seen, and how many it lost."""
        count = self.ground.counts().get(pair, Count())
        return count.carried + count.lost, count.lost

    def connect(self) -> socket.socket:
        return socket.create_connection(self._address, _WAIT_S)

    def close(self) -> None:
        for packets in (*self._old, self._packets):
            packets.close()


@pytest.fixture(scope="module")
def node() -> Iterator[_Echo]:
    world = new_world()
    ground = Ground(world, "seed")
    try:
        ground.add_leg(1)
        command = [*ground.enter(1), sys.executable, "-c", _ECHO]
        process = subprocess.Popen(
            command, env={WORLD: world}, stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            echo = _Echo(ground)
            yield echo
            echo.close()
            ground.close()
            assert process.wait(_WAIT_S) != 0, "it ends with its network"
    finally:
        ground.close()


@pytest.fixture
def echo(node: _Echo) -> Iterator[_Echo]:
    yield node
    node.ground.clear_all()
    node.forget()


@needs_ground
@pytest.mark.e2e
def test_without_rules_everything_arrives_in_order(echo: _Echo) -> None:
    echo.tell(*range(100))
    assert [echo.hear() for _ in range(100)] == [*range(100)]


@needs_ground
@pytest.mark.e2e
def test_one_direction_can_be_cut(echo: _Echo) -> None:
    echo.rules(to_it=Rule(block=True))
    assert echo.lost_of(3) == 3
    echo.rules(back=Rule(block=True))
    assert echo.lost_of(3, _BACK) == 3
    assert echo.hear(_BRIEF_S) is None
    echo.rules()
    echo.tell(7)
    assert echo.hear() == 7


@needs_ground
@pytest.mark.e2e
def test_some_packets_are_lost_and_some_come_twice(echo: _Echo) -> None:
    echo.rules(to_it=Rule(loss=0.5))
    lost = echo.lost_of(200)
    assert 20 < lost < 180
    heard = [echo.hear() or 0 for _ in range(200 - lost)]
    assert heard == sorted(set(heard))
    echo.rules(to_it=Rule(duplicate=1.0))
    echo.tell(7)
    assert [echo.hear(), echo.hear()] == [7, 7]


@needs_ground
@pytest.mark.e2e
def test_jitter_lets_packets_overtake_each_other_and_loses_none(echo: _Echo) -> None:
    echo.rules(to_it=Rule(jitter_ms=100))
    echo.tell(*range(100))
    heard = [echo.hear() for _ in range(100)]
    assert heard != [*range(100)]
    assert sorted(n for n in heard if n is not None) == [*range(100)]


@needs_ground
@pytest.mark.e2e
def test_a_slow_link_holds_packets_up_and_loses_what_does_not_fit(echo: _Echo) -> None:
    echo.rules(to_it=Rule(bytes_per_s=500))
    assert echo.lost_of(100) > 0
    assert [echo.hear() for _ in range(3)] == [0, 1, 2]


@needs_ground
@pytest.mark.e2e
def test_a_reset_ends_a_connection_at_both_ends(echo: _Echo) -> None:
    with echo.connect() as stream:
        stream.sendall(b"before")
        assert stream.recv(100) == b"before"
        echo.rules(to_it=Rule(reset=1.0))
        stream.sendall(b"after")
        with pytest.raises(ConnectionResetError):
            stream.recv(100)
    echo.rules()
    with echo.connect() as stream:
        stream.sendall(b"again")
        assert stream.recv(100) == b"again"


@needs_ground
@pytest.mark.e2e
def test_a_connection_can_end_at_the_other_end_only(echo: _Echo) -> None:
    with echo.connect() as stream:
        told = Rule(reset=1.0, is_reset_told_once=True)
        echo.rules(to_it=told, back=Rule(block=True))
        _, lost = echo.count(_THERE)
        stream.sendall(b"lost")
        while echo.count(_THERE)[1] == lost:
            continue
        stream.settimeout(_BRIEF_S)
        with pytest.raises(TimeoutError):
            stream.recv(100)
        echo.rules()
        stream.settimeout(_WAIT_S)
        with pytest.raises(ConnectionResetError):
            stream.recv(100)


@needs_ground
@pytest.mark.e2e
def test_what_several_want_holds_together_and_is_taken_back_one_by_one(
    echo: _Echo,
) -> None:
    cut = {(CLIENTS, 1): Rule(block=True)}
    echo.ground.shape("one", cut)
    echo.ground.shape("other", cut)
    echo.ground.clear("one")
    assert echo.lost_of(1) == 1
    echo.ground.clear("other")
    echo.ground.clear("other")
    echo.tell(2)
    assert echo.hear() == 2


@needs_ground
@pytest.mark.e2e
def test_an_order_that_cannot_be_carried_out_is_told(echo: _Echo) -> None:
    with pytest.raises(GroundError, match="mount"):
        echo.ground.mount(Path("/no/image"), Path("/no/folder"))
    echo.tell(1)
    assert echo.hear() == 1


def test_rules_together_do_what_each_does() -> None:
    slow = Rule(delay_ms=5, loss=0.5, bytes_per_s=9)
    both = merged([slow, Rule(delay_ms=6, loss=0.5, duplicate=0.1, bytes_per_s=7)])
    assert both.duplicate == pytest.approx(0.1)
    expected = Rule(delay_ms=11, loss=0.75, duplicate=both.duplicate, bytes_per_s=7)
    assert both == expected
    assert merged([]) == OPEN
    assert merged([OPEN, Rule(block=True)]).block


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_cut_something_between_nodes(shape: str, size: int) -> None:
    nodes = [*range(1, size + 1)]
    for seed in range(20):
        cuts = SHAPES[shape](nodes, random.Random(seed))
        assert all(a != b and {a, b} <= {*nodes} for a, b in cuts)
        majority = in_whole_majorities(nodes, cuts)
        assert not majority or len(majority) > size // 2
        for node in majority:
            heard = {n for n in nodes if not {(n, node), (node, n)} & {*cuts}}
            assert len(heard) > size // 2
        if shape in {"partial", "everybody"} or (size > 2 and shape != "bridge"):
            assert cuts
        if shape == "everybody":
            assert not majority
        if shape == "symmetric" and size > 2:
            assert majority
            inside = {(a, b) for a in majority for b in majority}
            assert not inside & {*cuts}
        if shape in {"partial", "bridge"} and size == 3:
            assert majority == nodes


def test_what_is_no_packet_goes_nowhere() -> None:
    assert destination_of(b"") == -1
    assert destination_of(b"\x60" + bytes(60)) == -1


def test_a_reset_is_never_answered_by_one() -> None:
    head = bytes([0x45]) + bytes(8) + b"\x06" + bytes(10)
    reset = head + bytes(12) + bytes([0x50, 0x04]) + bytes(6)
    assert resets_for(reset) == (b"", b"")


def test_nothing_of_no_world_is_ended() -> None:
    assert end_world(new_world()) == 0
