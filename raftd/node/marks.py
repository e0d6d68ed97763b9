"""When an entry is marked, and what the mark says.

Rules: a mark is due when enough was written since the last one, or for long enough, or
when it is asked for; never two at once, and none while a checkpoint is under way here.
Only the leader marks; everybody counts, because anybody may come to lead.

Source: DESIGN.md section 5 (marked entries).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftd.consensus.core import Core
from raftd.node.log_cut import LogCut
from raftd.node.settings import ReplicaSettings
from raftd.statemachine.schema.entry import MarkEntry

__all__ = ["Marks"]


class Marks:
    """The marks of one member.

    Attributes:
        may_mark: Tells whether no checkpoint is under way here.
        digest_at: The newest mark whose checkpoint is stored, 0 = none,
        digest: and its digest.
    """

    def __init__(self, core: Core, settings: ReplicaSettings) -> None:
        """Begin to count."""
        self.may_mark: Callable[[], bool] = _always
        self.digest_at = 0
        self.digest = b""
        self._core: Final = core
        self._settings: Final = settings
        self._cut: Final = LogCut(settings.log_keep_bytes)
        self.may_send_snapshots: Callable[[], bool] = _always
        """Whether every member could take one; else nobody is cut off (rule 54)."""
        self._bytes = 0
        self._due_ms = 0
        self._is_pending = False
        self._last = 0
        self._wanted = 0

    def want(self, index: int) -> None:
        """Have an entry at this index or behind it marked as soon as possible."""
        wanted = min(index, self._core.commit_index)  # or it would never be enough
        self._wanted = max(self._wanted, wanted)

    def note_stored(self, index: int, digest: bytes) -> None:
        """The checkpoint of a mark is stored."""
        self.digest_at, self.digest = index, digest

    def start_term(self, monotonic_ms: int) -> None:
        """Begin to lead: what was proposed before no longer counts."""
        self._cut.start_term()
        self._await_next(monotonic_ms)

    def _await_next(self, monotonic_ms: int) -> None:
        self._due_ms = monotonic_ms + self._settings.mark_interval_ms
        self._is_pending = False

    def note_applied(self, index: int, payload_bytes: int) -> None:
        """Count an entry that was applied."""
        self._bytes += payload_bytes
        self._cut.note_applied(index, payload_bytes)

    def note_mark(self, index: int, monotonic_ms: int) -> None:
        """A mark was applied."""
        self._bytes = 0
        self._last = index
        self._cut.note_first(self._core.first_index)
        self._await_next(monotonic_ms)

    def note_installed(self, index: int, digest: bytes, monotonic_ms: int) -> None:
        """Another's checkpoint took the place of this member's state."""
        self.note_stored(index, digest)
        self.note_mark(index, monotonic_ms)

    def due(self, monotonic_ms: int) -> MarkEntry | None:
        """Return the mark to propose now, None if none is due."""
        is_wanted = self._wanted > self._last
        if self._is_pending or not (self._bytes or is_wanted) or not self.may_mark():
            return None
        settings, core = self._settings, self._core
        if not (
            is_wanted
            or self._bytes >= settings.mark_log_bytes
            or monotonic_ms >= self._due_ms
        ):
            return None
        followers = core.followers()
        # Every disk that has the mark knows then that what it cuts is committed.
        own_index = min(core.durable_index, core.commit_index)
        cut_index = self._cut.choose(own_index, self.digest_at, followers)
        if not self.may_send_snapshots():
            needed = (follower.match_index for follower in followers.values())
            cut_index = min(cut_index, *needed, core.durable_index)
        return MarkEntry(self.digest_at, self.digest, cut_index)

    def spare(self, upto: int) -> int:
        """Return how much of a cut may be made now; see ``LogCut``."""
        return self._cut.spare(upto, self._core.followers())

    def note_proposed(self, *, is_taken: bool) -> None:
        """A mark that was due was proposed, or refused by the core."""
        self._is_pending = is_taken


def _always() -> bool:
    return True
