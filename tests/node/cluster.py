"""Real nodes in one process: real stores, real links on loopback, no gRPC.

Rules: who leads is not changed by a machine that is slow, as the timeout of elections
is longer than any moment for which a test's process stands still. Nobody waits for that
timeout at a start: one node is told to campaign at once, as by a leader that goes. A
test of what happens when nobody is heard asks for ``IMPATIENT``.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from raftd.consensus.messages import TimeoutNow
from raftd.consensus.types import NodeId, Role
from raftd.node.fitness import Advice, Fitness
from raftd.node.member_sight import CHANGES_LEVEL
from raftd.node.node import Node
from raftd.node.service import AddMember, MemberInfo
from raftd.server.app import App
from raftd.server.config import Settings
from raftd.server.option_kinds import Address, Member
from raftd.transport.links import Links
from tests.ports import HOST, free_ports

__all__ = ["IMPATIENT", "Cluster", "links_of"]

_START_ROUNDS: Final = 200
IMPATIENT: Final = {"election_ms": 400}


class Cluster:
    """Nodes of one cluster, by id from 1."""

    def __init__(self, data_dir: Path, size: int = 3, **settings: int) -> None:
        ports = free_ports(2 * size)
        self._dir = data_dir
        self._settings: dict[str, Any] = {
            "heartbeat_ms": 20,
            "election_ms": 2000,
            "ballast_bytes": 1 << 20,
            **settings,
        }
        self.members = tuple(
            _member(index + 1, ports[2 * index : 2 * index + 2])
            for index in range(size)
        )
        self.joiners: dict[int, Member] = {}
        self._moved: dict[int, Member] = {}
        self.apps: dict[int, App] = {}

    def settings(self, node_id: int) -> Settings:
        joiner = self.joiners.get(node_id)
        members = tuple(
            self._moved.get(node_id, m) if m.id == node_id else m for m in self.members
        )
        member = joiner or next(m for m in members if m.id == node_id)
        return Settings(
            node_id=node_id,
            members=members if joiner is None else (),
            join=() if joiner is None else tuple(m.peer for m in self.members),
            data_dir=self._dir / f"n{node_id}",
            cluster="test",
            client_listen=member.client,
            peer_listen=member.peer,
            http_listen=Address(HOST, 0),
            **self._settings,
        )

    def prepare(self, node_id: int, like: Member | None = None) -> Member:
        """Choose addresses for a node that is to join, or take another's."""
        member = _member(node_id, free_ports(2))
        if like is not None:
            member = dataclasses.replace(like, id=node_id)
        self.joiners[node_id] = member
        return member

    def move(self, node_id: int) -> None:
        """Give a stopped node other addresses; only its own settings say so."""
        self._moved[node_id] = _member(node_id, free_ports(2))

    async def passed_time(self) -> None:
        """Wait a moment, or for a change of leaders."""
        await self._change()

    async def join(self, node_id: int) -> Node:
        """Add a member through the leader, start it, and wait until it is one."""
        member = self.prepare(node_id)
        leader = await self.leader()
        change = AddMember(member.name, str(member.peer), node_id=node_id)
        added = await leader.change_members(change, 10.0)
        assert isinstance(added, MemberInfo), added
        await self.start(node_id)
        await self.until(lambda node: node_id in node.roster.membership.voters)
        return self.node(node_id)

    async def until(self, is_so: Callable[[Node], bool]) -> None:
        """Wait until something is so on every node."""
        while True:
            nodes = [app.node for app in self.apps.values() if app.node is not None]
            if all(map(is_so, nodes)):
                return
            await self._change()

    async def all_can_change(self) -> None:
        """Wait until everybody knows of everybody what its release can do."""
        await self.until(lambda node: node.roster.level >= CHANGES_LEVEL)

    async def start(self, *nodes: int) -> None:
        wanted = nodes or tuple(member.id for member in self.members)
        for node_id in wanted:
            self.apps[node_id] = App(self.settings(node_id))
        await asyncio.gather(*(self.apps[node_id].start() for node_id in wanted))
        for node_id in wanted:
            caretaker = self.node(node_id).driver.caretaker
            caretaker.fitness = _Calm(self.settings(node_id).election_ms)  # type: ignore[misc]  # in place of the stricter one
        await self._elect()

    async def _elect(self) -> None:
        """If nobody leads and a majority runs, have who has most campaign at once."""
        for _ in range(_START_ROUNDS):
            nodes = [app.node for app in self.apps.values() if app.node is not None]
            best = max(nodes, key=_log_of)
            voters = best.roster.membership.voters
            running = [node for node in nodes if node.node_id in voters]
            if any(node.leader for node in nodes) or 2 * len(running) <= len(voters):
                return
            core = best.driver.replica.core
            if core.role in {Role.FOLLOWER, Role.PRE_CANDIDATE} and self._is_in_touch():
                best.driver.receive([TimeoutNow(core.node_id, core.node_id, core.term)])
            await self._change()

    def _is_in_touch(self) -> bool:
        """Tell whether all that run have links to each other."""
        return all(
            node_id == peer or links_of(app).is_up(NodeId(peer))
            for node_id, app in self.apps.items()
            for peer in self.apps
        )

    async def stop(self, *nodes: int) -> None:
        for node_id in nodes or tuple(self.apps):
            await self.apps.pop(node_id).stop()

    def node(self, node_id: int) -> Node:
        node = self.apps[node_id].node
        assert node is not None
        return node

    async def leader(self) -> Node:
        """Wait for a leader that may propose."""
        while True:
            for app in self.apps.values():
                node = app.node
                if node is not None and node.may_lead:
                    return node
            await self._change()

    async def follower(self) -> Node:
        """Wait for a follower that knows its leader."""
        leader = await self.leader()
        while True:
            for app in self.apps.values():
                node = app.node
                if node is not None and node is not leader and node.leader:
                    return node
            await self._change()

    async def _change(self) -> None:
        nodes = [app.node for app in self.apps.values() if app.node is not None]
        waits = [asyncio.create_task(node.leader_changed()) for node in nodes]
        _, pending = await asyncio.wait(
            waits, timeout=0.05, return_when=asyncio.FIRST_COMPLETED
        )
        for task in pending:
            task.cancel()

    async def marks_rest(self) -> None:
        """Wait until the leader neither stores a checkpoint nor is about to."""
        while True:
            leader = await self.leader()
            replica = leader.driver.replica
            if replica.marks.may_mark() and replica.marks.due(0) is None:
                return
            await self._change()

    async def applied_everywhere(self) -> None:
        """Wait until all nodes have applied what the leader has."""
        leader = await self.leader()
        assert leader.driver.replica.core.role is Role.LEADER
        revision = leader.machine.revision
        for app in self.apps.values():
            assert app.node is not None
            await app.node.read(lambda _: None, is_stale=True, min_revision=revision)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()


class _Calm(Fitness):
    """Judges as in production, but for how slow this machine is.

    All nodes share its disk and this process: who leads is not to depend on how busy
    they are. What slow and hung disks do is tested in virtual time.
    """

    def judge(
        self, now_ms: int, *, write_age_ms: int, lag_ms: int, is_full: bool
    ) -> Advice:
        self.pace.forget()
        return super().judge(now_ms, write_age_ms=0, lag_ms=0, is_full=is_full)


def links_of(app: App) -> Links:
    """Return the links of a node, to look at, break or filter them."""
    neighbours = app._neighbours  # noqa: SLF001  # nobody else looks at links
    assert neighbours is not None
    return neighbours.links


def _log_of(node: Node) -> tuple[int, int]:
    """Say how far a log goes, as voters compare them."""
    core = node.driver.replica.core
    return core.last_term, core.last_index


def _member(node_id: int, ports: Sequence[int]) -> Member:
    return Member(
        id=node_id,
        name=f"n{node_id}",
        peer=Address(HOST, ports[0]),
        client=Address(HOST, ports[1]),
    )
