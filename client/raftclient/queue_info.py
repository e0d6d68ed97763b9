"""A queue's counts and settings.

Source: SEMANTICS.md section 6; proto/raftpb/v1/queues.proto.
"""

from __future__ import annotations

from typing import Final, TypedDict

import msgspec

from raftclient._clock import to_ms
from raftclient.specs import (
    Backoff,
    backoff_from_wire,
    backoff_to_wire,
    check_options,
)
from raftpb.v1 import queues_pb2

__all__ = ["QueueInfo", "QueueOptions", "options_to_wire", "queue_info"]


class QueueOptions(TypedDict, total=False):
    """A queue's settings."""

    depth_max: int
    """Waiting jobs; beyond it an enqueue is refused."""
    max_attempts: int
    max_crashes: int
    backoff: Backoff
    backoff_base_s: float
    backoff_cap_s: float
    backoff_jitter: int
    """Percent, 0 to 100."""
    reservation_s: float
    grace_s: float
    concurrency_max: int
    """Reserved at once; 0 = no limit."""
    may_complete_late: bool
    done_retention_s: float
    dead_retention_s: float


class QueueInfo(msgspec.Struct, frozen=True):
    """A queue: jobs by state, totals since it was made, settings.

    Attributes:
        oldest_ready_ms: How long the oldest ready job has been waiting.
    """

    name: str
    is_paused: bool
    scheduled: int
    ready: int
    blocked: int
    reserved: int
    done: int
    dead: int
    cancelled: int
    expired: int
    oldest_ready_ms: int
    enqueued_total: int
    completed_total: int
    failed_total: int
    dead_total: int
    options: QueueOptions


_SAME: Final = (
    "depth_max",
    "max_attempts",
    "max_crashes",
    "backoff_jitter",
    "concurrency_max",
    "may_complete_late",
)
_SPANS: Final = (
    "backoff_base",
    "backoff_cap",
    "reservation",
    "grace",
    "done_retention",
    "dead_retention",
)


def options_to_wire(options: QueueOptions) -> queues_pb2.QueueOptions:
    """Turn settings into the API's message."""
    check_options(QueueOptions, options)
    wire = queues_pb2.QueueOptions()
    given: dict[str, object] = {**options}
    for name in _SAME:
        if name in given:
            setattr(wire, name, given[name])
    for name in _SPANS:
        span_s = given.get(f"{name}_s")
        if isinstance(span_s, int | float):
            setattr(wire, f"{name}_ms", to_ms(span_s))
    if "backoff" in options:
        wire.backoff = backoff_to_wire(options["backoff"])
    return wire


def queue_info(found: queues_pb2.Queue) -> QueueInfo:
    """Turn the API's message into ours."""
    names = (name for name in QueueInfo.__struct_fields__ if name != "options")
    fields = {name: getattr(found, name) for name in names}
    return QueueInfo(options=_options(found.options), **fields)


def _options(found: queues_pb2.QueueOptions) -> QueueOptions:
    present = {field.name: value for field, value in found.ListFields()}
    given: dict[str, object] = {
        name: present[name] for name in _SAME if name in present
    }
    for name in _SPANS:
        if f"{name}_ms" in present:
            given[f"{name}_s"] = present[f"{name}_ms"] / 1000
    backoff = backoff_from_wire(found.backoff)
    if backoff is not None:
        given["backoff"] = backoff
    return msgspec.convert(given, QueueOptions)
