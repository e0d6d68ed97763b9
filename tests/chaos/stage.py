"""Nodes before anything happens to them: where each lives, and how it starts.

Source: RELIABILITY.md section 5 (set-up).
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cluster.processes import Processes
from tests.chaos.disks import DISK_MIB, make_image, shorten
from tests.chaos.fault import Want
from tests.chaos.ground import Ground
from tests.chaos.leftovers import DISK, WORLD, make_folder, new_world, sweep
from tests.chaos.releases import unpack_release_before
from tests.chaos.shim import Page, make_shim

__all__ = ["CLIENT_PORT", "PEER_PORT", "Stage"]

CLIENT_PORT: Final = 7400
PEER_PORT: Final = 7401
_HTTP_PORT: Final = 7402
_FLAGS: Final = (
    *("--checkpoint-log-bytes", "262144", "--checkpoint-interval-ms", "1000"),
)
_SHORT_LOG: Final = ("--log-keep-bytes", "65536")
_BALLAST: Final = ("--ballast-bytes", str(4 << 20))
_NODES_MAX: Final = 100
_CLOCKS_APART_S: Final = 100_000


class Stage(Processes):
    """Nodes of one cluster, each in a network, on a disk and at a time of its own.

    Attributes:
        name: Processes of this world carry it.
        folder: Images, pages of orders and logs.
        wants: What the world was made with.
        ground: The network.
        pages: The orders of each node.
        members: Numbers of the nodes that are members at present.
        previous: Numbers of those that run the release before.
    """

    def __init__(
        self,
        folder: Path | None = None,
        size: int = 3,
        flags: Sequence[str] = (),
        *,
        seed: str = "0",
        wants: Collection[Want] = (),
    ) -> None:
        """Make network and disks; ``start`` starts the nodes.

        Args:
            folder: Disks and logs go there; None = one that goes with the world.
            size: How many nodes.
            flags: More flags of ``raftd serve``, for all nodes.
            seed: Of everything that is drawn here.
            wants: What the faults of the run want.

        Raises:
            GroundError: No world can be made here.
        """
        sweep()
        self.name: Final = new_world()
        self.wants: Final = frozenset(wants)
        self._is_own_folder = folder is None
        self.folder: Final = folder or make_folder(self.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        short = _SHORT_LOG if Want.SHORT_LOG in self.wants else ()
        super().__init__(self.folder, size, (*_FLAGS, *short, *flags))
        self._chance = random.Random(f"{seed}/world")
        self._clocks_ahead_s: dict[int, int] = {}
        self.ends_expected: set[int] = set()
        self._log_offsets: dict[int, int] = {}
        self.pages: dict[int, Page] = {}
        self.members: list[int] = [*self.ids]
        self.previous: set[int] = set()
        self._packages: Path | None = None
        if Want.RELEASE_BEFORE in self.wants:
            self._packages = unpack_release_before(self.folder / "previous")
            self.previous.update(self.ids)
        self._shim = make_shim(self.folder)
        self.ground: Final = Ground(self.name, f"{seed}/router")
        try:
            for number in self.ids:
                self._prepare(number)
        except BaseException:
            self.close()
            raise

    # --- What a node is started with -------------------------------------------------

    def host(self, node_id: int) -> str:
        """The node's own address."""
        return self.ground.host(node_id)

    def new_ports(self, count: int) -> list[int]:
        """Return the same ports for each node: it has an address of its own."""
        third = count // 3
        return [p for p in (CLIENT_PORT, PEER_PORT, _HTTP_PORT) for _ in range(third)]

    @property
    def endpoints(self) -> str:
        """Where the present members serve clients."""
        return ",".join(map(self.endpoint, self.members))

    def add(self) -> int:
        """Prepare one node more; it is a member once the cluster says so."""
        number = super().add()
        assert number < _NODES_MAX, "an address has room for no more"
        self._prepare(number)
        return number

    def frugal_flags(self, node_id: int) -> tuple[str, ...]:
        """Keep a ballast on these small disks; the release before knows none."""
        return () if node_id in self.previous else _BALLAST

    def environment(self, node_id: int) -> dict[str, str]:
        """Put the shim between, and mark the process as ours."""
        variables = super().environment(node_id)
        variables |= {
            WORLD: self.name,
            DISK: str(self.data_dir(node_id)),
            "LD_PRELOAD": str(self._shim),
            "CHAOS_ORDERS": str(self.pages[node_id].path),
            "CHAOS_UNSYNCED": str(self._unsynced(node_id)),
            "CHAOS_PEER_PORT": str(PEER_PORT),
            "CHAOS_CLIENT_PORT": str(CLIENT_PORT),
        }
        if node_id in self.previous:
            variables |= {"PYTHONPATH": str(self._packages), "PYTHONSAFEPATH": "1"}
        return variables

    def command(self, node_id: int) -> list[str]:
        """Enter the node's network and disks, and begin a time of its own."""
        ahead = str(self._clocks_ahead_s[node_id])
        clock = ["unshare", "-T", "--monotonic", ahead, "--boottime", ahead]
        return [*self.ground.enter(node_id), *clock, *super().command(node_id)]

    def start(self, *nodes: int) -> None:
        """Start these nodes, or all members that do not run."""
        for number in nodes or [n for n in self.members if n not in self._running]:
            self._log_offsets[number] = self._log_size(number)
            self.ends_expected.discard(number)
            page = self.pages[number]
            page["process"] = 0
            shorten(self._unsynced(number))
            page["keeps_unsynced"] = int(Want.UNSYNCED in self.wants)
            super().start(number)
            page["process"] = self.pid(number)

    def close(self) -> None:
        """Kill all nodes and end the network; whatever is left of the disks goes."""
        self.ground.close()
        for process in self._running.values():
            process.kill()
            process.wait()
        self._running.clear()
        for page in self.pages.values():
            page.close()
        self.pages.clear()
        for image in self.folder.glob("*.image"):
            image.unlink()
        if self._is_own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        """Start all nodes."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all."""
        self.close()

    def _prepare(self, number: int) -> None:
        self._clocks_ahead_s[number] = self._chance.randrange(_CLOCKS_APART_S)
        data_dir = self.data_dir(number)
        data_dir.mkdir(parents=True)
        image = data_dir.with_suffix(".image")
        make_image(image, DISK_MIB)
        self.pages[number] = Page(data_dir.with_suffix(".orders"))
        self.ground.add_leg(number)
        self.ground.mount(image, data_dir)

    def _unsynced(self, node_id: int) -> Path:
        return self.data_dir(node_id).with_suffix(".unsynced")

    def _log_size(self, node_id: int) -> int:
        path = self.folder / f"n{node_id}.log"
        return path.stat().st_size if path.exists() else 0
