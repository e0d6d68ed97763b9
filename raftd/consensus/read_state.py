"""Reads under way in one core, as a leader and as a follower: book-keeping only.

Rules: what a read needs, and in which order, is decided in `reads`; here every read is
kept exactly once until it is done or failed.

Source: rule 33.
"""

from dataclasses import dataclass

from raftd.consensus.types import Index, NodeId

__all__ = ["PendingRead", "ReadState"]


@dataclass(frozen=True, slots=True)
class PendingRead:
    """A read that the leader has not confirmed yet."""

    #: Who asked: this node, or a follower.
    src: NodeId
    ctx: int
    #: The commit index when it arrived.
    index: Index


class ReadState:
    """Where each read is."""

    __slots__ = (
        "_asked",
        "_asked_count",
        "_request_id",
        "acks",
        "done",
        "failed",
        "in_round",
        "queued",
        "round_id",
        "unsent",
    )

    def __init__(self, request_id: int) -> None:
        #: Leader: the newest confirmation round; never counts back.
        self.round_id = 0
        #: Leader: arrived since that round began; they share the next one.
        self.queued: list[PendingRead] = []
        #: Leader: waiting for that round. Empty: no round is under way.
        self.in_round: list[PendingRead] = []
        #: Leader: who confirmed that round.
        self.acks: dict[NodeId, bool] = {}
        #: Follower: not yet sent to the leader.
        self.unsent: list[int] = []
        #: Follower: request id -> (tick at which it is given up, the reads in it).
        self._asked: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._asked_count = 0
        #: Follower: the newest request id. Starts at random, so that an answer meant
        #: for this node's life before a restart answers nothing (etcd#20418).
        self._request_id = request_id
        #: To be reported: (ctx, index), and ctx.
        self.done: list[tuple[int, Index]] = []
        self.failed: list[int] = []

    @property
    def pending_count(self) -> int:
        """How many reads are neither done nor failed."""
        leading = len(self.queued) + len(self.in_round)
        return leading + len(self.unsent) + self._asked_count

    def ask(self, until_tick: int) -> int:
        """Make one request of all that is unsent; return its id."""
        self._request_id += 1
        self._asked[self._request_id] = (until_tick, tuple(self.unsent))
        self._asked_count += len(self.unsent)
        self.unsent.clear()
        return self._request_id

    def answer(self, request_id: int, index: Index) -> None:
        """Finish the reads of a request; an unknown one was given up."""
        asked = self._asked.pop(request_id, None)
        if asked is not None:
            self._asked_count -= len(asked[1])
            self.done.extend((ctx, index) for ctx in asked[1])

    def expire(self, tick: int) -> None:
        """Fail requests whose time is over; they are in order of time."""
        while self._asked:
            request_id, (until, ctxs) = next(iter(self._asked.items()))
            if until > tick:
                return
            del self._asked[request_id]
            self._asked_count -= len(ctxs)
            self.failed.extend(ctxs)

    def fail_asked(self) -> None:
        """Fail everything asked of the leader."""
        for _, ctxs in self._asked.values():
            self.failed.extend(ctxs)
        self._asked.clear()
        self._asked_count = 0

    def fail_as_follower(self) -> None:
        """Fail everything asked, or to be asked, of the leader."""
        self.fail_asked()
        self.failed.extend(self.unsent)
        self.unsent.clear()

    def fail_as_leader(self, self_id: NodeId) -> None:
        """Fail this node's reads. Others learn it from the change, or give up."""
        for read in (*self.in_round, *self.queued):
            if read.src == self_id:
                self.failed.append(read.ctx)
        self.in_round = []
        self.queued = []
        self.acks = {}
