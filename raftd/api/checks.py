"""Checks that many translators share: keys, values, texts, enums, fences, leases.

Rules: each returns None (or the translated thing) if all is well, else the refusal that
names the limit and the size. The sentences of names and sizes are the state machine's.

Source: SEMANTICS.md section 0.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from raftd.api.limits import DoorLimits
from raftd.statemachine import refusals
from raftd.statemachine.refusals import check_name, too_large
from raftd.statemachine.schema.base import Fence, FenceKind, Reason, Refusal
from raftpb.v1 import common_pb2

__all__ = [
    "check_bytes",
    "check_id",
    "check_key",
    "check_text",
    "enum_of",
    "enums_of",
    "fences_of",
    "invalid",
    "lease_of",
    "optional_of",
    "page_items",
]

E = TypeVar("E", bound=enum.IntEnum)


def invalid(sentence: str, **details: str) -> Refusal:
    """Refuse a request that does not make sense."""
    return Refusal(Reason.INVALID_REQUEST, sentence, details)


def check_key(key: bytes, limits: DoorLimits) -> Refusal | None:
    """Refuse a key that is empty or too long."""
    if 0 < len(key) <= limits.apply.key_bytes_max:
        return None
    if not key:
        return invalid("a key has at least one byte")
    return too_large("the key", len(key), "key_bytes_max", limits.apply.key_bytes_max)


def check_bytes(what: str, value: bytes, limits: DoorLimits) -> Refusal | None:
    """Refuse a value, payload, result or savepoint that is too large."""
    limit = limits.apply.value_bytes_max
    if len(value) <= limit:
        return None
    return too_large(what, len(value), "value_bytes_max", limit)


def check_text(what: str, text: str, limits: DoorLimits) -> Refusal | None:
    """Refuse a short text for people or handlers that is too long."""
    limit = limits.apply.claimant_bytes_max
    return refusals.check_text(what, text, "claimant_bytes_max", limit)


def check_id(what: str, number: int) -> Refusal | None:
    """Refuse an id or token of 0, which nothing has."""
    return None if number else invalid(f"the {what} is missing or 0")


def lease_of(lease_id: int, session: int) -> int | Refusal:
    """Return who pays for a claim: a lease, or (0) the session of the call."""
    return (
        lease_id
        or session
        or invalid("the call names no lease and comes from no session")
    )


def enum_of(kind: type[E], number: int, default: E | None = None) -> E | Refusal:
    """Return an enum's member; 0 stands for the default, where there is one."""
    if not number and default is not None:
        return default
    try:
        return kind(number)
    except ValueError:
        return invalid(f"{number} is no {kind.__name__}")


def enums_of(kind: type[E], numbers: Iterable[int]) -> tuple[E, ...] | Refusal:
    """Return an enum's members, each once, in the order given."""
    members: dict[E, None] = {}
    for number in numbers:
        member = enum_of(kind, number)
        if isinstance(member, Refusal):
            return member
        members[member] = None
    return tuple(members)


def optional_of(message: Message, field: str, number: int) -> int | None:
    """Return a field's number, None if the field is absent.

    Args:
        message: Has the field.
        field: Its name.
        number: What reading it gave: looking for presence is needed only at 0.
    """
    return number if number or message.HasField(field) else None


def page_items(limit: int, limits: DoorLimits) -> int:
    """Return how many items the next page may hold; 0 asks for the server's page."""
    return min(limit or limits.page_items_max, limits.page_items_max)


def fences_of(
    fences: Sequence[common_pb2.Fence], limits: DoorLimits
) -> tuple[Fence, ...] | Refusal:
    """Translate the fences of a write."""
    if not fences:
        return ()
    if len(fences) > limits.fences_max:
        return too_large(
            "the number of fences", len(fences), "fences_max", limits.fences_max
        )
    found = []
    for message in fences:
        fence = _fence_of(message, limits)
        if isinstance(fence, Refusal):
            return fence
        found.append(fence)
    return tuple(found)


def _fence_of(message: common_pb2.Fence, limits: DoorLimits) -> Fence | Refusal:
    name_bytes_max = limits.apply.name_bytes_max
    match message.WhichOneof("claim"):
        case "lock":
            lock = message.lock
            return check_name("lock", lock.name, name_bytes_max) or Fence(
                FenceKind.LOCK, lock.name, lock.token
            )
        case "election":
            election = message.election
            return check_name("election", election.name, name_bytes_max) or Fence(
                FenceKind.ELECTION, election.name, election.epoch
            )
        case "reservation":
            held = message.reservation
            return Fence(FenceKind.RESERVATION, "", held.token, held.job_id)
        case "lease_id":
            return Fence(FenceKind.LEASE, "", message.lease_id)
        case _:
            return invalid("a fence names no claim that this version knows")
