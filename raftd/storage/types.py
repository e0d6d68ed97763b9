"""What the stores hand over and what they find at start: plain values.

Source: DESIGN.md section 6; RELIABILITY.md rules 25-31.
"""

import msgspec

from raftd.consensus.types import Entry, HardState, Index, Term

__all__ = [
    "NO_DIGEST",
    "CheckpointMeta",
    "InstallMark",
    "LogRecovery",
    "Sizes",
    "TermRun",
]

NO_DIGEST = bytes(32)
#: Below this many bytes of deltas a merge is not worth a process and its writes: to
#: load or send so much takes a second. About a checkpoint, as busy members make them.
_MERGE_BYTES_MIN = 64 * 1024 * 1024


class InstallMark(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Says that a checkpoint came from a leader and the log has to follow it."""

    #: Random bytes; the log's reset records the same.
    install_id: bytes
    #: To be no lower afterwards, whatever the log said.
    hard_state: HardState


class CheckpointMeta(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What belongs to the rows of one checkpoint, in the same transaction."""

    applied_index: Index
    applied_term: Term
    #: Of the state at `applied_index`, 32 bytes.
    digest: bytes
    #: Encoded by the node; opaque here, as is `extra`.
    membership: bytes
    extra: bytes = b""
    #: Set by an install only.
    install: InstallMark | None = None


class TermRun(msgspec.Struct, frozen=True, gc=False):
    """Entries from `first_index` on, up to the next run, have `term`."""

    first_index: Index
    term: Term


class LogRecovery(msgspec.Struct, frozen=True):
    """What log.db held at start."""

    hard_state: HardState
    #: The highest commit index stored, never beyond `last_index`.
    commit: Index
    #: One past the last entry cut away; `last_index` is one less in an empty log.
    first_index: Index
    last_index: Index
    #: Of the entry before the first; 0 at the very start.
    previous_term: Term
    #: By rising index, one per change of term.
    term_runs: tuple[TermRun, ...]
    #: The newest entries, in order, as many as fit the bytes asked for.
    tail: tuple[Entry, ...]
    #: Entries of an unfinished last write that were damaged and removed.
    removed_count: int = 0


class Sizes(msgspec.Struct, frozen=True, gc=False):
    """Bytes of live chunks in state.db."""

    base_bytes: int
    delta_bytes: int

    @property
    def is_merge_due(self) -> bool:
        """Tell whether the deltas outweigh the base."""
        return self.delta_bytes > max(self.base_bytes, _MERGE_BYTES_MIN)
