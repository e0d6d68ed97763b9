"""The composition root: makes one node of its parts, starts and stops it.

Start is in the order of dependencies (data, peers, cluster, state, replica, doors),
stop in reverse: refuse, hand leadership over, finish what is in flight, close.

Source: DESIGN.md section 8; RELIABILITY.md rule 55.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from raftd.api.limits import DoorLimits
from raftd.api.server import ApiServer
from raftd.consensus.types import NodeId, Role
from raftd.node.backup import Backups
from raftd.node.checkpoints import Checkpoints
from raftd.node.digests import Digests, Verdict
from raftd.node.disk_guard import DataDisk, make_room
from raftd.node.driver import Driver
from raftd.node.errors import NodeFailed
from raftd.node.member_desk import Desk
from raftd.node.member_sight import CHANGES_LEVEL
from raftd.node.members import Members
from raftd.node.node import Node
from raftd.node.peer_service import PeerService
from raftd.node.refusals import DIVERGED
from raftd.node.roster import Roster
from raftd.node.settings import ReplicaSettings
from raftd.node.snapshots_in import SnapshotsIn
from raftd.node.snapshots_out import SnapshotsOut
from raftd.server.clock import SystemClock
from raftd.server.config import Settings
from raftd.server.formation import Neighbours
from raftd.server.http import HttpServer
from raftd.server.parts import (
    load_machine,
    make_backup_header,
    make_core,
    make_replica_settings,
)
from raftd.server.state_view import StateView
from raftd.statemachine.machine import Machine
from raftd.storage.open import Stores, open_stores
from raftd.transport.greeting import Formed

__all__ = ["App"]

_logger = logging.getLogger(__name__)

_HAND_OVER_S: Final = 2.0
_GRACE_S: Final = 2.0


class App:
    """One member, from its settings to its ports."""

    def __init__(self, settings: Settings) -> None:
        """Keep the settings; ``start`` does the work."""
        self._settings: Final = settings
        self._digests: Final = Digests(settings.node_id, ())
        self._begins_full = False
        self._stores: Stores | None = None
        self._neighbours: Neighbours | None = None
        self._driver: Driver | None = None
        self._checkpoints: Checkpoints | None = None
        self._peer_service: PeerService | None = None
        self._members: Members | None = None
        self._backups: Backups | None = None
        self._snapshots_in: SnapshotsIn | None = None
        self._snapshots_out: SnapshotsOut | None = None
        self._api: ApiServer | None = None
        self._http: HttpServer | None = None
        self._health_task: asyncio.Task[None] | None = None
        self.node: Node | None = None

    async def start(self) -> None:
        """Start up to serving.

        Raises:
            NodeFailed: With one sentence for the operator.
            StorageError: With one sentence for the operator.
            ListenFailed: A port cannot be listened on.
        """
        settings = self._settings
        self._begins_full = await asyncio.to_thread(
            make_room, settings.data_dir, settings.ballast_bytes
        )
        self._stores = stores = await open_stores(
            settings.data_dir,
            node_id=NodeId(settings.node_id),
            cluster_name=settings.cluster,
        )
        self._neighbours = neighbours = Neighbours(settings, stores)
        await neighbours.start()
        formed, roster = await neighbours.meet()
        machine = await load_machine(settings, stores)
        await stores.log.make_room()
        self._build(formed, roster, neighbours, machine)
        neighbours.greeting.banned.add_done_callback(self._on_banned)
        await self._open_doors()

    def _build(
        self, formed: Formed, roster: Roster, neighbours: Neighbours, machine: Machine
    ) -> None:
        settings, stores, links = self._settings, self._stores, neighbours.links
        assert stores is not None, "start opens the stores first"
        replica_settings = make_replica_settings(settings)
        self._driver = driver = Driver(
            make_core(settings, stores, machine, roster),
            machine,
            log=stores.log,
            disk=DataDisk(
                settings.data_dir, settings.ballast_bytes, stores.files_replaced
            ),
            peers=links,
            clock=SystemClock(),
            settings=replica_settings,
        )
        self.node = node = Node(
            driver,
            links,
            roster,
            node_id=settings.node_id,
            cluster_id=formed.cluster_id,
            settings=replica_settings,
        )
        snapshots_in = self._keep_state(node, stores)
        self._snapshots_out = SnapshotsOut(driver, links, stores.state)
        self._serve_peers(node, neighbours, snapshots_in)
        header = make_backup_header(settings, formed.cluster_id)
        self._backups = node.backups = Backups(node, links, stores.state, header)
        driver.write_here = stores.log.write_here
        driver.replica.roster = roster
        driver.on_roster = self._on_roster
        self._on_roster(roster)
        links.on_messages = driver.receive
        links.on_down = driver.link_down
        if self._begins_full:
            driver.guard.begin_full()
        driver.start()
        self._members = self._care_for_members(node, neighbours, replica_settings)
        self._members.start()
        node.readiness.start()

    def _keep_state(self, node: Node, stores: Stores) -> SnapshotsIn:
        """Have checkpoints taken, and snapshots taken in."""
        driver = node.driver
        self._checkpoints = checkpoints = Checkpoints(
            driver.replica, stores.log, stores.state, self._on_checkpoint, driver.fail
        )
        checkpoint = stores.recovery.checkpoint
        if checkpoint is not None:
            checkpoints.checkpoint_index = checkpoint.applied_index
            driver.replica.marks.note_stored(
                checkpoint.applied_index, checkpoint.digest
            )
        self._snapshots_in = snapshots_in = SnapshotsIn(
            driver,
            stores.log,
            stores.state,
            self._settings.limits.of_apply(),
            self._on_install_durable,
        )
        snapshots_in.on_offered = node.readiness.fall_behind
        checkpoints.wait_room = driver.guard.wait_room
        driver.on_mark = checkpoints.take
        driver.on_durable = checkpoints.note_durable
        driver.on_installed = self._on_installed
        replica = driver.replica
        replica.marks.may_mark = lambda: checkpoints.is_idle
        replica.marks.may_send_snapshots = lambda: replica.roster.level >= CHANGES_LEVEL
        return snapshots_in

    def _serve_peers(
        self, node: Node, neighbours: Neighbours, snapshots_in: SnapshotsIn
    ) -> None:
        """Answer what other members ask."""
        checkpoints, snapshots_out = self._checkpoints, self._snapshots_out
        assert checkpoints is not None and snapshots_out is not None  # noqa: PT018  # made just before
        view = StateView(
            node, checkpoints, self._digests, self._settings, snapshots_out
        )
        self._peer_service = node.peer_service = PeerService(
            node,
            neighbours.links,
            own_state=view.own_state,
            take_digest=self._judge,
            take_snapshot=snapshots_in.answer,
        )

    def _care_for_members(
        self, node: Node, neighbours: Neighbours, settings: ReplicaSettings
    ) -> Members:
        """Take changes of the members, here and for others."""
        assert self._peer_service is not None, "it is made before"
        members = Members(
            node.driver.replica,
            neighbours.links,
            neighbours.own,
            settings,
            farewell=neighbours,
            wake=node.driver.wake,
            changed=node.leader_changed,
            fail=node.driver.fail,
        )
        node.desk = self._peer_service.desk = Desk(node, members, neighbours.links)
        return members

    async def _open_doors(self) -> None:
        node, settings = self.node, self._settings
        assert node is not None, "start builds the node first"
        self._api = ApiServer(
            node,
            str(settings.client_listen),
            DoorLimits(
                apply=settings.limits.of_apply(),
                request_bytes_max=settings.limits.request_bytes_max,
            ),
        )
        await self._api.start()
        self._health_task = asyncio.create_task(self._tell_health(self._api, node))
        self._http = HttpServer(node)
        await self._http.start(settings.http_listen.host, settings.http_listen.port)

    async def _tell_health(self, api: ApiServer, node: Node) -> None:
        """Serving is the same as ready; see ``raftd.node.readiness``."""
        told = None
        while True:
            is_serving = node.readiness.is_ready
            if is_serving == told:
                await node.leader_changed()
                continue
            await api.set_serving(is_serving=is_serving)
            told = is_serving

    def _on_roster(self, roster: Roster) -> None:
        """Who is a member has changed: all that asks for it is told."""
        assert self._neighbours is not None, "they come first"
        assert self.node is not None, "start builds the node first"
        self._neighbours.note_roster(roster)
        self._digests.note_voters(roster.membership.voters)
        self.node.note_roster(roster)

    def _on_installed(self, index: int) -> None:
        """A leader's state has just taken the place of this member's."""
        assert self._checkpoints is not None and self.node is not None  # noqa: PT018  # both are built together
        _logger.info("state_replaced index=%d", index)
        self._checkpoints.replace()
        self.node.note_installed()

    def _on_install_durable(self, index: int) -> None:
        assert self._checkpoints is not None and self.node is not None  # noqa: PT018  # both are built together
        self._checkpoints.note_installed(index)
        self.node.readiness.end_install()

    # --- divergence ----------------------------------------------------------------

    def _on_checkpoint(self, index: int, digest: bytes) -> None:
        assert self._driver is not None and self._peer_service is not None  # noqa: PT018  # both are built together
        replica = self._driver.replica
        replica.marks.note_stored(index, digest)
        if self._snapshots_in is not None:
            self._snapshots_in.note_checkpoint()
        if self._backups is not None:
            self._backups.note_stored()
        self._judge(self._settings.node_id, index, digest)
        self._peer_service.tell_digest(index, digest)

    def _judge(self, node_id: int, index: int, digest: bytes) -> None:
        assert self._driver is not None and self.node is not None  # noqa: PT018  # both are built together
        verdict = self._digests.note(node_id, index, digest)
        if verdict is Verdict.DIVERGED:
            self._driver.fail(
                f"the state at entry {index} differs from that of a majority: this"
                " member may not serve; bring the machine back under a new id with"
                " `raftctl member replace`",
                None,
            )
        elif verdict is Verdict.SPLIT:
            _logger.error("diverged index=%d no two members agree", index)
            self.node.refuse_writes(DIVERGED)

    # --- end -------------------------------------------------------------------------

    def _on_banned(self, banned: asyncio.Future[str]) -> None:
        if self._driver is not None and not banned.cancelled():
            self._driver.fail(banned.result(), None)

    async def wait_failed(self) -> NodeFailed:
        """Wait until the node can go on no longer; returns why."""
        assert self._driver is not None, "start comes first"
        return await self._driver.failed

    async def stop(self) -> None:
        """Stop in reverse order; may be called twice, or before ``start``."""
        if self._health_task is not None:
            self._health_task.cancel()
        if self._api is not None:
            await self._api.set_serving(is_serving=False)
        await self._hand_over()
        if self.node is not None:
            self.node.stop_serving()
            await self.node.readiness.stop()
        has_failed = self._driver is not None and self._driver.failed.done()
        if self._api is not None:
            await self._api.stop(0.0 if has_failed else _GRACE_S)
        if self._http is not None:
            await self._http.stop()
        for part in (
            self._members,
            self._peer_service,
            self._backups,
            self._snapshots_out,
            self._snapshots_in,
            self._checkpoints,
            self._driver,
        ):
            if part is not None:
                await part.stop()
        if self._neighbours is not None:
            await self._neighbours.links.stop()
        if self._stores is not None and self._are_files_ours:
            await self._stores.close()
        self._stores = None

    @property
    def _are_files_ours(self) -> bool:
        """Whether closing the databases removes only what belongs to them.

        SQLite removes a write-ahead log by its name: if the files were exchanged, it
        would be another's.
        """
        return self._driver is None or self._driver.guard.are_files_ours

    async def _hand_over(self) -> None:
        """Give leadership to the follower that is furthest, if there is one."""
        driver = self._driver
        if driver is None or driver.failed.done() or not driver.is_leader:
            return
        driver.hand_over()
        core = driver.replica.core
        if core.transfer_target is None:
            return
        assert self.node is not None, "a driver comes with a node"
        try:
            async with asyncio.timeout(_HAND_OVER_S):
                while core.role is Role.LEADER:
                    await self.node.leader_changed()
        except TimeoutError:
            _logger.warning("hand_over_failed to=%s", core.transfer_target)
