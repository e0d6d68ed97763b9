"""Whom a client speaks to through gRPC: members that know no plain streams."""

from __future__ import annotations

import asyncio

import pytest

from raftclient import Unavailable, aio
from raftclient._dialects import ASK_AGAIN_S, Dialects
from raftclient._plain import GREETING
from raftclient._stream import StreamEnded
from raftclient._unary import Backoff
from tests.client.deadlines import Deadlines, fly
from tests.client.fake_server import FakeCluster, FakeNode
from tests.client.fake_state import Act
from tests.client.peer import HELLO, listening, some_turns, stream_to


@pytest.fixture
def older(cluster: FakeCluster) -> FakeNode:
    """Let the member be of an older release."""
    node = cluster.nodes[1]
    node.door.knows_plain = False
    return node


class Clock:
    """Lets time pass for what clients remember of members, and for nothing else."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.passed_s = 0.0
        is_plain, note_other = Dialects.is_plain, Dialects.note_other

        def is_plain_now(dialects: Dialects, address: str, now_s: float) -> bool:
            return is_plain(dialects, address, now_s + self.passed_s)

        def note_other_now(dialects: Dialects, address: str, now_s: float) -> None:
            note_other(dialects, address, now_s + self.passed_s)

        patch.setattr(Dialects, "is_plain", is_plain_now)
        patch.setattr(Dialects, "note_other", note_other_now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def no_waits(patch: pytest.MonkeyPatch) -> None:
    """Fail whoever waits before the next stream."""

    def next_s(backoff: Backoff) -> float:
        raise AssertionError("there is nothing to wait for")

    patch.setattr(Backoff, "next_s", next_s)


async def test_a_member_that_speaks_plain_is_spoken_to_plain(
    cluster: FakeCluster, client: aio.Client
) -> None:
    await client.put("a", "1")
    assert await client.get("a") is not None
    assert cluster.nodes[1].dialects == ["plain"]


async def test_an_older_member_is_spoken_to_through_grpc_at_once(
    older: FakeNode, client: aio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_waits(monkeypatch)
    assert await client.get("a") is None
    await client.put("a", "1")
    assert older.dialects == ["grpc", "grpc"], "one for reads, one with a session"
    assert older.door.greetings == 1


async def test_an_older_member_is_remembered_and_asked_again_after_a_while(
    older: FakeNode, cluster: FakeCluster, client: aio.Client, clock: Clock
) -> None:
    await client.get("a")
    clock.passed_s += ASK_AGAIN_S - 10
    cluster.cut_streams()
    await client.get("a")
    assert older.door.greetings == 1
    clock.passed_s += 11
    cluster.cut_streams()
    await client.get("a")
    assert older.door.greetings == 2
    assert older.dialects == ["grpc"] * 3
    older.door.knows_plain = True
    clock.passed_s += ASK_AGAIN_S + 1
    cluster.cut_streams()
    await client.get("a")
    assert older.dialects == ["grpc"] * 3 + ["plain"]


@pytest.mark.parametrize(
    ("hang_ups", "dialects", "greetings"),
    [
        pytest.param(1, ["plain"], 2, id="once"),
        pytest.param(2, ["grpc", "plain"], 3, id="was only away"),
        pytest.param(3, ["grpc", "grpc"], 3, id="does so though it is there"),
    ],
)
async def test_who_hangs_up_without_a_word_is_asked_through_grpc_whether_it_is_there(
    cluster: FakeCluster,
    client: aio.Client,
    hang_ups: int,
    dialects: list[str],
    greetings: int,
) -> None:
    node = cluster.nodes[1]
    node.door.hang_ups = hang_ups
    assert await client.get("a") is None
    assert node.dialects == dialects
    assert node.door.greetings == greetings


async def test_who_has_greeted_in_between_may_hang_up_again(
    cluster: FakeCluster, client: aio.Client
) -> None:
    node = cluster.nodes[1]
    for _ in range(3):
        node.door.hang_ups = 1
        cluster.cut_streams()
        await client.get("a")
    assert node.dialects == ["plain"] * 3


async def test_each_member_is_spoken_to_in_its_own_way(three: FakeCluster) -> None:
    """As in the middle of an upgrade, one member after the other."""
    three.nodes[1].door.knows_plain = False
    async with aio.connect(three.endpoints) as client:
        for leader in (1, 2, 1):
            three.leader = leader
            three.cut_streams()
            await client.put("a", str(leader))
    assert set(three.nodes[1].dialects) == {"grpc"}
    assert set(three.nodes[2].dialects) == {"plain"}
    assert three.nodes[1].door.greetings == 1
    assert [each.number for each in three.state.applied] == [1, 2, 3]


async def test_who_answers_in_yet_other_words_is_given_up_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as a web server at a wrong port: it is neither."""
    deadlines = Deadlines(monkeypatch)
    async with listening() as peer, aio.connect(peer.address) as client:
        reading = asyncio.create_task(client.get("a"))
        line = await peer.line()
        await line.hello()
        line.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert await line.hear_all() == b""
        deadlines.pass_now()
        with pytest.raises(Unavailable):
            await reading


