"""The synchronous face of the cluster as a whole.

Source: DESIGN.md section 9; how it is made: ``raftclient._blocking``.
"""

from __future__ import annotations

from raftclient import aio
from raftclient._blocking import Face, blocking

__all__ = ["Cluster"]


class Cluster(Face[aio.Cluster]):
    """The cluster as a whole; ``client.cluster``."""

    members = blocking(aio.Cluster.members)
    add = blocking(aio.Cluster.add)
    remove = blocking(aio.Cluster.remove)
    replace = blocking(aio.Cluster.replace)
    update = blocking(aio.Cluster.update)
    transfer = blocking(aio.Cluster.transfer)
    backup = blocking(aio.Cluster.backup)
