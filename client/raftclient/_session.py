"""One session over its reconnecting streams: the engine of the client.

It lives on the caller's loop, where one wake-up carries a whole batch each way; only
renewals are elsewhere (``raftclient._keepalive``). Rules:

* Without a write there is no session: reads go over a stream that has none.
* A stream that ends is replaced, with everything unanswered sent again in order.
  A retryable refusal (no leader, no room) ends the stream from this side: the member
  refuses all later numbers of it anyway.
* A session that is lost is never used again: its calls are handed to ``on_over``.

Source: SEMANTICS.md section 1; DESIGN.md sections 7 and 9.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Final

from raftclient._endpoints import members_of
from raftclient._held import Held
from raftclient._hello import Hello
from raftclient._keepalive import KEEPER
from raftclient._plain import PlainStream
from raftclient._pump import Pump
from raftclient._rpc_stream import RpcStream
from raftclient._status import SESSION_OVER_REASONS
from raftclient._stream import StreamEnded
from raftclient._unary import Backoff, closed
from raftclient._window import Window
from raftclient.errors import (
    InternalError,
    OutcomeUnknown,
    RaftError,
    Unavailable,
)
from raftpb.v1 import leases_pb2, sessions_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftclient._endpoints import Target
    from raftclient._shared import Shared, Subscription
    from raftclient._stream import Stream
    from raftclient._window import Call
    from raftpb.v1.sessions_pb2 import (
        StreamSessionResponse,
    )

__all__ = ["Session"]

HELLO_S: Final = 2.0
PULSE_S: Final = 0.25
"""How often silence is looked at while something is awaited."""
REDIRECTS_AT_ONCE_MAX: Final = 3
CLOSE_S: Final = 1.0
LEADER_S_MAX: Final = 0.5
"""How long one member is asked who leads, before it is another's turn."""
_NEVER_S: Final = float("inf")


