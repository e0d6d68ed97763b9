"""The peers there are, in the order of the table.

Source: PERFORMANCE.md.
"""

from __future__ import annotations

from typing import Final

from tests.bench.peers.base import Peer
from tests.bench.peers.beanstalkd import Beanstalkd
from tests.bench.peers.etcd import Etcd
from tests.bench.peers.kazoo import Kazoo
from tests.bench.peers.zookeeper import ZooKeeper

__all__ = ["HEAT_S", "all_peers"]

#: How long a fresh JVM is loaded before it is measured.
HEAT_S: Final = 60.0


def all_peers(*, heat_s: float = HEAT_S) -> list[Peer]:
    """Make every peer, started or not installed alike: ``start`` tells.

    Args:
        heat_s: How long ``start`` loads peers that run in a JVM.
    """
    zookeeper = ZooKeeper(heat_s)
    return [
        Etcd(),
        zookeeper,
        Kazoo(zookeeper),
        Beanstalkd(is_durable=False, is_python=False),
        Beanstalkd(is_durable=True, is_python=False),
        Beanstalkd(is_durable=False, is_python=True),
        Beanstalkd(is_durable=True, is_python=True),
    ]
