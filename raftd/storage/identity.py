"""Who a data directory belongs to, written into each of its files.

Rules: the incarnation is made with the files and never changes, so a wiped disk can
be told from the node that voted before. `cluster_id` is empty and `peers` too until
the first exchange with every configured member was stored; a node neither votes nor
campaigns before. Both files carry the same identity; state.db is written first, so
at start its newer word is copied to log.db and never the other way round.

Format 2 came with members that may change: a checkpoint's membership is a roster, and
snapshots are staged. Files of format 1 are read, and say 2 from then on.

Source: DESIGN.md section 6 (identity), RELIABILITY.md rule 46.
"""

import msgspec

from raftd.consensus.types import NodeId

__all__ = ["FORMAT_VERSION", "INCARNATION_BYTES", "Identity"]

#: Of both files. A raftd that finds a higher one touches nothing.
FORMAT_VERSION = 2
INCARNATION_BYTES = 16


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The owner of a data directory."""

    cluster_name: str
    node_id: NodeId
    #: Random bytes made with the files.
    incarnation: bytes
    #: 16 bytes; empty before the first start has heard from every member.
    cluster_id: bytes = b""
    #: The incarnation of every member, our own included, by node id.
    peers: dict[NodeId, bytes] = {}
    format_version: int = FORMAT_VERSION

    @property
    def is_bound(self) -> bool:
        """Tell whether the node knows its cluster, and so may vote."""
        return bool(self.cluster_id)

    def is_same_file_set(self, other: "Identity") -> bool:
        """Tell whether two files were made together for one node."""
        return (self.incarnation, self.node_id, self.cluster_name) == (
            other.incarnation,
            other.node_id,
            other.cluster_name,
        )
