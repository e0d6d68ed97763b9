"""Sessions: a lease each, and the window of answers that makes a write count once.

Rules:
* A number at or below the acknowledged one is stale and never applied. A number in the
  window gets its first answer if the request's checksum is equal, the same ticket if it
  still waits, and else ``NUMBER_REUSED``. Any other number is applied; holes are legal.
* The first answer may be a refusal. Only ``TOO_MANY`` for lack of room leaves no trace,
  so that the same number can be sent again.
* Expiry ends claims, not memory: the window stays, closed, for ``dedup_ms``. A clean
  close drops it. A closed session's key opens nothing: its client may still re-send
  numbers, and a silent new session under the key would apply them a second time. It
  must draw a new key, knowing what it lost.

Source: SEMANTICS.md section 1 (numbers); RELIABILITY.md rule 47.
"""

from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from raftd.statemachine import refusals
from raftd.statemachine.answers import Answer, Pending
from raftd.statemachine.context import Context
from raftd.statemachine.loading import in_steps
from raftd.statemachine.module import EndReason, Handlers, Module
from raftd.statemachine.schema.base import Reason, Refusal, Result
from raftd.statemachine.schema.entry import AnyResult, Request
from raftd.statemachine.schema.jobs import JobsReserved
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionOpened,
)
from raftd.statemachine.tables import Rank, RowKey, Table
from raftd.statemachine.timers import TimerId
from raftd.statemachine.window import ANSWER_BYTES, Window

__all__ = ["LeaseBook", "SessionView", "Sessions"]

_KEY_HASH_BYTES: Final = 16
_SIZE_BYTES: Final = 400
_FORGET: Final = 0
_SESSIONS: Final = int(Table.SESSIONS)  # an enum's member costs a look-up each time

_Stored = tuple[
    bytes, int, int | None, list[tuple[int, int, AnyResult | Refusal | Pending]]
]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class LeaseBook(Protocol):
    """What sessions ask of leases beyond what every module may."""

    def grant(self, ttl_ms: int, claimant: str, *, is_session: bool) -> int | Refusal:
        """Begin a lease and return its id, or say why not."""

    def renew(self, lease: int) -> bool:
        """Set the deadline to now + ttl; False if the lease is not alive."""

    def end(self, lease: int, reason: EndReason) -> int:
        """End a live lease and all that hangs on it."""

    def ttl_ms(self, lease: int) -> int:
        """Return the ttl of a live lease."""


class SessionView(msgspec.Struct, frozen=True, gc=False):
    """A session as a reader sees it."""

    session: int
    is_closed: bool
    acknowledged: int
    answers: int
    window_bytes: int


class _Session:
    __slots__ = ("closed_at_ms", "key_hash", "window")

    def __init__(self, key_hash: bytes) -> None:
        self.key_hash = key_hash
        self.closed_at_ms: int | None = None
        self.window = Window()


