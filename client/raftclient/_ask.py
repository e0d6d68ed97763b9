"""Calls about the cluster itself: asked of one member that answers, once.

Rules: such a call may not be repeated blindly (a member would be added twice), so a
member that answers is found first with a question that may be. Only a refusal that says
that nothing happened sends the call on to another member; what was lost on the way is
``OutcomeUnknown``. A member of a release that does not know the call counts as one that
refused it; coming back to it says that there is no newer one, and waiting is no help.

Source: SEMANTICS.md sections 0 and 7; ERRORS.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import grpc

from raftclient._status import error_from_rpc, is_retryable
from raftclient._unary import Backoff
from raftclient.errors import OutcomeUnknown, RaftError, Unavailable
from raftpb.v1 import cluster_pb2

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from raftclient._core import Core

__all__ = ["ask_once", "ask_one"]

UNIMPLEMENTED: Final = grpc.StatusCode.UNIMPLEMENTED.name
_OLD_ASKED_MAX: Final = 3
"""Of one member: the others had their turn, or could not be reached."""
_AGAIN_S_MAX: Final = 1.0
_AGAIN_SHARE: Final = 0.2
"""With less time left a call that was refused is not sent again: an answer that came
too late would leave open what is known, that nothing happened.
"""


async def ask_once(core: Core, request: Message, timeout_s: float | None) -> Any:
    """Make a call that changes the cluster.

    Args:
        core: Of the client.
        request: Any unary one.
        timeout_s: How long to try; None = the client's default.

    Raises:
        OutcomeUnknown: The member was lost before it answered.
        RaftError: It was refused, or ``Unavailable``.
    """
    unary = core.shared.unary

    async def attempt(address: str, left_s: float) -> Any:
        return await unary.ask(address, request, left_s)

    return await ask_one(core, attempt, timeout_s)


async def ask_one(
    core: Core,
    attempt: Callable[[str, float], Awaitable[Any]],
    timeout_s: float | None,
) -> Any:
    """Find a member that answers, and let it be asked.

    Args:
        core: Of the client.
        attempt: Asks the member at an address, with seconds left.
        timeout_s: How long to try; None = the client's default.

    Raises:
        OutcomeUnknown: The member was lost before it answered.
        RaftError: It was refused, or ``Unavailable``.
    """
    loop = asyncio.get_running_loop()
    limit_s = core.timeout_s if timeout_s is None else timeout_s
    end_s = loop.time() + limit_s
    again_s = min(_AGAIN_S_MAX, limit_s * _AGAIN_SHARE)
    backoff = Backoff()
    last: RaftError | None = None
    asked_old: Counter[str] = Counter()
    while True:
        left_s = max(0.001, end_s - loop.time())
        try:
            await core.unary(cluster_pb2.GetStatusRequest(), left_s)
        except Unavailable:
            if last is not None:  # it says more
                raise last from None
            raise
        if last is not None and loop.time() + again_s / 2 >= end_s:
            raise last
        endpoints = core.shared.endpoints
        address = endpoints.preferred()
        try:
            return await attempt(address, max(0.001, end_s - loop.time()))
        except grpc.aio.AioRpcError as failure:
            error = _judge(address, failure)
            wait_s = backoff.next_s()
            is_late = loop.time() + wait_s + again_s >= end_s
            if error.reason == UNIMPLEMENTED:
                asked_old[address] += 1
            is_in_vain = asked_old[address] >= _OLD_ASKED_MAX
            if is_late or is_in_vain or not _may_go_on(error):
                raise error from failure
            endpoints.failed(address)
            last = error
            await asyncio.sleep(wait_s)


def _judge(address: str, failure: grpc.aio.AioRpcError) -> RaftError:
    error = error_from_rpc(failure)
    code = failure.code().name
    if not isinstance(error, OutcomeUnknown) or error.reason != code:
        return error
    if code == UNIMPLEMENTED:
        return Unavailable(
            f"the member at {address} is of a release that does not know this call;"
            " upgrade it first",
            reason=code,
        )
    return OutcomeUnknown(
        f"the member at {address} was lost before it answered ({code})", reason=code
    )


def _may_go_on(error: RaftError) -> bool:
    if error.reason == UNIMPLEMENTED:
        return True
    return error.applied == "no" and is_retryable(error)
