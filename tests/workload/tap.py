"""A client that notes, beside each answer, what only its engine knows.

The public calls of ``raftclient`` hide the revision of some answers, the session and
number of a write, and the calls that the library makes of its own accord (a grant that
nobody waits for any more is given back). A history needs all of them, so the engine is
the production one with ears: nothing is sent, changed or repeated here.

Source: RELIABILITY.md section 4 (evidence: session and number).
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
from typing import TYPE_CHECKING, Final

from raftclient import aio
from raftclient._core import Core

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator, Sequence

    from raftclient._held import Held
    from raftclient._session import Session
    from raftclient._shared import Shared
    from raftclient._window import Call
    from raftclient.fences import Fence
    from raftpb.v1.sessions_pb2 import StreamReply, StreamRequest

__all__ = ["Note", "TappedClient", "noting"]


@dataclasses.dataclass(slots=True)
class Note:
    """What the engine did for one call of the caller's.

    Attributes:
        request: As it was last sent, with its number if it is a write.
        reply: The answer, None as long as there is none.
    """

    request: StreamRequest | None = None
    reply: StreamReply | None = None
    _session: Session | None = None
    _call: Call | None = None

    def sent(self, request: StreamRequest, session: Session | None) -> None:
        """A request was handed to a session."""
        self.request = request
        self._session = session
        self._call = None if session is None else session.window.find(request.tag)

    def moved(self, session: Session) -> None:
        """The same request is sent anew, in another session."""
        self._session = session

    @property
    def session(self) -> int:
        """The session that numbers it; 0 = none was open."""
        held = None if self._session is None else self._session.held
        return 0 if held is None else held.id

    @property
    def number(self) -> int:
        """Of a write, its number in the session; 0 = none."""
        return 0 if self.request is None else self.request.number

    @property
    def revision(self) -> int:
        """The state's when the answer was made; 0 = not known."""
        return 0 if self.reply is None else self.reply.revision

    @property
    def was_sent_again(self) -> bool:
        """Whether the answer may have been made later than the change."""
        session, call = self._session, self._call
        if session is None or session.over is not None or call is None:
            return True
        return call.unsettled_sends > 1


_noting: Final[contextvars.ContextVar[Note | None]] = contextvars.ContextVar(
    "noting", default=None
)


@contextlib.contextmanager
def noting() -> Iterator[Note]:
    """Note what the calls inside do, in one place; of several the last one counts."""
    note = Note()
    token = _noting.set(note)
    try:
        yield note
    finally:
        _noting.reset(token)


class _TappedCore(Core):
    """The production engine, with ears."""

    def __init__(
        self,
        shared: Shared,
        timeout_s: float,
        on_posted: Callable[[Note], None] | None,
    ) -> None:
        super().__init__(shared, timeout_s)
        self._on_posted: Final = on_posted
        self._lane_used: Session | None = None
        self._notes: Final[dict[int, Note]] = {}

    def write(
        self,
        request: StreamRequest,
        timeout_s: float | None,
        *,
        fences: Sequence[Fence] = (),
        held: Held | None = None,
        waits_s: float | None = 0.0,
        orphan: Callable[[StreamReply], None] | None = None,
    ) -> asyncio.Future[StreamReply]:
        """Send a numbered write, and note it."""
        future = super().write(
            request,
            timeout_s,
            fences=fences,
            held=held,
            waits_s=waits_s,
            orphan=orphan,
        )
        return self._listen(request, future)

    def read(
        self, request: StreamRequest, timeout_s: float | None
    ) -> asyncio.Future[StreamReply]:
        """Send a read, and note it."""
        return self._listen(request, super().read(request, timeout_s))

    def post(self, request: StreamRequest, *, beside_waits: bool = False) -> None:
        """Send a write that nobody waits for, and tell of it."""
        super().post(request, beside_waits=beside_waits)
        if self._on_posted is not None and not self.is_closed:
            note = Note()
            note.sent(request, self._lane_used)
            self._on_posted(note)

    def _listen(
        self, request: StreamRequest, future: asyncio.Future[StreamReply]
    ) -> asyncio.Future[StreamReply]:
        note = _noting.get()
        if note is None:
            return future
        note.sent(request, self._lane_used)
        self._notes[id(request)] = note

        def answered(done: asyncio.Future[StreamReply]) -> None:
            self._notes.pop(id(request), None)
            if not done.cancelled() and done.exception() is None:
                note.reply = done.result()

        future.add_done_callback(answered)
        return future

    def _lane(self, waits: bool) -> Session:
        self._lane_used = lane = super()._lane(waits)
        return lane

    def _send_anew(self, call: Call) -> None:
        super()._send_anew(call)
        note = self._notes.get(id(call.request))
        if note is not None and self._lane_used is not None:
            note.moved(self._lane_used)


class TappedClient(aio.Client):
    """A production client on an engine with ears; made as ``aio.connect`` does."""

    def __init__(
        self,
        endpoints: str | Sequence[str],
        *,
        ttl_s: float = 10.0,
        claimant: str | None = None,
        timeout_s: float = 5.0,
        on_posted: Callable[[Note], None] | None = None,
    ) -> None:
        super().__init__(endpoints, ttl_s=ttl_s, claimant=claimant, timeout_s=timeout_s)
        self._core = _TappedCore(self._core.shared, timeout_s, on_posted)
