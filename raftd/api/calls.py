"""What an RPC is to the doors: one entry of a table, for unary calls and streams.

Rules: an entry is known by its method's name, ``PutKey``, and on streams by the same in
snake case, ``put_key``: the fields of StreamRequest and StreamReply. Translators check
what they are given and return a ``Refusal`` rather than raise; they keep no state.

Source: DESIGN.md sections 3 and 7.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from google.protobuf.message import Message

from raftd.api.errors import internal
from raftd.node.service import NodeService, WatchBatch, WatchSpec
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import AnyCommand

__all__ = [
    "Call",
    "Direct",
    "Fill",
    "Flow",
    "Query",
    "Read",
    "Watch",
    "WatchPlan",
    "Write",
    "fill_guarded",
    "fill_nothing",
    "guard_query",
]

Query = Callable[[Machine], Message | Refusal]
"""Reads the state and makes the response, without its header."""

Fill = Callable[[Any, Any, Machine], Refusal | None]
"""Writes a result into a response: (response, result, state)."""


def fill_nothing(response: Message, result: object, machine: Machine) -> None:
    """Fill the response of a write that only succeeds."""
    response.SetInParent()


@dataclasses.dataclass(frozen=True, slots=True)
class Write:
    """An RPC that becomes a command.

    Attributes:
        field: Its name on streams.
        to_command: From the request and the caller's session, 0 = none; the session is
            what a lease id of 0 stands for.
        fill: Must not need the state, unless ``needs_state`` says so of the result.
        bind: Makes the call of one request, where its answer depends on the request;
            from the request and its command.
        needs_state: Tells whether ``fill`` looks at the state for this result; a
            refusal of ``fill`` is then the answer.
        mend: Translates a refusal back, where the command is not the request's own.
        is_large: Tells whether a result has payloads; None = ids and tokens only.
        wait_ms: How long the node may hold the command back.
    """

    field: str
    to_command: Callable[[Any, int], AnyCommand | Refusal]
    fill: Fill
    bind: Callable[[Any, Any], Write] | None = None
    needs_state: Callable[[Any], bool] | None = None
    mend: Callable[[Refusal], Refusal] | None = None
    is_large: Callable[[Any], bool] | None = None
    wait_ms: Callable[[Any], int | None] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Read:
    """An RPC that becomes a query of the state.

    Attributes:
        field: Its name on streams.
    """

    field: str
    to_query: Callable[[Any], Query | Refusal]


@dataclasses.dataclass(frozen=True, slots=True)
class WatchPlan:
    """A watch to begin, and how its batches become messages.

    Attributes:
        to_messages: May keep state from batch to batch; messages lack their header. A
            batch can be much larger than a message, so they are made one by one.
    """

    spec: WatchSpec
    to_messages: Callable[[WatchBatch], Iterable[Message]]


@dataclasses.dataclass(frozen=True, slots=True)
class Watch:
    """An RPC that becomes a watch.

    Attributes:
        field: Its name on streams.
    """

    field: str
    to_watch: Callable[[Any], WatchPlan | Refusal]


@dataclasses.dataclass(frozen=True, slots=True)
class Direct:
    """A unary RPC that asks the node for something of its own; not on streams.

    Attributes:
        field: Its method's name in snake case.
        run: From node, request and timeout in seconds; the response lacks its header.
    """

    field: str
    run: Callable[[NodeService, Any, float | None], Awaitable[Message | Refusal]]


@dataclasses.dataclass(frozen=True, slots=True)
class Flow:
    """A server stream of something of the node's own; not on session streams.

    Attributes:
        field: Its method's name in snake case.
        run: From node, request and timeout in seconds; the messages lack their header.
    """

    field: str
    run: Callable[
        [NodeService, Any, float | None], Awaitable[AsyncIterator[Message] | Refusal]
    ]


Call = Write | Read | Watch | Direct | Flow


def fill_guarded(
    call: Write, response: Any, result: Any, machine: Machine
) -> Refusal | None:
    """Fill a response within the node's turn: a bug here must not end the node."""
    try:
        return call.fill(response, result, machine)
    except Exception as error:  # told to the caller and the log
        return internal(call.field, error)


def guard_query(field: str, query: Query) -> Query:
    """Keep the node from a bug in a query: it runs within the node's turn."""

    def run(machine: Machine) -> Message | Refusal:
        try:
            return query(machine)
        except Exception as error:  # told to the caller and the log
            return internal(field, error)

    return run
