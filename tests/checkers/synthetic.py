"""Histories without a cluster: clients of a virtual time, one log, one state machine.

Callers are generators (`synthetic_callers`); what they ask travels, is put in an entry
and applied, and the answer travels back; some requests and some answers are lost. So
every history is legal, and as full of everything as a checker wants it; equal seeds
give equal histories.

Source: RELIABILITY.md section 4.
"""

from __future__ import annotations

import random
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final, assert_never

import msgspec

from raftd.statemachine.answers import Pending
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import encode_batch, seal
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened
from tests.checkers.logbook import outcome_of, plain
from tests.checkers.recorder import Recorder
from tests.checkers.records import FinalState, Meta
from tests.checkers.synthetic_callers import ROLES, Ask, Pause, Read, Reply
from tests.checkers.synthetic_watchers import Watching

if TYPE_CHECKING:
    from raftd.statemachine.answers import Answer, AppliedEntry
    from tests.checkers.history import History
    from tests.checkers.parts import Fields
    from tests.checkers.synthetic_callers import Script

__all__ = ["Client", "Synthetic", "synthesize"]

_ENTRY_US: Final = 3000
_RENEW_US: Final = 300_000
_WALL_MS: Final = 1_700_000_000_000
_AGAIN: Final = 0.03
"""Share of requests that come a second time."""
TTL_MS: Final = 2000


class Client:
    """A caller with its session."""

    def __init__(self, name: str, role: str) -> None:
        self.name: Final = name
        self.role: Final = role
        self.lives = 0
        self.session = 0
        self.number = 0
        self.renewed_us = 0
        self.is_awake = True
        self.script: Script | None = None

    @property
    def who(self) -> str:
        """The name that the history has for it now."""
        return f"{self.name}.{self.lives}"


class _Sent(msgspec.Struct):
    """A request on its way, or one whose answer is."""

    client: Client
    op: int
    session: int
    number: int
    asked: Ask | Read
    is_answer_lost: bool


def synthesize(seed: int, *, seconds: float = 12.0, losses: float = 0.01) -> History:
    """Return a legal history.

    Args:
        seed: Of all chance in it.
        seconds: Of virtual time.
        losses: Share of requests, and of answers, that are lost.
    """
    return Synthetic(seed, losses).run(int(seconds * 1_000_000))


