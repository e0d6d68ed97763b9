"""Watches of keys: a range, its events, its list.

Rules: a message holds whole revisions; it ends where it has grown to a page. What an
event replaced is looked up when the event is read, while the history still has it.

Source: SEMANTICS.md section 2 (Watch).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import Message

from raftd.api.calls import WatchPlan
from raftd.api.checks import check_key, invalid
from raftd.api.kv_messages import fill_key
from raftd.api.limits import DoorLimits
from raftd.node.service import WatchBatch, WatchKind, WatchSpec
from raftd.node.watch_index import About, Subject
from raftd.statemachine.events import Event
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.kv import KeyValue
from raftpb.v1 import kv_pb2

__all__ = ["plan_watch"]

_Kind = kv_pb2.WatchKeysResponse.Kind

_KINDS: Final = {
    WatchKind.EVENTS: _Kind.KIND_EVENTS,
    WatchKind.INITIAL: _Kind.KIND_INITIAL,
    WatchKind.SYNCED: _Kind.KIND_SYNCED,
    WatchKind.PROGRESS: _Kind.KIND_PROGRESS,
    WatchKind.RESYNC: _Kind.KIND_RESYNC,
}


class _Item(NamedTuple):
    """A key event (or, listed, a key), and what it replaced if that was asked for."""

    key_value: KeyValue
    previous: KeyValue | None


def plan_watch(
    request: kv_pb2.WatchKeysRequest, *, limits: DoorLimits
) -> WatchPlan | Refusal:
    """Translate a watch."""
    refusal = _check(request, limits)
    if refusal is not None:
        return refusal
    start, end = request.start, request.end
    if not end and not request.to_last:
        end = start + b"\0"  # the key itself, and nothing after it
    spec = WatchSpec(
        keep=_keep(
            start, end, has_puts=not request.no_puts, has_deletes=not request.no_deletes
        ),
        about=_about(start, end),
        from_rev=request.from_rev,
        wants_initial=request.initial,
        snapshot=_snapshot(start, end),
        prepare=_with_previous if request.want_previous else _without_previous,
    )
    return WatchPlan(spec, _to_messages(limits.page_bytes_max))


def _check(request: kv_pb2.WatchKeysRequest, limits: DoorLimits) -> Refusal | None:
    start, end = request.start, request.end
    if request.initial and request.from_rev:
        return invalid("a watch begins with a list or from a revision, not with both")
    if request.no_puts and request.no_deletes:
        return invalid("a watch without puts and without deletes has nothing to say")
    if end:
        if request.to_last:
            return invalid("a watch has an end or goes to the last key, not both")
        if end <= start:
            return invalid("the range is empty: its end is not above its start")
        refusal = check_key(end, limits)
        if refusal is not None:
            return refusal
    is_range = bool(end) or request.to_last
    return None if is_range and not start else check_key(start, limits)


def _about(start: bytes, end: bytes) -> About | None:
    if end == start + b"\0":
        return Subject.KEY, start
    # The keys with a prefix end before the prefix with its last byte one higher.
    if start and start[-1] < 255 and end == start[:-1] + bytes([start[-1] + 1]):
        return Subject.PREFIX, start
    return None


def _keep(
    start: bytes, end: bytes, *, has_puts: bool, has_deletes: bool
) -> Callable[[Event], bool]:
    def keep(event: Event) -> bool:
        if type(event) is not KeyValue:
            return False
        key = event.key
        if key < start or (end and key >= end):
            return False
        # Version 0 is a deletion.
        return has_puts if event.version else has_deletes

    return keep


def _snapshot(start: bytes, end: bytes) -> Callable[[Machine], Sequence[_Item]]:
    def snapshot(machine: Machine) -> list[_Item]:
        count = machine.kv.count(start, end)
        assert isinstance(count, int), "the present is always readable"
        page = machine.kv.range(start, end, count)
        assert not isinstance(page, Refusal), "the present is always readable"
        return [_Item(found, None) for found in page.items]

    return snapshot


def _with_previous(machine: Machine, event: Event) -> _Item:
    assert isinstance(event, KeyValue)
    return _Item(event, machine.kv.previous(event))


def _without_previous(machine: Machine, event: Event) -> _Item:
    assert isinstance(event, KeyValue)
    return _Item(event, None)


def _to_messages(bytes_max: int) -> Callable[[WatchBatch], Iterable[Message]]:
    def to_messages(batch: WatchBatch) -> Iterator[kv_pb2.WatchKeysResponse]:
        kind = _KINDS[batch.kind]
        message = kv_pb2.WatchKeysResponse(kind=kind)
        room = bytes_max
        revision = 0
        # A list is of one revision, and may be cut anywhere.
        is_list = batch.kind is WatchKind.INITIAL
        for item in batch.items:
            rev = item.key_value.mod_rev
            if room <= 0 and (is_list or rev != revision):
                message.revision = batch.revision if is_list else revision
                yield message
                message = kv_pb2.WatchKeysResponse(kind=kind)
                room = bytes_max
            room -= _fill_event(message.events.add(), item)
            revision = rev
        message.revision = batch.revision
        yield message

    return to_messages


def _fill_event(event: kv_pb2.KeyEvent, item: _Item) -> int:
    """Write an event; return about how many bytes it has."""
    found, previous = item
    event.revision = found.mod_rev
    if found.version:
        fill_key(event.key_value, found)
    else:
        event.is_delete = True
        event.key_value.key = found.key
        event.key_value.mod_rev = found.mod_rev
    size_bytes = len(found.key) + len(found.value)
    if previous is not None:
        fill_key(event.previous, previous)
        size_bytes += len(previous.key) + len(previous.value)
    return size_bytes + 32
