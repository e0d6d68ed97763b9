"""Plain unary calls: on the caller's loop for a client, blocking-free for the keeper.

Any member answers any unary request. Every call made here may be repeated (reads,
sessions opened by key, numbered writes), so a failure that does not settle the matter
is tried again, at another endpoint, until the deadline.

Source: DESIGN.md section 7.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf import message_factory

from raftclient._clock import boottime_s
from raftclient._endpoints import members_of
from raftclient._in_flight import InFlight
from raftclient._status import error_from_rpc, is_retryable
from raftclient.errors import OutcomeUnknown, RaftError, Unavailable
from raftpb.v1 import (
    cluster_pb2,
    elections_pb2,
    kv_pb2,
    leases_pb2,
    locks_pb2,
    queues_pb2,
    sessions_pb2,
    txn_pb2,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from google.protobuf.message import Message

    from raftclient._endpoints import Endpoints

__all__ = ["Backoff", "Channels", "Renewer", "Unary", "closed", "method_of"]

_OPTIONS: Final = (
    # What a member answers has passed its limits; refused here, the same answer would
    # come again on the next stream, and nothing behind it ever.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # A member that comes back is found again within a second, not within two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Two clients of one process to one member do not share a connection's fate.
    ("grpc.use_local_subchannel_pool", 1),
)
_FILES: Final = (
    cluster_pb2,
    elections_pb2,
    kv_pb2,
    leases_pb2,
    locks_pb2,
    queues_pb2,
    sessions_pb2,
    txn_pb2,
)
ATTEMPT_S_MAX: Final = 2.0
"""A member that keeps silent for so long is not waited for: another may answer."""


def _methods() -> dict[str, tuple[str, type[Message]]]:
    found = {}
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                if not (method.server_streaming or method.client_streaming):
                    path = f"/{service.full_name}/{method.name}"
                    reply = message_factory.GetMessageClass(method.output_type)
                    found[method.input_type.full_name] = (path, reply)
    return found


_METHODS: Final = _methods()


def method_of(request: Message) -> tuple[str, type[Message]]:
    """Return the path of the call that takes this request, and its reply's class."""
    return _METHODS[request.DESCRIPTOR.full_name]


class Backoff:
    """Waits that grow to a cap, each drawn between half and the whole."""

    def __init__(self, first_s: float = 0.01, cap_s: float = 0.2) -> None:
        self._first_s: Final = first_s
        self._cap_s: Final = cap_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return how long to wait now."""
        wait_s = self._next_s
        self._next_s = min(self._cap_s, wait_s * 2)
        return wait_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew after a success."""
        self._next_s = self._first_s


class Channels:
    """One asyncio channel per address, for the streams and calls of a client."""

    def __init__(self) -> None:
        self._channels: dict[str, grpc.aio.Channel] = {}
        self.in_flight: Final = InFlight()

    def get(self, address: str) -> grpc.aio.Channel:
        """Return the channel to an address; it connects by itself."""
        channel = self._channels.get(address)
        if channel is None:
            channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
            self._channels[address] = channel
        return channel

    async def close(self) -> None:
        """End what is left of their calls, and close them; may be called twice."""
        channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            await channel.close()
        await self.in_flight.settled()


