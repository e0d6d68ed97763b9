"""A closed client leaves nothing behind: neither for its loop nor for later ones."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator

import grpc
import pytest

from raftclient import Unavailable, _window, aio
from raftclient._session import Session
from tests.client.fake_server import BOTH, FakeCluster

RUNS = 30

Work = Callable[[aio.Client], Awaitable[None]]


async def _reads(client: aio.Client) -> None:
    await client.get("a")


async def _writes(client: aio.Client) -> None:
    await client.put("a", "1")
    await client.get("a")


async def _leaves_a_watch(client: aio.Client) -> None:
    client.watch(key="a")
    await client.get("a")


async def _gives_up_a_unary_call(client: aio.Client) -> None:
    await client.status()
    calling = asyncio.create_task(client.status())
    for _ in range(3):  # turns of the loop, until the request is on its way
        await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


@pytest.fixture
def shared_queue() -> Iterator[None]:
    """Keep gRPC's queue of completions from one loop to the next."""

    async def make() -> grpc.aio.Channel:
        return grpc.aio.insecure_channel("127.0.0.1:1")

    channel = asyncio.run(make())
    yield
    asyncio.run(channel.close())


@BOTH
@pytest.mark.usefixtures("shared_queue")
@pytest.mark.parametrize(
    "work", [_reads, _writes, _leaves_a_watch, _gives_up_a_unary_call]
)
def test_nothing_comes_for_a_loop_that_is_closed(
    cluster: FakeCluster, caplog: pytest.LogCaptureFixture, work: Work
) -> None:
    """It would be an error in the log of the loop that comes next."""

    async def run() -> None:
        async with aio.connect(cluster.endpoints) as client:
            await work(client)

    for _ in range(RUNS):
        asyncio.run(run())
    assert [each.exc_text for each in caplog.records if each.name == "asyncio"] == []


async def test_a_unary_call_under_way_ends_with_unavailable() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        client = aio.connect(f"127.0.0.1:{silent.getsockname()[1]}")
        calling = asyncio.create_task(client.status())
        connection, _ = await loop.sock_accept(silent)
        with connection:
            await client.close()
            with pytest.raises(Unavailable) as ended:
                await calling
    assert ended.value.reason == "SHUTTING_DOWN"


async def test_a_session_that_is_being_closed_is_closed_with_its_client(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_window, "_HELD_UP_SPAN_MIN", 1)
    is_closing, may_close = asyncio.Event(), asyncio.Event()
    close = Session.close

    async def close_late(session: Session) -> None:
        is_closing.set()
        await may_close.wait()
        await close(session)

    monkeypatch.setattr(Session, "close", close_late)
    state = cluster.state
    state.lock_holders.update(dict.fromkeys("abcd", 1))
    client = aio.connect(cluster.endpoints)
    waits = []

    async def wait_for(name: str) -> None:
        """Each wait holds up its session, so that the next one gets another."""
        waits.append(asyncio.create_task(client.lock(name).acquire()))
        await cluster.until(lambda: len(state.lock_line) == len(waits))

    for name in "abc":
        await wait_for(name)
    assert len(state.sessions) == 3
    with state.changed:
        _, grant = state.lock_line[1]
        grant(state.next_revision())
    await waits[1]
    await wait_for("d")
    await is_closing.wait()
    ending = asyncio.create_task(client.close())
    may_close.set()
    await ending
    await asyncio.gather(*waits, return_exceptions=True)
    assert not state.sessions
