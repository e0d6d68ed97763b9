"""Whom a session takes for dead: a member that owes something and keeps silent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from raftclient import _session, aio
from raftclient._endpoints import Endpoints
from raftclient._hello import Hello
from raftclient._pump import Pump
from raftpb.v1.sessions_pb2 import StreamHello
from tests.client.fake_server import BOTH, FakeCluster
from tests.client.fake_state import Act


def looks(patch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return what is set after the next look for silence."""
    has_looked = asyncio.Event()
    look = Pump.look_for_silence

    def looked(pump: Pump, now_s: float, late_s: float) -> bool:
        is_doubtful = look(pump, now_s, late_s)
        has_looked.set()
        return is_doubtful

    patch.setattr(Pump, "look_for_silence", looked)
    return has_looked


@pytest.mark.usefixtures("_impatient")
async def test_a_member_that_falls_silent_is_given_up(three: FakeCluster) -> None:
    async with aio.connect(three.endpoints) as client:
        await client.put("a", "1")
        three.nodes[1].is_mute = True
        three.leader = 2
        await client.put("b", "1", timeout_s=30)
    assert three.hellos[-1][0] == 2
    assert [each.number for each in three.state.applied] == [1, 2]


async def test_who_falls_silent_is_left_as_soon_as_another_knows_a_new_leader(
    three: FakeCluster,
) -> None:
    three.members_index = 1
    async with aio.connect(three.endpoints) as client:
        await client.put("a", "1")
        three.nodes[1].is_mute = True
        three.leader = 3
        await client.put("b", "1", timeout_s=30)
    assert [number for number, _ in three.hellos][-1] == 3
    assert [each.number for each in three.state.applied] == [1, 2]


async def test_who_falls_silent_is_waited_for_while_others_know_no_other_leader(
    three: FakeCluster,
) -> None:
    three.members_index = 1
    async with aio.connect(three.endpoints) as client:
        await client.put("a", "1")
        before, asked = len(three.hellos), three.nodes[2].unary_calls
        three.nodes[1].is_mute = True
        putting = asyncio.create_task(client.put("b", "1", timeout_s=30))
        await three.until(lambda: len(asked) >= 2)
        assert len(three.hellos) == before
        three.leader = 2
        await putting


async def test_a_hello_that_is_not_answered_is_left_when_another_leads(
    three: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_session, "HELLO_S", 600.0)
    three.members_index = 1
    async with aio.connect(three.endpoints) as client:
        await client.put("a", "1")
        three.nodes[1].is_mute = True
        three.cut_streams()
        putting = asyncio.create_task(client.put("b", "1", timeout_s=60))
        await three.until(lambda: len(three.nodes[1].streams) >= 2)
        three.leader = 3
        await putting
    assert three.hellos[-1][0] == 3
    assert [each.number for each in three.state.applied] == [1, 2]


@pytest.mark.parametrize(
    ("relay", "silent_s", "late_s", "is_doubtful"),
    [
        (False, 0.4, 0.0, False),
        (False, 0.6, 0.0, True),
        (False, 0.6, 0.2, False),
        (True, 0.6, 0.0, False),
    ],
    ids=["not for long", "silent", "nobody has looked", "need not lead"],
)
async def test_a_hello_is_doubtful_when_who_should_lead_is_silent(
    *, relay: bool, silent_s: float, late_s: float, is_doubtful: bool
) -> None:
    stream = SimpleNamespace(address="x:1")
    message, endpoints = StreamHello(relay=relay), Endpoints(["x:1"])
    hello = Hello(stream, message, endpoints)  # type: ignore[arg-type]  # only named
    now_s = asyncio.get_running_loop().time() + silent_s
    assert hello.look_for_silence(now_s, late_s) is is_doubtful


async def test_who_relays_to_the_leader_that_others_know_is_waited_for(
    three: FakeCluster,
) -> None:
    three.members_index = 1
    three.leader = 3
    three.advertised[3] = "127.0.0.1:1"
    one, two = three.nodes[1], three.nodes[2]
    async with aio.connect(f"{one.address},{two.address}") as client:
        await client.put("a", "1")
        number, hello = three.hellos[-1]
        assert hello.relay
        relaying, other = (one, two) if number == 1 else (two, one)
        relaying.is_mute = True
        putting = asyncio.create_task(client.put("b", "1", timeout_s=30))
        asked = other.unary_calls
        await three.until(lambda: len(asked) >= 2)
        assert three.hellos[-1] == (number, hello)
        three.leader = other.node_id
        await putting


@BOTH
@pytest.mark.usefixtures("_impatient")
async def test_who_stood_still_does_not_take_the_member_for_dead(
    cluster: FakeCluster, client: aio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after SIGSTOP: timers are due at once, before what came is looked at."""
    await client.put("first", "")
    cluster.state.behave = lambda request: Act.HOLD
    putting = asyncio.create_task(client.put("a", "1", timeout_s=60))
    await cluster.until(lambda: cluster.held)
    has_looked = looks(monkeypatch)
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + 10.0  # type: ignore[method-assign]  # of this loop
    await has_looked.wait()
    cluster.state.behave = lambda request: Act.ANSWER
    cluster.release_held()
    await putting
    assert len(cluster.hellos) == 1


async def test_a_long_idle_time_is_no_silence_of_the_member(
    cluster: FakeCluster, client: aio.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    pumps: list[Pump] = []
    run = Pump.run

    async def noted(pump: Pump) -> None:
        pumps.append(pump)
        await run(pump)

    monkeypatch.setattr(Pump, "run", noted)
    await client.put("first", "")
    pumps[-1].alive_s -= 100.0
    cluster.state.behave = lambda request: Act.HOLD
    putting = asyncio.create_task(client.put("a", "1", timeout_s=60))
    await cluster.until(lambda: cluster.held)
    await looks(monkeypatch).wait()
    cluster.state.behave = lambda request: Act.ANSWER
    cluster.release_held()
    await putting
    assert len(pumps) == 1
