"""What waits to leave the core, and which writes are under way.

Rules:

* A message that promises something (a vote, a match) leaves only when what it
  promises is durable; everything else leaves at once (rule 23).
* Writes are confirmed in the order of their ids. Each remembers the term, vote and
  last index it was issued under, and only these become durable with its completion. A
  truncation lowers what the writes under way will vouch for, so a late completion
  never vouches for other entries that took the place of its own (rule 24).

Source: thesis 10.2.1; rules 23 and 24.
"""

from collections import deque
from dataclasses import dataclass

from raftd.consensus.messages import Message
from raftd.consensus.types import HardState, Index, NodeId

__all__ = ["Outbox"]


@dataclass(slots=True)
class _Issued:
    """A write under way and what its completion proves."""

    id: int
    hard_state: HardState
    last_index: Index


class Outbox:
    """Messages on their way out, writes on their way down."""

    __slots__ = (
        "_held",
        "_in_flight",
        "_last_id",
        "ack_index",
        "ack_to",
        "durable_state",
        "guarded",
        "now",
        "staged_state",
    )

    def __init__(self, hard_state: HardState) -> None:
        #: May leave at once.
        self.now: list[Message] = []
        #: Must wait until the present term and vote are durable.
        self.guarded: list[Message] = []
        #: The one append reply due: whom, and up to where the log matches. Later
        #: matches replace it, so several appends are answered once.
        self.ack_to: NodeId | None = None
        self.ack_index = Index(0)
        self.staged_state = hard_state
        self.durable_state = hard_state
        self._held: deque[tuple[int, Message]] = deque()
        self._in_flight: deque[_Issued] = deque()
        self._last_id = 0

    @property
    def has_writes_in_flight(self) -> bool:
        """Tell whether any write is not confirmed yet."""
        return bool(self._in_flight)

    def issue(self, hard_state: HardState, last_index: Index) -> int:
        """Register a new write and return its id."""
        self._last_id += 1
        self.staged_state = hard_state
        self._in_flight.append(_Issued(self._last_id, hard_state, last_index))
        return self._last_id

    def hold(self, message: Message) -> None:
        """Keep `message` back until the newest write under way is durable."""
        assert self._in_flight, "nothing to wait for"
        self._held.append((self._last_id, message))

    def forget_from(self, index: Index) -> None:
        """No write under way vouches any more for entries from `index` on."""
        for issued in self._in_flight:
            issued.last_index = min(issued.last_index, Index(index - 1))

    def complete(self, write_id: int) -> Index | None:
        """Take in that `write_id` and all before it are durable.

        Returns:
            The last index that is now durable; None if this is no news.
        """
        assert write_id <= self._last_id, "a completion of a write never issued"
        done: _Issued | None = None
        while self._in_flight and self._in_flight[0].id <= write_id:
            done = self._in_flight.popleft()
        if done is None:
            return None
        self.durable_state = done.hard_state
        while self._held and self._held[0][0] <= write_id:
            self.now.append(self._held.popleft()[1])
        return done.last_index
