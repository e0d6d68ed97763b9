"""Whoever calls a cluster: a session with numbered writes, sent until each is answered.

Rules: an unanswered write goes, under its number, to any node until it is answered; a
lost session is followed by a new one only when all its writes have their end. What a
caller was told is checked at once: its write is in the log (exactly once, with this
answer), and nothing that ended before an operation began comes after it.

Source: RELIABILITY.md section 4 (revision witness, client belief) and section 6.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from raftd.node.read_queue import Query
from raftd.node.service import Answered
from raftd.statemachine.schema.base import Fence, Reason, Refusal, Result
from raftd.statemachine.schema.entry import AnyCommand, encode_answer, seal
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionOpened,
)
from tests.sim.cluster import Cluster
from tests.sim.invariants import Invariants
from tests.sim.ops import Op, Tally
from tests.sim.options import Options
from tests.sim.session import Belief, Beliefs
from tests.sim.world import SimFailure, World

__all__ = ["Caller"]

_TRY_AGAIN: Final = frozenset(
    {
        Reason.DISK_FULL,
        Reason.LEADERSHIP_LOST,
        Reason.NO_LEADER,
        Reason.NOT_LEADER,
        Reason.OVERLOADED,
    }
)
_LOST: Final = frozenset({Reason.SESSION_EXPIRED, Reason.SESSION_UNKNOWN})
_HOP_US_MAX: Final = 5000
_FULL_US: Final = 100_000
_NAP_US_MAX: Final = 500_000


class Caller(ABC):
    """One client; the sink of its own answers, at every node."""

    def __init__(
        self,
        world: World,
        caller_id: int,
        options: Options,
        nodes: Cluster,
        invariants: Invariants,
        tally: Tally,
        beliefs: Beliefs,
    ) -> None:
        """Begin to exist; ids of one run differ."""
        self._world: Final = world
        self._id: Final = caller_id
        self._options: Final = options
        self._nodes: Final = nodes
        self._model: Final = invariants.model
        self._tally: Final = tally
        self._rng: Final = world.rng(f"client/{caller_id}")
        self._belief: Final = Belief(world, invariants.model, options.ttl_ms, beliefs)
        self._node = self._rng.choice(nodes.ids())
        self._tag = 0
        self._session = 0
        self._is_lost = False
        self._key = b""
        self._next_number = 1
        self._open: Final[dict[int, Op]] = {}
        self._done: Final[dict[int, None]] = {}
        self._acknowledged = 0
        self._is_draining = False
        self._awake_us = 0
        self._more_rng: Final = world.rng(f"client/{caller_id}/more")
        self._is_leaving = False

    @property
    def is_idle(self) -> bool:
        """Whether everything it began has its end, and it holds nothing."""
        return not self._open and not self._belief.held

    @property
    def _has_duties(self) -> bool:
        """Whether it has to begin something even in the end."""
        return False

    @abstractmethod
    def _begin_some(self) -> None:
        """Begin something, or nothing."""

    @abstractmethod
    def _on_told(self, op: Op, answer: Result | Refusal) -> None:
        """Take the answer to a numbered write, which is right."""

    @abstractmethod
    def _on_read(self, op: Op, answered: Answered) -> None:
        """Check the answer to a read; its revision is right."""

    def start(self) -> None:
        """Begin to work, for ever."""
        self._next_op()
        self._renew()

    def drain(self) -> None:
        """Begin nothing more but what gives back what is held."""
        self._is_draining = True

    # --- what it does ---------------------------------------------------------------

    def _next_op(self) -> None:
        mean_us = self._options.op_interval_us
        is_opening = not self._session and self._open
        if len(self._open) >= self._options.depth or is_opening or self._is_lost:
            mean_us = max(mean_us, _FULL_US)
        delay_us = 1 + int(self._rng.expovariate(1 / mean_us))
        if not self._is_draining:
            delay_us += min(max(0, self._awake_us - self._world.now_us), _NAP_US_MAX)
        self._world.after(delay_us, f"work c{self._id}", self._next_op)
        if self._is_lost and not self._open:
            self._session, self._is_lost = 0, False
            self._belief.forget()
        if not self._session:
            if not self._open and (not self._is_draining or self._has_duties):
                self._open_session()
        elif (
            len(self._open) < self._options.depth
            and not self._is_lost
            and not self._is_asleep()
            and not self._says_goodbye()
        ):
            self._begin_some()

    def _says_goodbye(self) -> bool:
        """End the session cleanly now and then, and whatever hangs on it."""
        chance = self._options.goodbye
        if self._is_leaving:
            return True
        if self._open or self._is_draining or self._more_rng.random() >= chance:
            return False
        self._is_leaving = True
        self._belief.forget()
        self._begin(CloseSession(self._session), b"", is_numbered=False)
        return True

    def _leave(self) -> None:
        self._session, self._is_leaving = 0, False

    def _is_asleep(self) -> bool:
        """Tell whether it stands still for a while, maybe beyond its session's life."""
        if self._is_draining:
            return False
        now_us = self._world.now_us
        if now_us >= self._awake_us and self._rng.random() < self._options.sleepy:
            self._awake_us = now_us + self._rng.randrange(3000 * self._options.ttl_ms)
        return now_us < self._awake_us

    def _open_session(self) -> None:
        self._key = self._rng.randbytes(16)
        self._next_number, self._acknowledged = 1, 0
        self._done.clear()
        command = OpenSession(self._key, self._options.ttl_ms, f"c{self._id}")
        self._begin(command, b"", is_numbered=False)

    def _begin(
        self,
        command: AnyCommand | None,
        key: bytes,
        *,
        is_numbered: bool = True,
        query: Query | None = None,
        fences: tuple[Fence, ...] = (),
    ) -> None:
        self._tag += 1
        number = 0
        if command is not None and is_numbered:
            number, self._next_number = self._next_number, self._next_number + 1
        now_us = self._world.now_us
        op = Op(self._tag, number, command, key, self._tally.floor, now_us)
        op.query, op.fences = query, fences
        self._open[op.tag] = op
        self._tally.begun += 1
        self._send(op)

    # --- sending ----------------------------------------------------------------------

    def _send(self, op: Op) -> None:
        op.attempt += 1
        node_id = self._node
        if op.command is None and self._rng.random() < 0.5:
            node_id = self._rng.choice(self._nodes.asked())  # any member serves reads
        self._after(f"ask c{self._id}.{op.tag}", self._arrive, op, node_id)
        patience_us = 2 * self._options.election_us
        self._world.after(
            patience_us, f"late c{self._id}.{op.tag}", self._on_late, op, op.attempt
        )

    def _after(self, label: str, action: object, *args: object) -> None:
        assert callable(action)
        self._world.after(self._rng.randrange(_HOP_US_MAX), label, action, *args)

    def _arrive(self, op: Op, node_id: int) -> None:
        if op.tag not in self._open:
            return
        node = self._nodes[node_id]
        command, query = op.command, op.query
        if command is None:
            assert query is not None, "a read asks something"
            node.read(query, self, op.tag)
        else:
            session = self._session if op.number else 0
            known = self._acknowledged
            request = seal(session, op.number, known, command, op.fences)
            node.submit(request, self, op.tag)

    def _on_late(self, op: Op, attempt: int) -> None:
        if op.tag in self._open and op.attempt == attempt:
            self._node = self._rng.choice(self._nodes.asked())
            self._send(op)

    def _renew(self) -> None:
        interval_us = self._options.ttl_ms * 1000 // 4
        self._world.after(interval_us, f"renew c{self._id}", self._renew)
        session, sent_us = self._session, self._world.now_us
        if not session or self._is_lost or self._is_asleep():
            return
        if self._is_draining and self.is_idle:
            return  # or there would be no rest

        def done(lost: Sequence[int] | None) -> None:
            if lost is not None and session not in lost:
                self._after(f"renewed c{self._id}", self._on_renewed, session, sent_us)

        node = self._nodes[self._node]
        self._after(f"renew at n{self._node}", node.renew, session, done)

    def _on_renewed(self, session: int, sent_us: int) -> None:
        if session == self._session:
            self._belief.renewed(session, sent_us)

    # --- answers ----------------------------------------------------------------

    def answer(self, tag: int, answered: Answered) -> None:
        """Take an answer on its way back; it may be lost."""
        if self._rng.random() >= min(self._options.loss, 0.2) or self._is_draining:
            self._after(f"answer c{self._id}.{tag}", self._on_answer, tag, answered)

    def flush(self) -> None:
        """Nothing is gathered: each answer travels alone."""
        return

    def close(self, refusal: Refusal) -> None:
        """Never called: streams end above the replica."""
        raise SimFailure(f"closed: {refusal}")

    def _on_answer(self, tag: int, answered: Answered) -> None:
        op = self._open.get(tag)
        answer = answered.answer
        if op is None:
            return
        if isinstance(answer, Refusal) and answer.reason in _TRY_AGAIN:
            leader = int(answer.details.get("leader", "0"))
            self._node = leader or self._rng.choice(self._nodes.asked())
            pause_us = 20_000 + self._rng.randrange(50_000)
            self._world.after(
                pause_us, f"again c{self._id}.{tag}", self._on_late_at, op, op.attempt
            )
            return
        del self._open[tag]
        self._tally.answered += 1
        if op.command is None:
            self._on_revision(op, answered.revision, is_write=False)
            self._on_read(op, answered)
            return
        self._world.mix(
            f"told c{self._id}.{tag}", encode_answer(answer), lambda: str(answer)
        )
        if op.number:
            self._on_numbered(op, answer)
        elif isinstance(answer, SessionOpened):
            self._session = answer.session
            self._tally.sessions += 1
            self._belief.renewed(answer.session, op.sent_us)
        elif isinstance(answer, SessionClosed):
            self._leave()
        elif not isinstance(answer, Refusal) or answer.reason not in _LOST:
            raise SimFailure(f"a session is not opened: {answer}")

    def _on_late_at(self, op: Op, attempt: int) -> None:
        if op.tag in self._open and op.attempt == attempt:
            self._send(op)

    def _on_numbered(self, op: Op, answer: Result | Refusal) -> None:
        self._done[op.number] = None
        while self._acknowledged + 1 in self._done:
            self._acknowledged += 1
            del self._done[self._acknowledged]
        self._model.check_answer((self._session, op.number), answer)
        if isinstance(answer, Refusal):
            self._is_lost |= answer.reason in _LOST
        self._on_told(op, answer)

    def _on_revision(self, op: Op, revision: int, *, is_write: bool) -> None:
        if revision < op.floor + is_write:
            raise SimFailure(
                f"c{self._id}.{op.tag} shows revision {revision}, and began after"
                f" {op.floor} was seen: not linearizable"
            )
        self._tally.floor = max(self._tally.floor, revision)