class Sessions(Module):
    """All sessions, the closed ones included while their windows are kept."""

    rank = Rank.SESSIONS
    tables = (Table.SESSIONS,)

    def __init__(self, context: Context, leases: LeaseBook) -> None:
        super().__init__(context)
        self._leases: Final = leases
        self._sessions: dict[int, _Session] = {}
        self._by_hash: dict[bytes, int] = {}
        self._waiting: dict[int, tuple[int, int]] = {}
        """Ticket -> (session, number) of a pending answer in a window."""
        self._closed_count = 0
        self._admitted = Window()
        """Of the write that runs."""
        limits = context.limits
        self._mark: Final = context.mark
        bulky_bytes_max = limits.window_bytes_max // 2
        self._room: Final = min(
            limits.window_answers_max, bulky_bytes_max // ANSWER_BYTES
        )
        """So many answers fit in any case while they are not bulkier than this:"""
        self._bulky_room_bytes: Final = bulky_bytes_max

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {OpenSession: self._open, CloseSession: self._close}

    # --- numbered writes ---------------------------------------------------------

    def admit(self, request: Request) -> Answer | None:
        """Judge a numbered write before it runs.

        Returns:
            None if it must be applied and its answer kept, else its answer.
        """
        number_of_session = request.session
        session = self._sessions.get(number_of_session)
        if session is None:
            return Refusal(
                Reason.SESSION_UNKNOWN,
                f"session {number_of_session} is unknown here",
                {"session": str(number_of_session)},
            )
        self._mark(_SESSIONS, number_of_session)
        window = session.window
        number = request.number
        if request.acknowledged > window.acknowledged:
            for ticket in window.acknowledge(request.acknowledged):
                self._waiting.pop(ticket, None)
        answers = window.answers
        if (
            number <= window.acknowledged
            or number in answers
            or session.closed_at_ms is not None
            or len(answers) >= self._room
            or window.bulky_bytes >= self._bulky_room_bytes
        ):
            answer = self._judge(request, session, window)
            if answer is not None:
                return answer
        self._admitted = window
        return None

    def _judge(
        self, request: Request, session: _Session, window: Window
    ) -> Answer | None:
        number = request.number
        if number <= window.acknowledged:
            return Refusal(
                Reason.STALE_NUMBER,
                f"number {number} was answered before, up to {window.acknowledged}",
                {"number": str(number), "acknowledged": str(window.acknowledged)},
            )
        first = window.find(number)
        if first is not None:
            checksum, answer = first
            if checksum == request.checksum:
                return answer
            return Refusal(
                Reason.NUMBER_REUSED,
                f"number {number} was used before for another request",
                {"number": str(number)},
            )
        if session.closed_at_ms is not None:
            return refusals.session_expired(request.session)
        limits = self.context.limits
        if len(window) >= limits.window_answers_max:
            return refusals.too_many(
                "answers that the client has not acknowledged",
                "window_answers_max",
                limits.window_answers_max,
            )
        if window.size_bytes >= limits.window_bytes_max:
            return refusals.too_many(
                "bytes of answers that the client has not acknowledged",
                "window_bytes_max",
                limits.window_bytes_max,
            )
        return None

    def keep(self, request: Request, answer: Answer) -> None:
        """Put the first answer of the write just admitted into its window."""
        if type(answer) is Pending:
            self._waiting[answer.ticket] = (request.session, request.number)
        elif type(answer) is JobsReserved and not answer.jobs:
            return  # nothing was taken: asked again, it may take something
        self._admitted.put(request.number, request.checksum, answer)

    def resolve(self, ticket: int, answer: Result | Refusal) -> tuple[int, int]:
        """Replace a pending answer by the one that ended the wait.

        Returns:
            Session and number of the write, zeros if none was numbered.
        """
        waiting = self._waiting.pop(ticket, None)
        if waiting is None:
            return 0, 0
        session, number = waiting
        self.context.mark(_SESSIONS, session)
        self._sessions[session].window.replace(number, answer)
        return waiting

    # --- reads -------------------------------------------------------------------

    def find(self, key_hash: bytes) -> int:
        """Return the session of a key, 0 if there is none (closed ones count)."""
        return self._by_hash.get(key_hash, 0)

    def key_hash(self, session: int) -> bytes | None:
        """Return the hash of a session's key, None for an unknown session."""
        found = self._sessions.get(session)
        return found.key_hash if found is not None else None

    def view(self, session: int) -> SessionView | None:
        """Describe a session."""
        found = self._sessions.get(session)
        if found is None:
            return None
        return SessionView(
            session,
            found.closed_at_ms is not None,
            found.window.acknowledged,
            len(found.window),
            found.window.size_bytes,
        )

    def answer(self, session: int, number: int) -> Answer | None:
        """Return what the window holds under a number, None if nothing."""
        found = self._sessions.get(session)
        first = found.window.find(number) if found is not None else None
        return first[1] if first is not None else None

    def number_max(self, session: int) -> int:
        """Return the highest number a session has used, 0 = none."""
        found = self._sessions.get(session)
        return found.window.number_max if found is not None else 0

    def is_closed(self, session: int) -> bool:
        """Tell whether this is a session whose claims have ended."""
        found = self._sessions.get(session)
        return found is not None and found.closed_at_ms is not None

    def closed_count(self) -> int:
        """Return how many windows of closed sessions are remembered."""
        return self._closed_count

    # --- life --------------------------------------------------------------------

    def _open(self, command: OpenSession) -> Answer:
        if len(command.key_hash) != _KEY_HASH_BYTES:
            return Refusal(
                Reason.INVALID_REQUEST,
                f"a session's key hash has {_KEY_HASH_BYTES} bytes, not"
                f" {len(command.key_hash)}",
            )
        session = self._by_hash.get(command.key_hash)
        if session is not None:
            if self._sessions[session].closed_at_ms is not None:
                return refusals.session_expired(session)
            self._leases.renew(session)
            return SessionOpened(session, self._leases.ttl_ms(session), is_new=False)
        granted = self._leases.grant(command.ttl_ms, command.claimant, is_session=True)
        if isinstance(granted, Refusal):
            return granted
        context = self.context
        context.mark(_SESSIONS, granted)
        context.journal.item(self._sessions, granted)
        self._sessions[granted] = _Session(command.key_hash)
        context.journal.item(self._by_hash, command.key_hash)
        self._by_hash[command.key_hash] = granted
        context.size_bytes += _SIZE_BYTES
        return SessionOpened(granted, command.ttl_ms, is_new=True)

    def _close(self, command: CloseSession) -> Answer:
        found = self._sessions.get(command.session)
        if found is not None:
            self.context.rev()
            if found.closed_at_ms is None:
                self._leases.end(command.session, EndReason.CLOSED)
            else:
                self._forget(command.session)
        return SessionClosed()

    def session_ended(self, session: int, reason: EndReason) -> None:
        """Close the window, or drop it after a clean close."""
        if reason is EndReason.CLOSED:
            self._forget(session)
            return
        context = self.context
        context.mark(_SESSIONS, session)
        found = self._sessions[session]
        context.journal.attribute(found, "closed_at_ms")
        found.closed_at_ms = context.now_ms
        context.journal.attribute(self, "_closed_count")
        self._closed_count += 1
        self._arm(session, found.closed_at_ms)

    def _forget(self, session: int) -> None:
        context = self.context
        context.mark(_SESSIONS, session)
        context.journal.item(self._sessions, session)
        found = self._sessions.pop(session)
        context.journal.item(self._by_hash, found.key_hash)
        del self._by_hash[found.key_hash]
        if found.closed_at_ms is not None:
            context.journal.attribute(self, "_closed_count")
            self._closed_count -= 1
        for ticket in found.window.tickets():
            context.journal.item(self._waiting, ticket)
            del self._waiting[ticket]
        context.size_bytes -= _SIZE_BYTES

    def _arm(self, session: int, closed_at_ms: int) -> None:
        self.context.timers.lease.arm(
            closed_at_ms + self.context.limits.dedup_ms, self.rank, (_FORGET, session)
        )

    # --- timers and rows ---------------------------------------------------------

    def timer_deadline(self, timer: TimerId) -> int | None:
        """Return when a closed session's window is forgotten."""
        found = self._sessions.get(_id(timer[1]))
        if found is None or found.closed_at_ms is None:
            return None
        return found.closed_at_ms + self.context.limits.dedup_ms

    def fire(self, timer: TimerId) -> int:
        """Forget a closed session."""
        self.context.rev()
        self._forget(_id(timer[1]))
        return 1

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode a session with its whole window."""
        assert table == Table.SESSIONS
        found = self._sessions.get(_id(key))
        if found is None:
            return None
        window = found.window
        return _encode(
            (found.key_hash, window.acknowledged, found.closed_at_ms, window.stored())
        )

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up a session and its window."""
        assert table == Table.SESSIONS
        session = _id(key)
        key_hash, acknowledged, closed_at_ms, answers = _decode(value)
        found = _Session(key_hash)
        found.closed_at_ms = closed_at_ms
        found.window.acknowledged = acknowledged
        for number, checksum, answer in answers:
            found.window.put(number, checksum, answer)
            if isinstance(answer, Pending):
                self._waiting[answer.ticket] = (session, number)
        self._sessions[session] = found
        self._by_hash[key_hash] = session

    def loaded(self) -> Iterator[None]:
        """Arm the timers of closed sessions, and count them."""
        return in_steps(self._sessions, self._arm_loaded)

    def _arm_loaded(self, session: int) -> None:
        closed_at_ms = self._sessions[session].closed_at_ms
        if closed_at_ms is not None:
            self._closed_count += 1
            self._arm(session, closed_at_ms)


def _id(key: RowKey) -> int:
    assert isinstance(key, int)
    return key
