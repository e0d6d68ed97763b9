"""Which session's stream ends where: at most one sink a session, on the leader only.

Source: SEMANTICS.md section 1 (the newest stream of a session closes older ones).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol

from raftd.node.refusals import not_leader
from raftd.node.service import StreamSink
from raftd.node.writes import hash_key
from raftd.statemachine.schema.base import Reason, Refusal

__all__ = ["StreamHost", "Streams"]

_REPLACED: Final = Refusal(
    Reason.INVALID_REQUEST, "a newer stream of the same session took over"
)


class StreamHost(Protocol):
    """What streams need of their node."""

    def check_key(self, session: int, key_hash: bytes) -> Refusal | None:
        """Deny a call that does not know its session's key."""

    def require(self, session: int) -> Refusal | None:
        """Refuse unless the session is alive."""

    @property
    def may_lead(self) -> bool:
        """Whether this member may propose."""

    @property
    def leader(self) -> int:
        """Who leads, 0 if nobody is known to."""


class Streams:
    """The sinks of a member, by session; those without a session by themselves."""

    def __init__(self, host: StreamHost) -> None:
        self._host: Final = host
        self._by_session: Final[dict[int, StreamSink]] = {}
        self._readers: Final[dict[StreamSink, None]] = {}

    def attach(
        self, session: int, session_key: bytes, sink: StreamSink
    ) -> Refusal | None:
        """Bind a sink; session 0 is a stream of reads, served by any member."""
        if not session:
            self._readers[sink] = None
            return None
        if not self._host.may_lead:
            return not_leader(self._host.leader)
        denied = self._host.check_key(session, hash_key(session_key))
        # The key of a session outlives it, for those who send a write again.
        denied = denied or self._host.require(session)
        if denied is not None:
            return denied
        older = self._by_session.get(session)
        self._by_session[session] = sink
        if older is not None:
            older.close(_REPLACED)
        return None

    def detach(self, session: int, sink: StreamSink) -> None:
        """Unbind a sink, unless a newer one has taken its place."""
        self._readers.pop(sink, None)
        if self._by_session.get(session) is sink:
            del self._by_session[session]

    def sessions_closed(self, sessions: Iterable[int]) -> None:
        """Sessions ended: their streams end when the client sees its refusals."""
        for session in sessions:
            sink = self._by_session.pop(session, None)
            if sink is not None:
                sink.close(
                    Refusal(
                        Reason.SESSION_EXPIRED,
                        f"session {session} is over",
                        {"session": str(session)},
                    )
                )

    def close_all(self, refusal: Refusal) -> None:
        """This member serves sessions no longer."""
        sinks = list(self._by_session.values())
        self._by_session.clear()
        for sink in sinks:
            sink.close(refusal)

    def close_readers(self, refusal: Refusal) -> None:
        """This member serves nobody any longer."""
        readers = list(self._readers)
        self._readers.clear()
        for sink in readers:
            sink.close(refusal)

    def members_changed(self) -> None:
        """Have every client told who the members are."""
        for sink in (*self._by_session.values(), *self._readers):
            sink.members_changed()

    def __len__(self) -> int:
        """Return how many streams are open."""
        return len(self._by_session) + len(self._readers)
