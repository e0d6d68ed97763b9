"""What the scripted cluster does with requests: a tiny state, and a record of all.

Only what tests of the client look at is real: numbers are applied once, a lock has one
holder and a line, jobs are handed out in order. One lock guards everything, and every
change wakes who waits with ``until``.
"""

from __future__ import annotations

import dataclasses
import enum
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from raftpb.v1 import common_pb2, locks_pb2, queues_pb2, sessions_pb2

CLUSTER_ID = bytes(range(16))


class Act(enum.Enum):
    """What the cluster does with a write."""

    ANSWER = "apply and answer"
    HOLD = "neither, until released"
    APPLY_AND_CUT = "apply, then break the stream instead of answering"
    CUT = "break the stream, apply nothing"


Behave = Callable[[sessions_pb2.StreamRequest], "Act | common_pb2.Refusal"]


def refusal(reason: str, applied: str = "no", **details: str) -> common_pb2.Refusal:
    """Build a refusal."""
    return common_pb2.Refusal(
        reason=reason, message=f"refused: {reason}", applied=applied, details=details
    )


@dataclasses.dataclass
class FakeSession:
    """A session and the answers that its window holds."""

    session_id: int
    key: bytes
    ttl_ms: int
    is_closed: bool = False
    acknowledged: int = 0
    answers: dict[int, sessions_pb2.StreamReply] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True)
class Applied:
    """A write that took effect."""

    session_id: int
    number: int
    kind: str
    body: Any


