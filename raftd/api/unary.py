"""Unary calls, and calls that a stream answers: one handler per kind of call.

Any member answers any of them; the node forwards writes to the leader. A write may be
bound to a session by its header; without one a lost reply is a lost reply.

Rule: the node is given a little less time than the caller has, so that the sentence
about a deadline, with what is known of the outcome, arrives before the caller's own
gRPC gives up without one.

Source: DESIGN.md section 7; ERRORS.md.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, assert_never

import grpc
from google.protobuf.message import DecodeError, Message

from raftd.api.calls import (
    Direct,
    Flow,
    Read,
    Watch,
    Write,
    fill_guarded,
    guard_query,
)
from raftd.api.checks import invalid
from raftd.api.errors import abort
from raftd.api.headers import bind_write, check_write, fill_header
from raftd.api.limits import DoorLimits
from raftd.api.registry import Method, Table
from raftd.node.errors import BackupBroken
from raftd.node.service import Answered, NodeService
from raftd.statemachine.refusals import too_large
from raftd.statemachine.schema.base import Refusal

__all__ = ["UnaryDoor"]

_Context = grpc.aio.ServicerContext[bytes, bytes]
_Unary = Callable[[bytes, _Context], Awaitable[bytes]]
_Streaming = Callable[[bytes, _Context], Awaitable[None]]

_MARGIN_S_MAX: Final = 0.1
_MARGIN_SHARE: Final = 0.1
_ROUNDED_UP_SHARE: Final = 0.01
"""gRPC passes a deadline on with two or three digits, rounded up."""
_FOR_EVER_S: Final = 1e8


class UnaryDoor:
    """Makes the handlers of all methods but the session stream."""

    def __init__(self, node: NodeService, table: Table, limits: DoorLimits) -> None:
        self._node: Final = node
        self._table: Final = table
        self._limits: Final = limits

    def handlers(self) -> dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]]:
        """Return the handlers by service and method."""
        services: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
        for method in self._table.methods:
            services.setdefault(method.service, {})[method.name] = self._handler(method)
        return services

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[bytes, bytes]:
        call = method.call
        match call:
            case Write():
                return grpc.unary_unary_rpc_method_handler(self._write(method, call))
            case Read():
                return grpc.unary_unary_rpc_method_handler(self._read(method, call))
            case Direct():
                return grpc.unary_unary_rpc_method_handler(self._direct(method, call))
            case Watch():
                return grpc.unary_stream_rpc_method_handler(self._watch(method, call))
            case Flow():
                return grpc.unary_stream_rpc_method_handler(self._flow(method, call))
            case _:
                assert_never(call)

    # --- the five kinds ------------------------------------------------------------

    def _write(self, method: Method, call: Write) -> _Unary:
        node, limits = self._node, self._limits

        async def handle(raw: bytes, context: _Context) -> bytes:
            request: Any = await self._parse(method, raw, context)
            header = request.write
            refusal = check_write(header)
            if refusal is not None:
                await abort(context, refusal)
            command = call.to_command(request, header.session_id)
            if isinstance(command, Refusal):
                await abort(context, command)
            wait_ms = call.wait_ms(request) if call.wait_ms is not None else 0
            bound = bind_write(header, command, wait_ms, limits)
            if isinstance(bound, Refusal):
                await abort(context, bound)
            answered = await node.write(bound, _timeout_of(context))
            bound_call = call if call.bind is None else call.bind(request, command)
            response = await self._fill(method, bound_call, answered, context)
            fill_header(response.header, node.header(), revision=answered.revision)
            return _encode(response)

        return handle

    async def _fill(
        self, method: Method, call: Write, answered: Answered, context: _Context
    ) -> Any:
        """Make the response of a write, with a look at the state where it needs one."""
        result = answered.answer
        if isinstance(result, Refusal):
            await abort(context, call.mend(result) if call.mend else result)
        response = method.response()
        fill = partial(fill_guarded, call, response, result)
        if call.needs_state is not None and call.needs_state(result):
            # The write may have been the leader's; this member's state must have it.
            looked = await self._node.read(fill, timeout_s=_timeout_of(context))
            refusal = looked.value
        else:
            refusal = fill(self._node.machine)
        if isinstance(refusal, Refusal):
            await abort(context, refusal)
        return response

    def _read(self, method: Method, call: Read) -> _Unary:
        node = self._node

        async def handle(raw: bytes, context: _Context) -> bytes:
            request: Any = await self._parse(method, raw, context)
            query = call.to_query(request)
            if isinstance(query, Refusal):
                await abort(context, query)
            answer = await node.read(
                guard_query(call.field, query),
                is_stale=request.read.stale,
                min_revision=request.read.min_revision,
                timeout_s=_timeout_of(context),
            )
            if isinstance(answer.value, Refusal):
                await abort(context, answer.value)
            response: Any = answer.value
            fill_header(
                response.header,
                node.header(),
                revision=answer.revision,
                age_ms=answer.age_ms,
            )
            return _encode(response)

        return handle

    def _direct(self, method: Method, call: Direct) -> _Unary:
        node = self._node

        async def handle(raw: bytes, context: _Context) -> bytes:
            request = await self._parse(method, raw, context)
            response: Any = await call.run(node, request, _timeout_of(context))
            if isinstance(response, Refusal):
                await abort(context, response)
            fill_header(response.header, node.header())
            return _encode(response)

        return handle

    def _watch(self, method: Method, call: Watch) -> _Streaming:
        node = self._node

        async def handle(raw: bytes, context: _Context) -> None:
            request = await self._parse(method, raw, context)
            plan = call.to_watch(request)
            if isinstance(plan, Refusal):
                await abort(context, plan)
            watch = node.watch(plan.spec)
            if isinstance(watch, Refusal):
                await abort(context, watch)
            try:
                while True:
                    batch = await watch.next()
                    message: Any
                    for message in plan.to_messages(batch):
                        fill_header(message.header, node.header())
                        await context.write(_encode(message))
            finally:
                watch.close()

        return handle

    def _flow(self, method: Method, call: Flow) -> _Streaming:
        node = self._node

        async def handle(raw: bytes, context: _Context) -> None:
            request = await self._parse(method, raw, context)
            messages = await call.run(node, request, _timeout_of(context))
            if isinstance(messages, Refusal):
                await abort(context, messages)
            message: Any
            try:
                async for message in messages:
                    fill_header(message.header, node.header())
                    await context.write(_encode(message))
            except BackupBroken as broken:
                await abort(context, broken.refusal)

        return handle

    async def _parse(self, method: Method, raw: bytes, context: _Context) -> Message:
        limit = self._limits.request_bytes_max
        if len(raw) > limit:
            refusal = too_large("the request", len(raw), "request_bytes_max", limit)
            await abort(context, refusal)
        try:
            return method.request.FromString(raw)
        except DecodeError:
            await abort(context, invalid(f"the bytes are no {method.name} request"))


def _timeout_of(context: _Context) -> float | None:
    """Return how long the node may take, in seconds; None = for ever."""
    left_s = context.time_remaining()
    if left_s is None or left_s > _FOR_EVER_S:
        return None
    left_s -= left_s * _ROUNDED_UP_SHARE
    return max(0.0, left_s - min(_MARGIN_S_MAX, left_s * _MARGIN_SHARE))


def _encode(message: Message) -> bytes:
    encoded: bytes = message.SerializeToString()
    return encoded
