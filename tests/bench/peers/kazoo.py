"""kazoo: ZooKeeper's lock as applications in Python have it.

It is no part of this project: it is used where it is installed. Its servers are those
of the peer ``zookeeper``, which is started before.

Source: PERFORMANCE.md (the goal for hand-over names it).
"""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import Final

from tests.bench.peers.base import PeerMissing
from tests.bench.peers.builds import CACHE
from tests.bench.peers.driven import Driven, Roles
from tests.bench.peers.servers import Servers
from tests.bench.peers.zookeeper import ZooKeeper

__all__ = ["Kazoo"]

_NAME: Final = "kazoo"
#: Where ``pip install --target`` puts it for us, and where Debian does.
_FOLDERS: Final = (CACHE / _NAME, Path("/usr/lib/python3/dist-packages"))


class Kazoo(Driven):
    """Clients only."""

    name = _NAME
    measures = frozenset({"handover"})

    def __init__(self, zookeeper: ZooKeeper) -> None:
        """Say whose servers it uses."""
        super().__init__()
        self._zookeeper = zookeeper

    async def find(self) -> list[str]:
        """See ``Driven``."""
        path = [*sys.path, *map(str, _FOLDERS)]
        found = next(
            iter(importlib.metadata.distributions(name=_NAME, path=path)), None
        )
        if found is None:
            raise PeerMissing(
                "kazoo is not here: install Debian's python3-kazoo, or"
                f" `pip install --target {CACHE.name}/{_NAME} {_NAME}`"
            )
        if not self._zookeeper.is_started:
            raise PeerMissing("kazoo's locks need ZooKeeper, which is not running")
        self.version = found.version
        folder = str(found.locate_file(""))
        return [sys.executable, "-m", "tests.bench.peers.kazoo_load", folder]

    async def launch(self, servers: Servers, folder: Path) -> None:
        """See ``Driven``; there are servers already."""
        assert not servers.names, "it has no servers of its own"
        folder.mkdir(parents=True)

    async def roles(self) -> Roles:
        """See ``Driven``."""
        self._zookeeper.servers.wake()
        return await self._zookeeper.roles()