class Session:
    """See the module."""

    def __init__(self, shared: Shared, on_over: Callable[[Session], None]) -> None:
        self._shared: Final = shared
        self._on_over: Final = on_over
        self._loop: Final = asyncio.get_running_loop()
        self._key: Final = secrets.token_bytes(16)
        self.window: Final = Window()
        self.held: Held | None = None
        self.over: RaftError | None = None
        """Why it is of no use any more."""
        self._subscriptions: dict[int, Subscription] = {}
        self._hello: Hello | None = None
        self._pump: Pump | None = None
        self._wanted: Final = asyncio.Event()
        self._opened: Final = asyncio.Event()
        self._wants_session = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = _NEVER_S
        self._is_upgrading = False
        self._asking: asyncio.Task[None] | None = None
        self._redirects = 0
        self._task: Final = self._loop.create_task(self._run())
        self._task.add_done_callback(self._check_task)

    # --- for callers -------------------------------------------------------------

    @property
    def key(self) -> bytes:
        """The secret that every call of the session carries."""
        return self._key

    def submit(self, call: Call) -> None:
        """Put a call on its way; its future gets the answer."""
        was_owed_nothing = self.window.add(call) and not self._subscriptions
        if call.deadline_s < self._timer_s or self._timer is None:
            self._arm(call.deadline_s)
        if self.held is None and call.is_write:
            self._want_session()
        if was_owed_nothing:
            self._owed_from_now()
        self._wake()

    def check(self) -> None:
        """Notice that its lease has run out, whatever else has had time to run."""
        if self.held is not None and self.held.is_lost():
            self._lost_here()

    def takes_more(self) -> bool:
        """Tell whether it lives, and no long wait takes up half of its room."""
        self.check()
        return self.over is None and not self.window.is_held_up()

    async def opened(self) -> Held:
        """Wait until the session is open, and return its lease."""
        self._want_session()
        self._wake()
        await self._opened.wait()
        if self.over is not None:
            raise self.over.fresh()
        assert self.held is not None
        return self.held

    def subscribe(self, subscription: Subscription) -> int:
        """Begin a watch; returns the tag that ends it."""
        if not len(self.window) and not self._subscriptions:
            self._owed_from_now()
        tag = self.window.tag_subscription()
        self._subscriptions[tag] = subscription
        if self._pump is not None:
            self._pump.begin(tag, subscription)
        if self._timer is None:
            self._arm(_NEVER_S)
        self._wake()
        return tag

    def unsubscribe(self, tag: int) -> None:
        """End a watch; one that has ended is no error."""
        if self._subscriptions.pop(tag, None) is not None and self._pump is not None:
            self._pump.cancel(tag)

    def take_subscriptions(self) -> list[Subscription]:
        """Hand the watches over, to go on in another session."""
        taken = list(self._subscriptions.values())
        self._subscriptions.clear()
        return taken

    async def close(self) -> None:
        """End it; claims go at once. May be called twice."""
        self.end(closed())
        if self._pump is not None:
            # The cut ends the task, behind what gRPC may still have to say to it.
            await asyncio.wait({self._task}, timeout=CLOSE_S)
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        held, self.held = self.held, None
        if held is not None:
            request = sessions_pb2.CloseSessionRequest(
                session_id=held.id, session_key=self._key
            )
            with contextlib.suppress(RaftError):
                await self._shared.unary.call(request, CLOSE_S)

    def end(self, error: RaftError) -> None:
        """Use it no longer; ``on_over`` takes what is left. Once."""
        if self.over is not None:
            return
        self.over = error
        if self.held is not None:
            KEEPER.remove(self.held)
            self.held.lose(error)
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
        if self._pump is not None:
            self._pump.stream.cut()
        self._opened.set()
        self._wanted.set()
        self._on_over(self)

    # --- the life of streams -----------------------------------------------------

    async def _run(self) -> None:
        backoff = Backoff()
        while self.over is None:
            if not self._has_work():
                self._wanted.clear()
            await self._wanted.wait()
            if self.over is not None:
                return
            target = self._shared.endpoints.pick()
            try:
                await self._serve(target, backoff)
            except StreamEnded as ended:
                if self.over is not None:  # cut for that, by no fault of the member
                    return
                wait_s = self._digest(ended, target, backoff)
                if wait_s and self.over is None:
                    await asyncio.sleep(wait_s)

    def _has_work(self) -> bool:
        if len(self.window) or self._subscriptions:
            return True
        return self._wants_session and self.held is None

    async def _serve(self, target: Target, backoff: Backoff) -> None:
        if self._wants_session and self.held is None:
            await self._open()
            if not self._has_work():
                return
        held = self.held
        stream = self._stream_to(target.address, is_read_only=held is None)
        hello = sessions_pb2.StreamHello(
            session_id=held.id if held is not None else 0,
            session_key=self._key if held is not None else b"",
            relay=target.is_relay,
            client_version=self._shared.client_version,
        )
        try:
            self._hello = Hello(stream, hello, self._shared.endpoints)
            first = await self._hello.run(HELLO_S)
            self._hello = None
            self._learn(target, first)
            if stream.is_read_only and self._wants_session:
                return
            self._pump = pump = Pump(
                stream,
                self.window,
                self._subscriptions,
                self._shared,
                first.header.leader,
            )
            try:
                await pump.run()
            finally:
                if pump.has_served:
                    backoff.reset()
        finally:
            self._hello = self._pump = None
            stream.cut()

    def _stream_to(self, address: str, *, is_read_only: bool) -> Stream:
        shared = self._shared
        is_plain = shared.dialects.is_plain(address, self._loop.time())
        kind = PlainStream if is_plain else RpcStream
        return kind(shared, address, is_read_only=is_read_only)

    async def _open(self) -> None:
        shared = self._shared
        request = sessions_pb2.OpenSessionRequest(
            session_key=self._key, ttl_ms=shared.ttl_ms, claimant=shared.claimant
        )
        try:
            answer, sent_s = await shared.unary.call_timed(request, HELLO_S)
        except RaftError as error:
            if not isinstance(error, Unavailable | OutcomeUnknown):
                self.end(error)
            raise StreamEnded(error) from error
        held = Held("the session", answer.session_id, answer.ttl_ms, sent_s)
        renewal = leases_pb2.KeepAliveLeaseRequest(
            lease_id=held.id, session_key=self._key
        )
        held.on_lost(self._lost_anywhere)
        KEEPER.add(held, shared.renewer.sender(renewal), lambda reply: reply.ttl_ms)
        self.held = held
        self._opened.set()

    def _learn(self, target: Target, first: StreamSessionResponse) -> None:
        endpoints = self._shared.endpoints
        node_id = first.welcome.node_id or first.header.node_id
        endpoints.learn(target.address, node_id, {})
        endpoints.learn_members(members_of(first.welcome, first.header))
        endpoints.redirect(first.header.leader, "")
        endpoints.succeeded(target.address)
        self._shared.renewer.prefer(target.address)
        self._redirects = 0

    def _digest(self, ended: StreamEnded, target: Target, backoff: Backoff) -> float:
        """Learn from the end of a stream; returns how long to wait now."""
        endpoints = self._shared.endpoints
        if ended.node_id:
            endpoints.learn(target.address, ended.node_id, {})
        if ended.error.reason in SESSION_OVER_REASONS and self.held is not None:
            self.end(ended.error)
            return 0.0
        if self._is_upgrading or ended.is_of_dialect:
            self._is_upgrading = False
            return 0.0
        if ended.is_redirect and ended.leader:
            endpoints.redirect(ended.leader, ended.leader_address)
            self._redirects += 1
            if self._redirects <= REDIRECTS_AT_ONCE_MAX:
                return 0.0
        endpoints.failed(target.address, is_silent=ended.is_silent)
        return 0.0 if ended.is_silent and endpoints.leader else backoff.next_s()

    # --- waking up ---------------------------------------------------------------

    def _wake(self) -> None:
        if self._pump is not None:
            self._pump.wake()
        else:  # while a pump runs it is set: ``_run`` alone clears it, before it waits
            self._wanted.set()

    def _owed_from_now(self) -> None:
        """Count a member's silence from now on: it owed nothing before."""
        if self._pump is not None:
            self._pump.alive_s = self._loop.time()

    def _want_session(self) -> None:
        self._wants_session = True
        self._wanted.set()
        if self._pump is not None and self._pump.stream.is_read_only:
            pump, self._pump = self._pump, None
            self._is_upgrading = True
            pump.stream.cut()

    def _check_task(self, task: asyncio.Task[None]) -> None:
        crash = None if task.cancelled() else task.exception()
        if crash is not None:
            self.end(InternalError(f"the session's engine failed: {crash!r}"))

    def _lost_anywhere(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody to tell
            self._loop.call_soon_threadsafe(self._lost_here)

    def _lost_here(self) -> None:
        if self.over is None and self.held is not None:
            self.end(self.held.error())

    def _arm(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = min(when_s, self._loop.time() + PULSE_S)
        self._timer = self._loop.call_at(self._timer_s, self._tick)

    def _tick(self) -> None:
        now_s = self._loop.time()
        late_s = max(0.0, now_s - self._timer_s)
        self._timer, self._timer_s = None, _NEVER_S
        late, earliest_s = self.window.give_up(now_s)
        for call in late:
            call.fail(_too_late(call))
        if not len(self.window) and not self._subscriptions:
            return
        self._arm(earliest_s)
        silent = self._exchange
        if silent is None or not silent.look_for_silence(now_s, late_s):
            return
        if self._asking is None or self._asking.done():
            self._asking = self._loop.create_task(self._ask_who_leads(silent))

    @property
    def _exchange(self) -> Hello | Pump | None:
        """What there is between this session and its member now."""
        return self._pump or self._hello

    async def _ask_who_leads(self, silent: Hello | Pump) -> None:
        """Leave a silent member if another one knows a new leader.

        So an election is followed by how long it took, and not by how long a member
        may be busy.
        """
        endpoints = self._shared.endpoints
        other = endpoints.another(silent.stream.address)
        if other is None:
            return
        leader = await self._shared.unary.ask_members(other, LEADER_S_MAX)
        if silent is self._exchange and leader and silent.is_led_elsewhere(leader):
            endpoints.redirect(leader, "")
            silent.give_up()


def _too_late(call: Call) -> RaftError:
    if call.may_be_applied:
        return OutcomeUnknown("no answer came before the deadline")
    return Unavailable("the cluster did not take the request before the deadline")