@pytest.mark.parametrize("greets", [False, True])
async def test_who_keeps_silent_twice_is_spoken_to_otherwise_if_it_never_greeted(
    *, greets: bool
) -> None:
    dialects = Dialects()
    async with listening() as peer:
        for is_first in (True, False):
            stream = stream_to(peer.address, dialects)
            hello = asyncio.create_task(stream.say_hello(HELLO, 30))
            line = await peer.line()
            await line.hello()
            if greets:
                line.write(GREETING)
                await some_turns()
            fly(31)
            with pytest.raises(StreamEnded, match="did not answer"):
                await hello
            assert await line.hear_all() == b""
            now_s = asyncio.get_running_loop().time()
            assert dialects.is_plain(peer.address, now_s) is (greets or is_first)


@pytest.mark.parametrize("greeted", [b"R", b"RAFTD/1"])
async def test_a_piece_of_the_greeting_is_no_other_words(greeted: bytes) -> None:
    async with listening() as peer, aio.connect(peer.address) as client:
        reading = asyncio.create_task(client.get("a", timeout_s=20))
        line = await peer.line()
        await line.hello()
        line.write(greeted)
        line.end()
        again = await peer.line()
        await again.hello()  # plain, as before
        reading.cancel()


@pytest.mark.parametrize(
    ("before", "after", "away_s", "expected"),
    [
        pytest.param(False, True, 0.0, "grpc", id="upgraded, still remembered"),
        pytest.param(False, True, ASK_AGAIN_S + 1, "plain", id="upgraded"),
        pytest.param(True, False, 0.0, "grpc", id="taken back"),
    ],
)
async def test_a_session_outlives_a_change_of_its_member_s_release(
    cluster: FakeCluster,
    client: aio.Client,
    clock: Clock,
    before: bool,
    after: bool,
    away_s: float,
    expected: str,
) -> None:
    cluster.nodes[1].door.knows_plain = before
    assert await client.incr("n") == 1
    cluster.state.behave = lambda request: Act.HOLD
    under_way = [asyncio.create_task(client.incr("n", timeout_s=90)) for _ in "abc"]
    await cluster.until(lambda: len(cluster.held) == 3)
    with cluster.state.changed:
        stream, request = cluster.held[0]
        stream.apply(request, is_silent=True)  # its answer is lost
        cluster.held.clear()
        cluster.state.behave = lambda request: Act.ANSWER
    # The loop stands still: the client tries nothing before all of that has come about.
    cluster.restart(1, knows_plain=after)
    clock.passed_s += away_s
    assert await asyncio.gather(*under_way) == [2, 3, 4]
    assert await client.incr("n") == 5
    assert [each.number for each in cluster.state.applied] == [1, 2, 3, 4, 5]
    assert len(cluster.state.sessions) == 1
    assert cluster.nodes[1].dialects == [expected]


# --- the memory itself ---------------------------------------------------------------


def test_what_is_known_of_one_address_says_nothing_of_another() -> None:
    dialects = Dialects()
    dialects.note_other("a:1", 100.0)
    assert not dialects.is_plain("a:1", 100.0 + ASK_AGAIN_S - 0.1)
    assert dialects.is_plain("a:1", 100.0 + ASK_AGAIN_S)
    assert dialects.is_plain("b:1", 100.0)
    dialects.note_unheard("a:1", 200.0)
    dialects.note_unheard("b:1", 200.0)
    assert dialects.is_plain("a:1", 200.0)
    assert dialects.is_plain("b:1", 200.0)
    dialects.note_unheard("b:1", 201.0)
    assert not dialects.is_plain("b:1", 201.0)


def test_who_does_not_answer_through_grpc_either_was_only_away() -> None:
    dialects = Dialects()
    for _ in range(3):
        for _ in range(2):
            assert dialects.is_plain("a:1", 100.0)
            dialects.note_unheard("a:1", 100.0)
        assert not dialects.is_plain("a:1", 100.0)
        assert not dialects.note_rpc("a:1", 100.0, is_answered=False)
    assert dialects.is_plain("a:1", 100.0)


def test_who_answers_through_grpc_alone_is_left_in_peace_for_a_while() -> None:
    dialects = Dialects()
    for _ in range(2):
        dialects.note_unheard("a:1", 100.0)
    assert dialects.note_rpc("a:1", 100.0, is_answered=True)
    assert dialects.is_plain("a:1", 100.0)
    dialects.note_unheard("a:1", 101.0)
    assert not dialects.is_plain("a:1", 101.0)
    assert not dialects.note_rpc("a:1", 102.0, is_answered=True)
    assert not dialects.is_plain("a:1", 100.0 + ASK_AGAIN_S)
    assert dialects.is_plain("a:1", 101.0 + ASK_AGAIN_S)
