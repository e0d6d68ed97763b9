"""What a leader knows of one follower, and how much it may send it.

Rules:

* PROBE: the follower's log is unknown; one append at a time, the next one after its
  reply or after the reply to a regular heartbeat.
* REPLICATE: appends are sent ahead of their replies, within a window bounded in
  messages and in bytes; `next_index` runs ahead of `match_index`.
* SNAPSHOT: what it needs is no longer in the log; nothing is sent but heartbeats.
* A rejection, or an unreachable report, goes back to PROBE (rule 19).
* `match_index < next_index` always; `match_index` never falls within a term.

Source: Raft paper section 5.3; thesis 10.2.1; rules 17-20.
"""

import enum
from collections import deque

from raftd.consensus.types import Index

__all__ = ["Progress", "ProgressState"]


class ProgressState(enum.Enum):
    """How a follower is being sent the log."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One follower, as its leader sees it."""

    __slots__ = (
        "_inflight",
        "commit_sent",
        "inflight_bytes",
        "is_active",
        "is_paused",
        "is_poll_due",
        "match_index",
        "next_index",
        "snapshot_index",
        "state",
        "was_active",
    )

    def __init__(self, next_index: Index) -> None:
        self.match_index = Index(0)
        self.next_index = next_index
        self.state = ProgressState.PROBE
        #: Heard from since the last quorum check.
        self.is_active = False
        #: Heard from in the interval before the last quorum check.
        self.was_active = False
        #: In SNAPSHOT: the index of the one being sent; 0 before that began.
        self.snapshot_index = Index(0)
        #: In PROBE: an append is under way, or the link is down.
        self.is_paused = False
        #: A regular heartbeat is out whose reply may set off one more append.
        self.is_poll_due = False
        #: The commit index that the follower will know from what was sent.
        self.commit_sent = Index(0)
        #: (last index, bytes) of each unacknowledged append, oldest first.
        self._inflight: deque[tuple[Index, int]] = deque()
        self.inflight_bytes = 0

    @property
    def inflight_messages(self) -> int:
        """How many appends with entries are not acknowledged."""
        return len(self._inflight)

    def may_send(self, messages_max: int, bytes_max: int) -> bool:
        """Tell whether an append with entries may be sent now."""
        if self.state is ProgressState.REPLICATE:
            return (
                len(self._inflight) < messages_max and self.inflight_bytes < bytes_max
            )
        return self.state is ProgressState.PROBE and not self.is_paused

    def note_sent(self, last_index: Index, size_bytes: int) -> None:
        """Count an append that carries entries up to `last_index`."""
        if self.state is ProgressState.REPLICATE:
            self.next_index = Index(last_index + 1)
            self._inflight.append((last_index, size_bytes))
            self.inflight_bytes += size_bytes
        else:
            self.is_paused = True

    def note_accepted(self, index: Index, first_index: Index) -> bool:
        """Take in that the follower has everything up to `index`.

        In SNAPSHOT the log takes over again from any place that it still reaches back
        to, whichever snapshot led there (rule 31).

        Args:
            index: Durable at the follower, and equal to the leader's.
            first_index: Where the leader's log begins.

        Returns:
            Whether there may now be more to send, or to commit.
        """
        is_news = index > self.match_index
        if is_news:
            self.match_index = index
            self.next_index = max(self.next_index, Index(index + 1))
        if self.state is ProgressState.SNAPSHOT and self.match_index + 1 < first_index:
            return is_news
        if self.state is not ProgressState.REPLICATE and index >= self.match_index:
            self._enter(ProgressState.REPLICATE, Index(self.match_index + 1))
            return True
        inflight = self._inflight
        while inflight and inflight[0][0] <= index:
            self.inflight_bytes -= inflight.popleft()[1]
        return is_news

    def is_stale_rejection(self, rejected: Index) -> bool:
        """Tell whether a refusal of `rejected` answers something long superseded."""
        if self.state is ProgressState.REPLICATE:
            return rejected <= self.match_index
        return rejected != self.next_index - 1

    def note_rejected(self, retry_after: Index) -> None:
        """Probe behind `retry_after`, or behind what is known to match."""
        follow = max(self.match_index, retry_after)
        self._enter(ProgressState.PROBE, Index(follow + 1))

    def note_unreachable(self) -> None:
        """What was sent may be lost: probe, once the follower is heard again."""
        if self.state is ProgressState.SNAPSHOT:
            return
        next_index = self.next_index
        if self.state is ProgressState.REPLICATE:
            next_index = Index(self.match_index + 1)
        # A probe goes on where it is: without a match there is nothing to go back to,
        # and the log may no longer begin at 1.
        self._enter(ProgressState.PROBE, next_index)
        self.is_paused = True

    def note_cut_off(self) -> None:
        """The log no longer has what this follower needs next."""
        self._enter(ProgressState.SNAPSHOT, Index(self.match_index + 1))

    def note_snapshot_ended(self, *, is_installed: bool) -> None:
        """Probe behind the snapshot, or find out anew what the follower needs."""
        reached = self.snapshot_index if is_installed else Index(0)
        follow = max(self.match_index, reached)
        self._enter(ProgressState.PROBE, Index(follow + 1))
        # Whoever failed to take it up is asked again when it is heard again.
        self.is_paused = not is_installed

    def _enter(self, state: ProgressState, next_index: Index) -> None:
        self.state = state
        self.next_index = next_index
        self.is_paused = False
        self.snapshot_index = Index(0)
        self._inflight.clear()
        self.inflight_bytes = 0
        if state is not ProgressState.REPLICATE:
            # What told it the commit index may be among what was lost.
            self.commit_sent = Index(0)