class Unary:
    """Repeatable unary calls of one client."""

    def __init__(self, endpoints: Endpoints, channels: Channels) -> None:
        self._endpoints: Final = endpoints
        self._channels: Final = channels

    async def call(self, request: Message, timeout_s: float | None) -> Any:
        """Ask until answered; see ``call_timed``."""
        response, _ = await self.call_timed(request, timeout_s)
        return response

    async def call_timed(
        self, request: Message, timeout_s: float | None
    ) -> tuple[Any, float]:
        """Ask until answered, refused for good, or out of time.

        Returns:
            The response, and when (``boottime_s``) the attempt that it answers began.

        Raises:
            RaftError: The last answer, or ``Unavailable`` without any.
        """
        loop = asyncio.get_running_loop()
        end_s = float("inf") if timeout_s is None else loop.time() + timeout_s
        backoff = Backoff()
        while True:
            address = self._endpoints.preferred()
            left_s = max(0.001, end_s - loop.time())
            sent_s = boottime_s()
            try:
                response = await self.ask(address, request, min(left_s, ATTEMPT_S_MAX))
            except grpc.aio.AioRpcError as failure:
                error = error_from_rpc(failure)
                if not is_retryable(error) and not _is_bare(failure, error):
                    raise error from failure
                self._endpoints.failed(address)
                wait_s = backoff.next_s()
                if loop.time() + wait_s >= end_s:
                    raise _settled(error) from failure
                await asyncio.sleep(wait_s)
            else:
                return response, sent_s

    async def ask(self, address: str, request: Message, timeout_s: float) -> Any:
        """Ask one member, once; gRPC's error as it is."""
        path, reply = method_of(request)
        method: grpc.aio.UnaryStreamMultiCallable[Message, Message] = (
            self._channels.get(address).unary_stream(
                path,
                request_serializer=type(request).SerializeToString,
                response_deserializer=reply.FromString,
            )
        )
        call = self._channels.in_flight.begin(
            lambda: method(request, timeout=timeout_s)
        )
        try:
            response = await call.read()
            await call.read()  # the status, which decides
        except asyncio.CancelledError as cancelled:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise closed() from cancelled
        finally:
            call.cancel()
        if isinstance(response, cluster_pb2.ListMembersResponse):
            self._endpoints.learn_members(members_of(response, response.header))
        return response

    async def ask_members(
        self, address: str | None = None, timeout_s: float = ATTEMPT_S_MAX
    ) -> int:
        """Learn who the members are, if one answers; else another time.

        Args:
            address: Whom to ask; None = who deserves it most.
            timeout_s: How long to wait.

        Returns:
            The node id of the leader that it knows; 0 = none, or no answer.
        """
        request = cluster_pb2.ListMembersRequest()
        asked = address or self._endpoints.preferred()
        with contextlib.suppress(grpc.aio.AioRpcError, RaftError):
            answer = await self.ask(asked, request, timeout_s)
            return int(answer.header.leader)
        return 0


def closed() -> RaftError:
    """Return what becomes of calls of a client that is closed."""
    return Unavailable("the client is closed", reason="SHUTTING_DOWN")


def _is_bare(failure: grpc.aio.AioRpcError, error: RaftError) -> bool:
    """Tell whether gRPC made the status by itself, so that nothing is decided."""
    return isinstance(error, OutcomeUnknown) and error.reason == failure.code().name


def _settled(error: RaftError) -> RaftError:
    """Say "nothing happened" of a read that nobody answered."""
    if isinstance(error, Unavailable):
        return error
    return Unavailable(error.message, reason=error.reason, details=error.details)


class Renewer:
    """What the keeper sends with: a client's channels for other threads.

    It goes where the client knows members to be, and learns who they are from those
    that answer, so that a client without a stream does not lose sight of them.
    """

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints: Final = endpoints
        self._lock: Final = threading.Lock()
        self._channels: dict[str, grpc.Channel] = {}
        self._first = ""

    def prefer(self, address: str) -> None:
        """Begin with this endpoint."""
        self._first = address

    def _address(self, attempts: int) -> str:
        known = self._endpoints.known()
        turn = known.index(self._first) if self._first in known else 0
        return known[(turn + attempts) % len(known)]

    def sender(self, request: Message) -> Callable[[float], grpc.Future[Any]]:
        """Return a function that sends the request once, here or at the next one."""
        attempts = 0

        def send(timeout_s: float) -> grpc.Future[Any]:
            nonlocal attempts
            address = self._address(attempts)
            future = self._begin(address, request, timeout_s)
            attempts += 1  # taken back by an answer, kept by a failure or silence
            future.add_done_callback(lambda done: answered(address, done))
            return future

        def answered(address: str, done: grpc.Future[Any]) -> None:
            nonlocal attempts
            if not done.cancelled() and done.exception() is None:
                attempts -= 1
                if self._endpoints.wants_members():
                    self._ask_members(address)

        return send

    def _begin(
        self, address: str, request: Message, timeout_s: float
    ) -> grpc.Future[Any]:
        path, reply = method_of(request)
        method: grpc.UnaryUnaryMultiCallable[Message, Message] = self._channel(
            address
        ).unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )
        return method.future(request, timeout=timeout_s)

    def _ask_members(self, address: str) -> None:
        def answered(done: grpc.Future[Any]) -> None:
            if not done.cancelled() and done.exception() is None:
                told = done.result()
                self._endpoints.learn_members(members_of(told, told.header))

        request = cluster_pb2.ListMembersRequest()
        with contextlib.suppress(ValueError):  # the channel was closed meanwhile
            asked = self._begin(address, request, ATTEMPT_S_MAX)
            asked.add_done_callback(answered)

    def _channel(self, address: str) -> grpc.Channel:
        with self._lock:
            channel = self._channels.get(address)
            if channel is None:
                channel = grpc.insecure_channel(address, options=_OPTIONS)
                self._channels[address] = channel
            return channel

    def close(self) -> None:
        """Close the channels; may be called twice."""
        with self._lock:
            channels, self._channels = list(self._channels.values()), {}
        for channel in channels:
            channel.close()
