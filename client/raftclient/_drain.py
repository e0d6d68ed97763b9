"""Finding out what became of writes whose session is over.

The window of a closed session is kept for a while: a number sent again gets its first
answer, or ``SESSION_EXPIRED``, which means never applied, and then the call may be made
anew. A closed session has no stream, so the numbers go as plain unary calls.

Source: SEMANTICS.md section 1 ("expiry ends claims, not memory").
"""

from __future__ import annotations

import asyncio
import copy
from typing import TYPE_CHECKING, Any, Final

from raftclient._status import UNLOGGED_REASONS
from raftclient._unary import Backoff
from raftclient.errors import OutcomeUnknown, RaftError, Unavailable
from raftpb.v1 import common_pb2, sessions_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.protobuf.message import Message

    from raftclient._unary import Unary
    from raftclient._window import Call

__all__ = ["settle_all"]

AT_ONCE_MAX: Final = 64


async def settle_all(
    unary: Unary,
    session_id: int,
    session_key: bytes,
    calls: Sequence[Call],
    send_anew: Callable[[Call], None],
) -> None:
    """Give each call its first answer, send it anew, or say that nobody knows."""
    room = asyncio.Semaphore(AT_ONCE_MAX)
    unsettled = dict.fromkeys(calls)

    async def settle(call: Call) -> None:
        async with room:
            await _settle(unary, session_id, session_key, call, send_anew)
            del unsettled[call]

    try:
        async with asyncio.TaskGroup() as group:
            for call in calls:
                group.create_task(settle(call))
    finally:
        for call in unsettled:
            call.fail(_unknown("the client was closed before the answer came"))


async def _settle(
    unary: Unary,
    session_id: int,
    session_key: bytes,
    call: Call,
    send_anew: Callable[[Call], None],
) -> None:
    kind = call.request.WhichOneof("body")
    assert kind is not None
    request: Any = copy.copy(getattr(call.request, kind))
    request.write.CopyFrom(
        common_pb2.WriteHeader(
            session_id=session_id,
            session_key=session_key,
            number=call.tag,
            fences=call.request.fences,
        )
    )
    try:
        response = await _ask(unary, request, call.deadline_s)
    except Unavailable as error:
        call.fail(_unknown(error.message))
    except RaftError as error:
        if error.reason == "SESSION_EXPIRED":
            send_anew(call)
        else:
            call.fail(error)
    else:
        reply = sessions_pb2.StreamReply(
            tag=call.tag, revision=response.header.revision
        )
        getattr(reply, kind).CopyFrom(response)
        call.answer(reply)


async def _ask(unary: Unary, request: Message, end_s: float) -> Any:
    """Ask until the answer is about the number, and not about this sending alone.

    Raises:
        RaftError: What became of it, or ``Unavailable``: nobody said so in time.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff()
    while True:
        try:
            return await unary.call(request, max(0.0, end_s - loop.time()))
        except RaftError as error:
            if error.reason not in UNLOGGED_REASONS:
                raise
            wait_s = backoff.next_s()
            if loop.time() + wait_s >= end_s:
                raise Unavailable(error.message, reason=error.reason) from error
            await asyncio.sleep(wait_s)


def _unknown(why: str) -> OutcomeUnknown:
    return OutcomeUnknown(f"the session was lost before the answer came: {why}")
