"""Fixtures of the client's tests: a scripted cluster, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from raftclient import _pump, _session, aio, reservations
from raftclient._keepalive import Keeper
from tests.client.fake_server import FakeCluster


@pytest.fixture
def _impatient() -> None:
    """Ask for the client's own patience with members: a test of silence."""


@pytest.fixture(autouse=True)
def _patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no member of the scripted cluster be taken for dead: the machine is busy.

    It serves from this very process, and has nothing to say of its own accord.
    """
    if "_impatient" not in request.fixturenames:
        monkeypatch.setattr(_pump, "DEAD_AFTER_S", 60.0)
        monkeypatch.setattr(_session, "HELLO_S", 60.0)


@pytest.fixture
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew what is held often, though its ttl is long beside any stall of ours."""
    monkeypatch.setattr(Keeper.add, "__kwdefaults__", {"per_ttl": 100})
    monkeypatch.setattr(reservations, "EXTENSIONS_PER_RESERVATION", 100)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[FakeCluster]:
    """Start one node; ``BOTH`` of ``fake_server`` runs a test over gRPC, too."""
    with FakeCluster(knows_plain=getattr(request, "param", True)) as cluster:
        yield cluster


@pytest.fixture
def three() -> Iterator[FakeCluster]:
    with FakeCluster(3) as cluster:
        yield cluster


@pytest.fixture
async def client(cluster: FakeCluster) -> AsyncIterator[aio.Client]:
    async with aio.connect(cluster.endpoints) as client:
        yield client