class FakeState:
    """See the module."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.revision = 100
        self.sessions: dict[int, FakeSession] = {}
        self.applied: list[Applied] = []
        self.keys: dict[bytes, bytes] = {}
        self.leases: dict[int, int] = {}
        """The ttl, in milliseconds, of each that was granted."""
        self.renewals: list[int] = []
        self.extensions: list[int] = []
        self.renews = True
        self.extends = True
        self.extension_ms = 600
        self.wants_cancel = False
        self.behave: Behave = lambda request: Act.ANSWER
        self.leaderless_keys: set[bytes] = set()
        self.full_keys: set[bytes] = set()
        """Unary puts of these are refused for lack of a leader."""
        self.lock_holders: dict[str, int] = {}
        self.lock_line: deque[tuple[str, Callable[[int], None]]] = deque()
        self.jobs: deque[queues_pb2.ReservedJob] = deque()
        self.reserve_line: deque[
            tuple[queues_pb2.ReserveJobsRequest, Callable[[], None]]
        ] = deque()

    def until(self, condition: Callable[[], object], timeout_s: float = 60.0) -> None:
        """Wait until something is so; blocks its thread."""
        with self.changed:
            if not self.changed.wait_for(condition, timeout_s):
                raise AssertionError("it did not come to that in time")

    def next_revision(self) -> int:
        """Draw a number."""
        self.revision += 1
        return self.revision

    def open(self, key: bytes, ttl_ms: int) -> FakeSession | common_pb2.Refusal:
        """Open a session, or find it."""
        for session in self.sessions.values():
            if session.key == key:
                if session.is_closed:
                    return refusal("SESSION_EXPIRED")
                return session
        found = FakeSession(self.next_revision(), key, ttl_ms)
        self.sessions[found.session_id] = found
        self.changed.notify_all()
        return found

    def expire_all(self) -> None:
        """End every session, keeping the windows."""
        with self.changed:
            for session in self.sessions.values():
                session.is_closed = True

    def forget_all(self) -> None:
        """End every session and its window."""
        with self.changed:
            self.sessions.clear()

    def of_kind(self, kind: str) -> list[Any]:
        """Return the bodies of the applied writes of a kind, in order."""
        return [each.body for each in self.applied if each.kind == kind]

    # --- numbered writes ---------------------------------------------------------

    def write(
        self,
        session: FakeSession,
        request: sessions_pb2.StreamRequest,
        answer: Callable[[sessions_pb2.StreamReply], None],
    ) -> None:
        """Apply a numbered write once, and answer it, now or later."""
        first = session.answers.get(request.number)
        if first is not None:
            answer(first)
            return
        if request.number <= session.acknowledged:
            reply = sessions_pb2.StreamReply(refusal=refusal("STALE_NUMBER", "unknown"))
            answer(reply)
            return
        if session.is_closed:
            reply = sessions_pb2.StreamReply(refusal=refusal("SESSION_EXPIRED"))
            answer(reply)
            return

        def decided(reply: sessions_pb2.StreamReply) -> None:
            session.answers[request.number] = reply
            answer(reply)

        kind = request.WhichOneof("body")
        assert kind is not None, "a request has a body"
        body = getattr(request, kind)
        self.applied.append(Applied(session.session_id, request.number, kind, body))
        self._apply(kind, body, decided)
        self.changed.notify_all()

    def _apply(
        self,
        kind: str,
        body: Any,
        decided: Callable[[sessions_pb2.StreamReply], None],
    ) -> None:
        reply = sessions_pb2.StreamReply(revision=self.next_revision())
        match kind:
            case "acquire_lock":
                self._acquire(body, decided)
                return
            case "reserve_jobs":
                self._reserve(body, decided)
                return
            case "put_key":
                self.keys[body.key] = body.value
                reply.put_key.mod_rev = self.revision
            case "increment_key":
                total = int(self.keys.get(body.key, b"0")) + body.by
                self.keys[body.key] = str(total).encode()
                reply.increment_key.value = total
            case "release_lock":
                reply.release_lock.SetInParent()
                self._release(body.name, body.token)
            case "cancel_acquire":
                reply.cancel_acquire.SetInParent()
            case "grant_lease":
                reply.grant_lease.lease_id = self.revision
                reply.grant_lease.ttl_ms = body.ttl_ms
                self.leases[self.revision] = body.ttl_ms
            case "campaign":
                reply.campaign.epoch = self.revision
            case _:
                getattr(reply, kind).SetInParent()
        decided(reply)

    # --- locks -------------------------------------------------------------------

    def _acquire(
        self,
        body: locks_pb2.AcquireLockRequest,
        decided: Callable[[sessions_pb2.StreamReply], None],
    ) -> None:
        def grant(token: int) -> None:
            self.lock_holders[body.name] = token
            reply = sessions_pb2.StreamReply(revision=token)
            reply.acquire_lock.token = token
            decided(reply)

        if body.name not in self.lock_holders:
            grant(self.next_revision())
        elif body.HasField("wait_ms") and body.wait_ms == 0:
            decided(sessions_pb2.StreamReply(refusal=refusal("LOCK_HELD")))
        else:
            self.lock_line.append((body.name, grant))

    def _release(self, name: str, token: int) -> None:
        if self.lock_holders.get(name) != token:
            return
        del self.lock_holders[name]
        for waiter in self.lock_line:
            if waiter[0] == name:
                self.lock_line.remove(waiter)
                waiter[1](self.next_revision())
                return

    # --- jobs --------------------------------------------------------------------

    def enqueue(self, *payloads: bytes, reservation_ms: int = 30_000) -> None:
        """Make jobs ready, and hand them to who waits."""
        with self.changed:
            for payload in payloads:
                number = self.next_revision()
                self.jobs.append(
                    queues_pb2.ReservedJob(
                        job_id=number,
                        token=number + 1000,
                        queue="q",
                        payload=payload,
                        delivery=1,
                        reservation_ms=reservation_ms,
                    )
                )
            while self.reserve_line and self.jobs:
                _, hand_out = self.reserve_line.popleft()
                hand_out()
            self.changed.notify_all()

    def _reserve(
        self,
        body: queues_pb2.ReserveJobsRequest,
        decided: Callable[[sessions_pb2.StreamReply], None],
    ) -> None:
        def hand_out() -> None:
            reply = sessions_pb2.StreamReply(revision=self.revision)
            reply.reserve_jobs.SetInParent()
            while self.jobs and len(reply.reserve_jobs.jobs) < body.jobs_max:
                reply.reserve_jobs.jobs.append(self.jobs.popleft())
            decided(reply)

        if self.jobs or body.wait_ms == 0:
            hand_out()
        else:
            self.reserve_line.append((body, hand_out))