class Synthetic:
    """One run."""

    def __init__(self, seed: int, losses: float) -> None:
        self.rng: Final = random.Random(seed)
        self.now_us = 1_000_000
        self.machine: Final = Machine()
        meta = Meta(made_by="synthetic", seed=seed)
        self.recorder: Final = Recorder(lambda: self.now_us, meta)
        self.clients: Final[list[Client]] = []
        self.watching: Final = Watching(self)
        self._losses: Final = losses
        self._log: Final[list[tuple[int, int, bytes]]] = []
        self._events: Final[list[tuple[int, int, Any]]] = []
        self._turn = 0
        self._arrived: list[_Sent] = []
        self._waiting: Final[dict[int, _Sent]] = {}
        self._again: list[tuple[int, int, Ask]] = []
        self._guards: Final[dict[str, int]] = {}
        self.calls = 0
        """Of all who use single keys."""

    # --- the run -------------------------------------------------------------------

    def run(self, length_us: int) -> History:
        """Let all callers run, then read what is there."""
        for role, (count, _) in ROLES.items():
            for number in range(count):
                self._add(Client(f"{role}{number}", role))
        self._later(_ENTRY_US, self._entry)
        self.watching.begin()
        end_us = self.now_us + length_us
        while self._events and self.now_us < end_us:
            self.now_us, _, work = heappop(self._events)
            work()
        self._arrived.clear()
        self._apply([])
        self.watching.end()
        self.recorder.log(self._log)
        self.recorder.final(self._final())
        return self.recorder.history()

    def _later(self, delay_us: int, work: Any) -> None:
        self._turn += 1
        heappush(self._events, (self.now_us + delay_us, self._turn, work))

    def later(self, low_us: int, high_us: int, work: Any) -> None:
        """Do something after a while."""
        self._later(self.rng.randrange(low_us, high_us), work)

    def _add(self, client: Client) -> None:
        self.clients.append(client)
        self.renew_session(client)
        client.script = ROLES[client.role][1](self, client)
        self.later(1000, 50_000, lambda: self._resume(client, None))

    def renew_session(self, client: Client) -> None:
        """Open a session for a client, in no time."""
        args = {"ttl_ms": TTL_MS}
        op = self.recorder.begin(client.who, "open_session", args)
        command = OpenSession(self.rng.randbytes(16), TTL_MS, client.name)
        answer = self._apply([(0, 0, Ask(command))])[0][0]
        assert isinstance(answer, SessionOpened)
        client.session, client.number = answer.session, 0
        client.renewed_us, client.is_awake = self.now_us, True
        self.now_us += 500
        self.recorder.end(
            op, "ok", revision=self.machine.revision, answer=plain(answer)
        )

    def guard(self, name: str, who: str, token: int) -> None:
        """Write to what a lock guards: tokens below the highest one are refused."""
        accepted = token >= self._guards.get(name, 0)
        if accepted:
            self._guards[name] = token
        self.recorder.guarded(f"disk of {name}", name, who, token, accepted=accepted)

    # --- the log -------------------------------------------------------------------

    def _apply(
        self, requests: list[tuple[int, int, Ask]]
    ) -> tuple[list[Answer], AppliedEntry]:
        """Apply an entry with the renewals that are due."""
        now_ms = self.now_us // 1000
        renewals = []
        for client in self.clients:
            is_due = self.now_us - client.renewed_us >= _RENEW_US
            if client.is_awake and client.session and is_due:
                client.renewed_us = self.now_us
                renewals.append(client.session)
        sealed = [
            seal(session, number, 0, ask.command, tuple(ask.fences))
            for session, number, ask in requests
        ]
        payload = encode_batch(
            now_ms, 1_700_000_000_000 + now_ms, tuple(renewals), sealed
        )
        self._log.append((len(self._log) + 1, 1, payload))
        applied = self.machine.apply(len(self._log), payload)
        if applied.record is not None:
            self.watching.take(applied.record.events)
        return applied.answers, applied

    def _entry(self) -> None:
        self._later(_ENTRY_US, self._entry)
        arrived, self._arrived = self._arrived, []
        batch: list[_Sent] = []
        requests: list[tuple[int, int, Ask]] = []
        reads: list[tuple[_Sent, Read]] = []
        for sent in arrived:
            match sent.asked:
                case Ask() as ask:
                    batch.append(sent)
                    requests.append((sent.session, sent.number, ask))
                case Read() as read:
                    reads.append((sent, read))
        answers, applied = self._apply([*requests, *self._again])
        self._again = [each for each in requests if self.rng.random() < _AGAIN]
        for sent, answer, revision in zip(
            batch, answers, applied.revisions, strict=False
        ):
            if isinstance(answer, Pending):
                self._waiting[answer.ticket] = sent
            else:
                self._answered(sent, answer, revision)
        for decided in applied.decided:
            waiting = self._waiting.pop(decided.ticket, None)
            if waiting is not None:
                self._answered(waiting, decided.answer, self.machine.revision)
        for sent, read in reads:
            self._returned(sent, Reply("ok", read.read(self.machine)))

    def _answered(self, sent: _Sent, answer: Answer, revision: int) -> None:
        said = outcome_of(answer)
        error = said.get("error", "")
        reply = Reply(said["outcome"], said.get("answer", {}), error, revision)
        if isinstance(sent.asked, Ask):
            reply = sent.asked.answered(reply)
        self._returned(sent, reply)

    # --- callers -------------------------------------------------------------------

    def _resume(self, client: Client, reply: Reply | None) -> None:
        assert client.script is not None
        asked = client.script.send(reply) if reply else next(client.script)
        if isinstance(asked, Pause):
            self._later(asked.us, lambda: self._resume(client, None))
            return
        session = number = 0
        match asked:
            case Ask():
                client.number += 1
                session, number = client.session, client.number
                op = self.recorder.begin(client.who, *asked.told)
                self.recorder.sent(op, session, number, {})
            case Read(name=name, args=args):
                op = self.recorder.begin(client.who, name, args)
            case _:
                assert_never(asked)
        is_answer_lost = self.rng.random() < self._losses
        sent = _Sent(client, op, session, number, asked, is_answer_lost)
        if self.rng.random() < self._losses:
            self.later(5000, 9000, lambda: self._lost(sent))
            return
        self.later(200, 4000, lambda: self._arrived.append(sent))

    def _returned(self, sent: _Sent, reply: Reply) -> None:
        revision = reply.revision or self.machine.revision
        if sent.is_answer_lost:
            self.later(5000, 9000, lambda: self._lost(sent))
            return
        self.later(200, 4000, lambda: self._noted(sent, reply, revision))

    def _noted(self, sent: _Sent, reply: Reply, revision: int) -> None:
        outcome = "refused" if reply.outcome == "refused" else "ok"
        self.recorder.end(
            sent.op,
            outcome,  # type: ignore[arg-type]  # one of the two literals
            error=reply.error,
            revision=revision,
            answer=reply.answer if outcome == "ok" else {},
        )
        self._resume(sent.client, reply)

    def _lost(self, sent: _Sent) -> None:
        self.recorder.end(sent.op, "unknown")
        sent.client.lives += 1
        self._resume(sent.client, Reply("unknown", {}))

    # --- the end -------------------------------------------------------------------

    def _final(self) -> FinalState:
        machine = self.machine
        page = machine.kv.range(b"", b"", 10_000)
        assert not isinstance(page, Refusal)
        return FinalState(
            revision=machine.revision,
            keys=[plain(item) for item in page.items],
            locks=self._locks(),
            elections=[
                {"name": name, "epoch": machine.elections.current_token(name)}
                for name in machine.elections.names()
            ],
            jobs=self._jobs(),
            queues=self._queues(),
            digests={"1": machine.digest.hex(), "2": machine.digest.hex()},
        )

    def _locks(self) -> list[Fields]:
        found: list[Fields] = []
        for name in self.machine.locks.names():
            view = self.machine.locks.inspect(name)
            assert view is not None
            holders = [
                {"claimant": each.claimant, "token": each.token}
                for each in view.holders
            ]
            found.append({"name": name, "holders": holders})
        return found

    def _jobs(self) -> list[Fields]:
        queues = self.machine.queues
        found: list[Fields] = []
        for name in queues.list_queues():
            page = queues.list_jobs(name, limit=100_000)
            assert page is not None
            found.extend(
                {
                    "job": view.id,
                    "queue": view.queue,
                    "state": JobState(view.state).name,
                    "attempt": view.attempt,
                    "delivery": view.delivery,
                    "crashes": view.crashes,
                }
                for view in page.jobs
            )
        return found

    def _queues(self) -> list[Fields]:
        queues = self.machine.queues
        found: list[Fields] = []
        for name in queues.list_queues():
            stats = queues.stats(name)
            assert stats is not None
            counts = {
                state.name.lower(): count for state, count in stats.counts.items()
            }
            totals = {
                "enqueued_total": stats.enqueued,
                "completed_total": stats.completed,
            }
            found.append({"name": name, **counts, **totals})
        return found
