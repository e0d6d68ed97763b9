"""What the tests of snapshots share: clusters that cut their logs, and taps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import pytest

from raftd.consensus.messages import Message
from raftd.consensus.types import NodeId
from raftd.node.node import Node
from raftd.node.service import WriteCall
from raftd.server.app import App
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.kv import KeyPut, PutKey
from raftd.storage.state_store import StateStore
from tests.node.cluster import Cluster, links_of

__all__ = [
    "CUTTING",
    "Filter",
    "StageTap",
    "break_link",
    "compared_beyond",
    "cut_beyond",
    "leave_behind",
    "put",
]

CUTTING: Final = {
    "checkpoint_log_bytes": 65_536,
    "checkpoint_interval_ms": 600_000,
    "log_keep_bytes": 65_536,
}
"""Settings under which a follower that misses a few hundred KiB needs a snapshot."""

_KEYS: Final = 300
_AT_ONCE: Final = 8
_VALUE: Final = b"v" * 2000


async def put(node: Node, key: bytes, value: bytes = _VALUE) -> int:
    """Write one key, again if its leader is lost; returns its revision."""
    while True:
        answered = await node.write(WriteCall(command=PutKey(key, value)), 10)
        if isinstance(answered.answer, KeyPut):
            return answered.answer.mod_rev
        assert isinstance(answered.answer, Refusal)


async def _put_some(node: Node, first: int) -> int:
    """Write some keys at once; returns how many."""
    numbers = range(first, first + _AT_ONCE)
    await asyncio.gather(*(put(node, b"k%d" % (n % _KEYS)) for n in numbers))
    return _AT_ONCE


async def cut_beyond(cluster: Cluster, index: int) -> None:
    """Write until the leader's log begins behind an index."""
    count = 0
    while (leader := await cluster.leader()).driver.replica.core.first_index <= index:
        count += await _put_some(leader, count)


async def leave_behind(cluster: Cluster) -> int:
    """Stop a follower until it needs a snapshot; returns its id."""
    follower = await cluster.follower()
    node_id = follower.node_id
    # Before that nobody is cut off: the follower's release might know no snapshots.
    await cluster.all_can_change()
    await put(await cluster.leader(), b"early")
    await cluster.applied_everywhere()
    index = follower.machine.applied_index
    await cluster.stop(node_id)
    leader = await cluster.leader()
    await asyncio.gather(*(put(leader, b"k%d" % number) for number in range(200)))
    await cut_beyond(cluster, index + 1)
    # The next checkpoint must not come beside the snapshot: it may cut it off.
    await cluster.marks_rest()
    return node_id


async def compared_beyond(cluster: Cluster, index: int) -> None:
    """Write until all members agree on their digests at a mark behind an index."""
    count = 0
    while True:
        leader = await cluster.leader()
        states = await leader.status(is_for_all=True)
        if len(states) == len(cluster.apps) and all(
            state.compared_index > index for state in states
        ):
            break
        count += await _put_some(leader, count)
    assert all(state.trouble == "" for state in states)


def break_link(app: App, peer: int) -> None:
    """Break the link that a node has dialled to another."""
    link = links_of(app)._dialled[NodeId(peer)]  # noqa: SLF001  # as above
    transport = link._transport  # noqa: SLF001  # as above
    assert transport is not None
    transport.abort()


class Filter:
    """Drops what one node sends to another, until it is taken away."""

    def __init__(self, app: App, to: int, monkeypatch: pytest.MonkeyPatch) -> None:
        links = links_of(app)
        send = links.send

        def filtered(peer: NodeId, messages: Sequence[Message]) -> None:
            if peer != to or not self.is_on:
                send(peer, messages)

        self.is_on = True
        monkeypatch.setattr(links, "send", filtered)


class StageTap:
    """Sees each piece that one node stages, and may hold it up.

    Attributes:
        staged: (offer id, number of the first chunk) of each piece, as it came.
    """

    def __init__(self, node_id: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.staged: list[tuple[bytes, int]] = []
        self.is_held = asyncio.Event()
        self._may_go_on = asyncio.Event()
        self._may_go_on.set()
        self._hold_from: Callable[[int], bool] = _never
        stage = StateStore.stage

        async def tapped(
            store: StateStore, offer_id: bytes, first: int, chunks: Sequence[bytes]
        ) -> None:
            if store.files[0].parent.name == f"n{node_id}":
                if self._hold_from(first):
                    self.is_held.set()
                    await self._may_go_on.wait()
                self.staged.append((offer_id, first))
            await stage(store, offer_id, first, chunks)

        monkeypatch.setattr(StateStore, "stage", tapped)

    def hold(self, first: int) -> None:
        """Hold up pieces from this chunk on."""
        self._may_go_on.clear()
        self._hold_from = lambda number: number >= first

    def go_on(self) -> None:
        """Hold up nothing any more."""
        self._hold_from = _never
        self._may_go_on.set()


def _never(_: int) -> bool:
    return False
