"""Keys: put, get, list, delete, increment.

Reads are linearizable unless ``stale`` is asked for: then any member that can be
reached answers from its own state, and says how old that may be.

Source: SEMANTICS.md section 2; proto/raftpb/v1/kv.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from raftclient._values import Data, as_bytes, lease_id_of, range_of
from raftclient._watch import KeyWatch
from raftclient.keys import KeyValue, key_value_from_wire
from raftpb.v1 import kv_pb2
from raftpb.v1.sessions_pb2 import StreamRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from raftclient._core import Core
    from raftclient._values import LeaseRef
    from raftclient.fences import Fence

__all__ = ["DeleteResult", "KeyRange", "KvCalls", "PutResult"]

PAGE_KEYS: Final = 1000


class PutResult(msgspec.Struct, frozen=True, gc=False):
    """The revision of a put, and the key as it was before, if asked for."""

    revision: int
    previous: KeyValue | None = None


class DeleteResult(msgspec.Struct, frozen=True, gc=False):
    """How many keys went, at which revision, and the one key as it was, if asked for.

    ``revision`` is the state's when the answer was made, if nothing was deleted.
    """

    deleted: int
    revision: int
    previous: KeyValue | None = None


class KeyRange:
    """The keys of a range at one revision, fetched page by page.

    Iterate over it for keys, over ``pages()`` for what each request brought. The first
    page fixes the revision for all.
    """

    def __init__(
        self,
        core: Core,
        request: kv_pb2.ListKeysRequest,
        limit: int | None,
        timeout_s: float | None,
    ) -> None:
        self._core: Final = core
        self._request: Final = request
        self._limit: Final = limit
        self._timeout_s: Final = timeout_s
        self.revision = 0
        """That all pages show; 0 before the first."""
        self.age_ms = 0
        """Of a stale read: how old the answer may be."""

    def __aiter__(self) -> AsyncIterator[KeyValue]:
        return self._items()

    async def pages(self) -> AsyncIterator[list[KeyValue]]:
        """Iterate over the pages.

        Raises:
            Compacted: The revision is no longer kept: begin anew.
            Unavailable: Nobody could answer in time: try again.
        """
        left = self._limit
        request = self._request
        token = b""
        while left is None or left > 0:
            request.limit = PAGE_KEYS if left is None else min(left, PAGE_KEYS)
            request.page_token = token
            answer = await _list_keys(self._core, request, self._timeout_s)
            self.revision = answer.at_revision
            self.age_ms = answer.header.age_ms
            page = [key_value_from_wire(found) for found in answer.key_values]
            if page:
                yield page
            token = answer.next_page_token
            if not token:
                return
            left = None if left is None else left - len(page)

    async def _items(self) -> AsyncIterator[KeyValue]:
        async for page in self.pages():
            for found in page:
                yield found


class KvCalls:
    """The calls about keys."""

    _core: Core

    async def put(
        self,
        key: Data,
        value: Data,
        *,
        lease: LeaseRef | None = None,
        if_mod_rev: int | None = None,
        want_previous: bool = False,
        fences: Sequence[Fence] = (),
        timeout_s: float | None = None,
    ) -> PutResult:
        """Set a key.

        Args:
            key: 1 to 1024 bytes.
            value: Up to 1 MiB.
            lease: The key goes when this lease ends.
            if_mod_rev: Only if the key was last changed at this revision; 0 = only if
                it does not exist.
            want_previous: Return the key as it was.
            fences: Claims that must still be current.
            timeout_s: How long to try; None = the client's default.

        Raises:
            PreconditionFailed: ``if_mod_rev`` does not hold: read again, decide.
            Fenced: A fence is not current: stop the work it protected.
            LeaseLost: The lease has ended.
            Unavailable: Not applied in time, and never will be: try again.
            OutcomeUnknown: Sent, and not answered in time: read, then decide.

        Source: SEMANTICS.md section 2.
        """
        request = StreamRequest()
        body = request.put_key
        body.key = as_bytes(key)
        body.value = as_bytes(value)
        if lease is not None:
            body.lease_id = lease_id_of(lease)
        if if_mod_rev is not None:
            body.if_mod_rev = if_mod_rev
        if want_previous:
            body.want_previous = True
        reply = await self._core.write(request, timeout_s, fences=fences)
        answer = reply.put_key
        if want_previous and answer.HasField("previous"):
            return PutResult(answer.mod_rev, key_value_from_wire(answer.previous))
        return PutResult(answer.mod_rev)

    async def get(
        self,
        key: Data,
        *,
        at_revision: int | None = None,
        stale: bool = False,
        min_revision: int | None = None,
        timeout_s: float | None = None,
    ) -> KeyValue | None:
        """Read a key; None if it does not exist.

        Args:
            key: 1 to 1024 bytes.
            at_revision: As it was then; None = now.
            stale: Let any member answer from its own state.
            min_revision: With ``stale``: the member waits until it has this revision
                (``PutResult.revision`` of an own write, to read it back).
            timeout_s: How long to try; None = the client's default.

        Raises:
            Compacted: ``at_revision`` is no longer kept.
            Unavailable: Nobody could answer in time: try again.
        """
        request = StreamRequest()
        body = request.get_key
        body.key = as_bytes(key)
        if at_revision is not None:
            body.at_revision = at_revision
        if stale:
            body.read.stale = True
            body.read.min_revision = min_revision or 0
            answer = await self._core.unary(body, timeout_s)
            age_ms = answer.header.age_ms
        else:
            answer = (await self._core.read(request, timeout_s)).get_key
            age_ms = 0
        if not answer.found:
            return None
        return key_value_from_wire(answer.key_value, age_ms)

    def range(
        self,
        *,
        prefix: Data | None = None,
        start: Data | None = None,
        end: Data | None = None,
        limit: int | None = None,
        keys_only: bool = False,
        at_revision: int | None = None,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> KeyRange:
        """List keys in order, all at one revision; nothing is sent before iteration.

        Args:
            prefix: All keys that begin so; or else ``start`` and ``end``.
            start: From this key on; None = from the first.
            end: Up to, not with, this key; None = to the last.
            limit: At most so many keys.
            keys_only: Leave the values out.
            at_revision: As they were then; None = now.
            stale: Let any member answer from its own state.
            timeout_s: How long to try for each page; None = the client's default.
        """
        request = _range_request(prefix, start, end, at_revision, stale)
        request.keys_only = keys_only
        return KeyRange(self._core, request, limit, timeout_s)

    async def count(
        self,
        *,
        prefix: Data | None = None,
        start: Data | None = None,
        end: Data | None = None,
        at_revision: int | None = None,
        stale: bool = False,
        timeout_s: float | None = None,
    ) -> int:
        """Count the keys of a range; arguments as of ``range``."""
        request = _range_request(prefix, start, end, at_revision, stale)
        request.count_only = True
        answer = await _list_keys(self._core, request, timeout_s)
        return answer.count

    async def delete(
        self,
        key: Data,
        *,
        if_mod_rev: int | None = None,
        want_previous: bool = False,
        fences: Sequence[Fence] = (),
        timeout_s: float | None = None,
    ) -> DeleteResult:
        """Delete a key; one that does not exist is no error. Arguments as of ``put``.

        Raises:
            PreconditionFailed: ``if_mod_rev`` does not hold: read again, decide.
        """
        request = StreamRequest()
        body = request.delete_key
        body.key = as_bytes(key)
        if if_mod_rev is not None:
            body.if_mod_rev = if_mod_rev
        body.want_previous = want_previous
        reply = await self._core.write(request, timeout_s, fences=fences)
        answer = reply.delete_key
        previous = None
        if answer.HasField("previous"):
            previous = key_value_from_wire(answer.previous)
        return DeleteResult(answer.deleted, reply.revision, previous)

    async def delete_range(
        self,
        *,
        prefix: Data | None = None,
        start: Data | None = None,
        end: Data | None = None,
        fences: Sequence[Fence] = (),
        timeout_s: float | None = None,
    ) -> DeleteResult:
        """Delete all keys of a range at one revision; at most 10 000.

        Raises:
            InvalidRequest: There are more; delete in parts.
        """
        request = StreamRequest()
        body = request.delete_range
        body.start, body.end = range_of(prefix, start, end)
        reply = await self._core.write(request, timeout_s, fences=fences)
        return DeleteResult(reply.delete_range.deleted, reply.revision)

    async def incr(
        self,
        key: Data,
        by: int = 1,
        *,
        lease: LeaseRef | None = None,
        fences: Sequence[Fence] = (),
        timeout_s: float | None = None,
    ) -> int:
        """Add to an integer key, a missing one counts as 0; returns the sum.

        Raises:
            PreconditionFailed: The key holds no integer, or the sum does not fit 64
                bits.
        """
        request = StreamRequest()
        body = request.increment_key
        body.key = as_bytes(key)
        body.by = by
        if lease is not None:
            body.lease_id = lease_id_of(lease)
        reply = await self._core.write(request, timeout_s, fences=fences)
        return reply.increment_key.value

    def watch(
        self,
        *,
        prefix: Data | None = None,
        key: Data | None = None,
        from_rev: int | None = None,
        initial: bool = False,
        want_previous: bool = False,
    ) -> KeyWatch:
        """Follow the changes of a key or of all keys with a prefix.

        Args:
            prefix: All keys that begin so (empty: all keys), or else
            key: this one key.
            from_rev: From this revision on; None = from now on.
            initial: First the present keys, then every change after them.
            want_previous: Events carry the key as it was.

        Returns:
            An async iterator of ``WatchEvent`` that survives reconnects; end it with
            ``close`` or ``async with``.
        """
        return KeyWatch(
            self._core,
            prefix=None if prefix is None else as_bytes(prefix),
            key=None if key is None else as_bytes(key),
            from_rev=from_rev or 0,
            initial=initial,
            want_previous=want_previous,
        )


def _range_request(
    prefix: Data | None,
    start: Data | None,
    end: Data | None,
    at_revision: int | None,
    stale: bool,
) -> kv_pb2.ListKeysRequest:
    first, last = range_of(prefix, start, end)
    request = kv_pb2.ListKeysRequest(
        start=first, end=last, at_revision=at_revision or 0
    )
    request.read.stale = stale
    return request


async def _list_keys(
    core: Core, request: kv_pb2.ListKeysRequest, timeout_s: float | None
) -> kv_pb2.ListKeysResponse:
    """Fetch one page, through the stream or, stale, from any member."""
    if request.read.stale:
        answer = await core.unary(request, timeout_s)
        assert isinstance(answer, kv_pb2.ListKeysResponse)
        return answer
    reply = await core.read(StreamRequest(list_keys=request), timeout_s)
    return reply.list_keys
