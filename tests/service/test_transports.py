"""Simulated plain connections behave as those of a kernel and asyncio do."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, cast

import pytest

from tests.service.hosts import Host
from tests.service.listeners import connect, listen
from tests.service.loop import ServiceLoop
from tests.service.transports import PlainTransport
from tests.service.wires import NetOptions, WireNet
from tests.sim.world import World

_DATA: Final = bytes(range(256)) * 20
_QUIET: Final = NetOptions(
    latency_us=1000, loss=0, breaks=0, silent=0, cuts=0.5, window_bytes=512
)


class _Side(asyncio.Protocol):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.pieces: Final[list[bytes]] = []
        self.told: Final[list[str]] = []
        self.transport: Any = None
        self.error: Exception | None = None

    @property
    def data(self) -> bytes:
        """All that came."""
        return b"".join(self.pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)

    def pause_writing(self) -> None:
        self.told.append("full")

    def resume_writing(self) -> None:
        self.told.append("room")

    def eof_received(self) -> None:
        self.told.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append("lost")
        self.error = exc


class _Two:
    """Two hosts; the second listens."""

    def __init__(self, options: NetOptions, seed: int = 1) -> None:
        self.world: Final = World(seed)
        self.net: Final = WireNet(self.world, options)
        self.hosts: Final = [
            Host(self.world, name, 0, is_shuffled=True) for name in ("a", "b")
        ]
        self.net.addresses["b:1"] = self.hosts[1]
        self.far: Final[list[_Side]] = []
        self.error: BaseException | None = None
        self.near = _Side()
        for host in self.hosts:
            host.boot(0, "")

    def loop(self, place: int) -> ServiceLoop:
        """Return the loop of one."""
        return self.hosts[place].loops[0]

    def on(self, place: int, act: Callable[[], object]) -> None:
        """Do something on a loop."""
        self.world.after(0, "test", lambda: self.loop(place).take(act))

    def run(self) -> None:
        """Run until nothing is left to happen."""
        while self._is_anything_left():
            self.world.step()

    def _is_anything_left(self) -> bool:
        try:
            return self.world.next_us >= 0
        except IndexError:
            return False

    def listen(self) -> None:
        """Have the second listen."""

        def make() -> _Side:
            self.far.append(_Side())
            return self.far[-1]

        listen(self.net, self.loop(1), make, "b", 1)

    def dial(self) -> None:
        """Have the first connect."""

        async def run() -> None:
            try:
                _, self.near = cast(
                    "tuple[PlainTransport, _Side]",
                    await connect(self.net, self.loop(0), _Side, "b", 1),
                )
            except OSError as error:
                self.error = error

        self.on(0, lambda: self.start(0, run()))

    def start(self, place: int, work: Coroutine[Any, Any, None]) -> None:
        """Begin a task on a loop."""
        self.loop(place).create_task(work)


_Make = Callable[..., _Two]


@pytest.fixture
def make() -> Iterator[_Make]:
    pairs: list[_Two] = []

    def make_one(seed: int = 1, **options: Any) -> _Two:
        pair = _Two(dataclasses.replace(_QUIET, **options), seed)
        pairs.append(pair)
        pair.listen()
        return pair

    yield make_one
    for pair in pairs:
        for host in pair.hosts:
            host.kill()


@pytest.fixture
def two(make: _Make) -> _Two:
    return make()


@pytest.fixture
def joined(two: _Two) -> _Two:
    two.dial()
    two.run()
    return two


def test_bytes_come_in_order_and_in_other_pieces(joined: _Two) -> None:
    written = [_DATA[start : start + 100] for start in range(0, len(_DATA), 100)]

    def write() -> None:
        for piece in written:
            joined.near.transport.write(piece)

    joined.on(0, write)
    joined.run()
    (far,) = joined.far
    assert far.data == _DATA
    assert far.pieces != written
    assert any(len(piece) > 100 for piece in far.pieces), "some are joined"
    assert any(len(piece) < 100 for piece in far.pieces), "some are cut"


@pytest.mark.parametrize("seed", range(1, 6))
def test_the_end_comes_behind_all_that_was_written(make: _Make, seed: int) -> None:
    pair = make(seed)
    pair.dial()
    pair.run()

    def write() -> None:
        pair.near.transport.write(_DATA)
        pair.near.transport.close()

    pair.on(0, write)
    pair.run()
    (far,) = pair.far
    assert far.data == _DATA
    assert far.told == ["made", "eof", "lost"]
    assert pair.near.told == ["made", "lost"]
    assert far.error is None
    assert pair.net.wires() == []


def test_half_an_end_leaves_the_other_direction(joined: _Two) -> None:
    (far,) = joined.far
    joined.on(1, lambda: (far.transport.write(_DATA), far.transport.write_eof()))
    joined.on(0, lambda: joined.near.transport.write(b"late"))
    joined.run()
    assert joined.near.data == _DATA
    assert joined.near.told == ["made", "eof", "lost"]
    assert far.data == b"late"
    assert far.told[-1] == "lost"


def test_who_writes_more_than_is_read_is_told_and_told_when_there_is_room(
    make: _Make,
) -> None:
    pair = make(high_water_bytes=1024)
    pair.dial()
    pair.run()
    (far,) = pair.far
    pair.on(1, far.transport.pause_reading)
    pair.run()
    pair.on(0, lambda: pair.near.transport.write(_DATA))
    pair.run()
    assert pair.near.told == ["made", "full"]
    assert far.data == b""
    pair.on(1, far.transport.resume_reading)
    pair.run()
    assert pair.near.told == ["made", "full", "room"]
    assert far.data == _DATA


def test_a_broken_connection_is_an_error_at_both_ends(joined: _Two) -> None:
    (wire,) = joined.net.wires()
    wire.break_off()
    joined.run()
    for side in (joined.near, *joined.far):
        assert side.told == ["made", "lost"]
        assert isinstance(side.error, ConnectionResetError)


def test_a_process_that_ends_ends_its_connections(joined: _Two) -> None:
    joined.hosts[1].kill()
    joined.run()
    assert joined.near.told == ["made", "lost"]
    joined.dial()
    joined.run()
    assert isinstance(joined.error, ConnectionRefusedError)


def test_a_process_that_stands_still_has_its_kernel_take_in(two: _Two) -> None:
    two.hosts[1].pause()
    two.dial()
    two.run()
    assert two.near.told == ["made"]
    two.on(0, lambda: two.near.transport.write(b"hello"))
    two.run()
    assert two.far == []
    two.hosts[1].resume()
    two.run()
    assert two.far[0].data == b"hello"


def test_a_way_that_is_cut_is_tried_again(two: _Two) -> None:
    two.net.block("a", "b")
    two.dial()
    two.world.after(2_500_000, "mend", two.net.mend)
    two.run()
    assert two.error is None
    assert two.near.told == ["made"]
    assert two.world.now_us > 2_500_000


def test_a_way_that_stays_cut_is_given_up(two: _Two) -> None:
    two.net.block("b", "a")
    two.net.block("a", "b")
    two.dial()
    two.run()
    assert isinstance(two.error, TimeoutError)


def test_who_gives_a_connection_up_leaves_none_behind(two: _Two) -> None:
    async def run() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.0001):
                await connect(two.net, two.loop(0), _Side, "b", 1)

    two.on(0, lambda: two.start(0, run()))
    two.run()
    assert two.net.wires() == []
    assert [side.told[-1] for side in two.far] in ([], ["lost"])


@pytest.mark.parametrize("seed", range(1, 9))
def test_an_old_member_answers_in_other_words_or_hangs_up(
    make: _Make, seed: int
) -> None:
    pair = make(seed, old=1)
    pair.dial()
    pair.run()
    pair.on(0, lambda: pair.near.transport.write(b"RAFTD/1\n"))
    pair.run()
    assert pair.far == []
    assert pair.near.data[:1] in {b"", b"\x00"}
    assert pair.near.told[-1] == "lost"
