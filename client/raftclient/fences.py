"""Fences: "apply this write only while that claim is mine".

Every write takes ``fences``; if one is not current the write is refused with
``Fenced`` and changes nothing. A claim hands out its own: ``grant.fence()``.

Source: SEMANTICS.md sections 3 and 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from raftpb.v1 import common_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "ElectionFence",
    "Fence",
    "LeaseFence",
    "LockFence",
    "ReservationFence",
    "fences_to_wire",
]


class LockFence(msgspec.Struct, frozen=True):
    """A lock held with this token."""

    name: str
    token: int


class ElectionFence(msgspec.Struct, frozen=True):
    """Leadership of a name held with this epoch."""

    name: str
    epoch: int


class ReservationFence(msgspec.Struct, frozen=True):
    """A job reserved with this token."""

    job_id: int
    token: int


class LeaseFence(msgspec.Struct, frozen=True):
    """A lease or session that is alive."""

    lease_id: int


Fence = LockFence | ElectionFence | ReservationFence | LeaseFence
"""Any claim that a write may be bound to."""


def fences_to_wire(fences: Iterable[Fence]) -> list[common_pb2.Fence]:
    """Turn fences into the API's messages."""
    return [_to_wire(fence) for fence in fences]


def _to_wire(fence: Fence) -> common_pb2.Fence:
    match fence:
        case LockFence(name, token):
            lock = common_pb2.LockFence(name=name, token=token)
            return common_pb2.Fence(lock=lock)
        case ElectionFence(name, epoch):
            election = common_pb2.ElectionFence(name=name, epoch=epoch)
            return common_pb2.Fence(election=election)
        case ReservationFence(job_id, token):
            reservation = common_pb2.ReservationFence(job_id=job_id, token=token)
            return common_pb2.Fence(reservation=reservation)
        case LeaseFence(lease_id):
            return common_pb2.Fence(lease_id=lease_id)
