"""The watch of keys, as a feed of events.

It resumes by revision: everything up to ``revision`` of the last message has been
queued, so the next stream is asked for what comes after it. A list that was cut short
is begun again, behind a RESYNC, so that the consumer never mixes two.

Source: SEMANTICS.md section 2 (watch); proto/raftpb/v1/kv.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftclient._feed import Feed, behind
from raftclient._values import prefix_end
from raftclient.errors import InvalidRequest
from raftclient.keys import WatchEvent, WatchKind, key_value_from_wire
from raftpb.v1 import kv_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from raftclient._core import Core
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = ["KeyWatch"]

_Kind = kv_pb2.WatchKeysResponse


class KeyWatch(Feed[WatchEvent]):
    """See the module; made by ``watch``."""

    def __init__(
        self,
        core: Core,
        *,
        prefix: bytes | None,
        key: bytes | None,
        from_rev: int,
        initial: bool,
        want_previous: bool,
    ) -> None:
        if (prefix is None) == (key is None):
            raise InvalidRequest("a watch is for a prefix or for a key, one of them")
        self._start: Final = prefix if prefix is not None else key or b""
        self._end: Final = b"" if prefix is None else prefix_end(prefix)
        self._to_last: Final = prefix is not None and not self._end
        self._want_previous: Final = want_previous
        self._from_rev = from_rev
        self._wants_list = initial
        self._has_listed_some = False
        self._known_rev: Final = core.shared.revision
        self.revision = 0
        """All changes up to here have been queued; 0 before the first answer."""
        super().__init__(core)

    def request(self) -> StreamRequest:
        """Build the request that continues where the last reply left off."""
        if self._has_listed_some:
            self._has_listed_some = False
            self.push(WatchEvent(WatchKind.RESYNC, self.revision))
        body = kv_pb2.WatchKeysRequest(
            start=self._start,
            end=self._end,
            to_last=self._to_last,
            from_rev=0 if self._wants_list else self._from_rev,
            initial=self._wants_list,
            want_previous=self._want_previous,
        )
        if not self._wants_list:
            self._from_rev = self._from_rev or behind(self._known_rev)
        return StreamRequest(watch_keys=body)

    def may_pause(self) -> bool:
        """A list begins anew when it is asked for again: it has to come whole."""
        return not self._wants_list

    def take(self, reply: StreamReply) -> None:
        """Queue the events of one message."""
        message = reply.watch_keys
        match message.kind:
            case _Kind.KIND_EVENTS:
                for event in message.events:
                    self.push(_event(event))
            case _Kind.KIND_INITIAL:
                self._wants_list = self._has_listed_some = True
                for event in message.events:
                    found = key_value_from_wire(event.key_value)
                    self.push(
                        WatchEvent(WatchKind.INITIAL, event.revision, found),
                    )
            case _Kind.KIND_RESYNC:
                self._wants_list = True
                self._has_listed_some = False
                self.push(WatchEvent(WatchKind.RESYNC, message.revision))
            case _Kind.KIND_SYNCED:
                self._wants_list = self._has_listed_some = False
                self.push(WatchEvent(WatchKind.SYNCED, message.revision))
            case _:  # progress, and kinds that a newer server may add
                pass
        if not self._wants_list:
            self.revision = max(self.revision, message.revision)
            self._from_rev = max(self._from_rev, message.revision + 1)


def _event(event: kv_pb2.KeyEvent) -> WatchEvent:
    previous = None
    if event.HasField("previous"):
        previous = key_value_from_wire(event.previous)
    return WatchEvent(
        WatchKind.DELETE if event.is_delete else WatchKind.PUT,
        event.revision,
        key_value_from_wire(event.key_value),
        previous,
    )
