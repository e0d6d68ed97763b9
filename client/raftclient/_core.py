"""What every primitive stands on: writes, reads, watches and claims of one client.

A client has one main session, which holds its claims and normally carries everything.
A call that the server answers late (a lock that is waited for) keeps its number
unanswered, and ``acknowledged`` with it; before that fills the session's window, other
calls move to a session of their own. Claims name the main session's lease
explicitly, so it does not matter which session numbers them.

A session that is lost is followed by a new one: what the cluster certainly has not
applied is sent again there; what it may have applied is asked for under its old
number (``raftclient._drain``); what depended on the lease ends with it.

Source: SEMANTICS.md section 1; DESIGN.md section 9.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Any, Final, TypeVar

from raftclient import _drain
from raftclient._keepalive import KEEPER
from raftclient._session import Session
from raftclient._unary import closed
from raftclient._window import Call
from raftclient.errors import LeaseLost, OutcomeUnknown, RaftError, Unavailable
from raftclient.fences import fences_to_wire

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from google.protobuf.message import Message

    from raftclient._held import Held
    from raftclient._shared import Shared, Subscription
    from raftclient.fences import Fence
    from raftpb.v1.sessions_pb2 import StreamReply, StreamRequest

__all__ = ["Core"]

T = TypeVar("T")


class Core:
    """The engine of one client, on the loop that made it."""

    def __init__(self, shared: Shared, timeout_s: float) -> None:
        self.shared: Final = shared
        self.timeout_s: Final = timeout_s
        self.loop: Final = asyncio.get_running_loop()
        self._main: Session | None = None
        self._prompt: Session | None = None
        self._waiting: Session | None = None
        self._sides: list[Session] = []
        self._closing: set[asyncio.Task[None]] = set()
        """Of sides that are of no use any more; not cancelled, so that they end."""
        self._watching: dict[Subscription, tuple[Session, int]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._holding: set[Held] = set()
        self._watched: set[Held] = set()
        self._draining: dict[Call, None] = {}
        self._new_future: Final = self.loop.create_future
        self._now_s: Final = self.loop.time
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._is_closed

    # --- calls -------------------------------------------------------------------

    def write(
        self,
        request: StreamRequest,
        timeout_s: float | None,
        *,
        fences: Sequence[Fence] = (),
        held: Held | None = None,
        waits_s: float | None = 0.0,
        orphan: Callable[[StreamReply], None] | None = None,
    ) -> asyncio.Future[StreamReply]:
        """Send a numbered write; the future ends with its answer or a RaftError.

        Args:
            request: Without tag and number.
            timeout_s: How long beyond ``waits_s``; None = the client's default.
            fences: Claims it depends on.
            held: The claim it is a part of: lost with it.
            waits_s: How long the server may hold the answer back; None = for ever.
            orphan: Takes an answer that its caller has given up.
        """
        if fences:
            request.fences.extend(fences_to_wire(fences))
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        end_s = self._now_s() + limit_s
        future: asyncio.Future[StreamReply] = self._new_future()
        # Positions: each keyword would cost 0.05 us.
        if held is None and orphan is None and waits_s == 0.0:
            call = Call(request, future, end_s, True)
        else:
            wait_s = math.inf if waits_s is None else waits_s
            call = Call(request, future, end_s + wait_s, True, wait_s > 0, held, orphan)
            if held is not None and held not in self._watched:
                self._watch_over(held)
        self._lane(call.waits).submit(call)
        return future

    def post(self, request: StreamRequest, *, beside_waits: bool = False) -> None:
        """Send a write whose answer nobody waits for: something is given back.

        Args:
            request: Without tag and number.
            beside_waits: In line behind the calls that wait.
        """
        future: asyncio.Future[StreamReply] = self.loop.create_future()
        future.add_done_callback(_ignore)
        end_s = self.loop.time() + self.shared.ttl_ms / 1000
        call = Call(request, future, end_s, is_write=True)
        if not self._is_closed:
            self._lane(beside_waits).submit(call)

    def read(
        self, request: StreamRequest, timeout_s: float | None
    ) -> asyncio.Future[StreamReply]:
        """Send a linearizable read; the future ends with its answer or a RaftError."""
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        future: asyncio.Future[StreamReply] = self._new_future()
        call = Call(request, future, self._now_s() + limit_s, is_write=False)
        self._lane(False).submit(call)
        return future

    async def unary(self, request: Message, timeout_s: float | None) -> Any:
        """Make a repeatable call to any member."""
        self._check_open()
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        response = await self.shared.unary.call(request, limit_s)
        self.shared.revision = max(self.shared.revision, response.header.revision)
        if not self._is_closed and self.shared.endpoints.wants_members():
            self.spawn(self.shared.unary.ask_members())
        return response

    def claim_now(self) -> Held | None:
        """Return the lease of the main session, which is safe; None = none is open."""
        return self._live_main().held

    async def claim(self, timeout_s: float | None) -> Held:
        """Return the lease of the main session, opening one if need be.

        Raises:
            Unavailable: No session could be opened in time.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        main = self._live_main()
        if main.held is not None:
            return main.held
        try:
            async with asyncio.timeout(limit_s):
                return await main.opened()
        except TimeoutError as error:
            raise Unavailable(f"no session was opened in {limit_s:g} s") from error

    def hold(self, held: Held) -> None:
        """Renew this no longer when the client is closed."""
        self._holding.add(held)

    def drop(self, held: Held) -> None:
        """It was given back; one that is not there is no error."""
        self._holding.discard(held)
        self._watched.discard(held)

    def _watch_over(self, held: Held) -> None:
        """End the calls that are a part of a claim when it is lost.

        One listener for all of them: one for each call took 5 us of it.
        """
        self._watched.add(held)

        def end_calls() -> None:
            self._watched.discard(held)
            for call in self._calls():
                if call.held is held:
                    call.fail(held.error(may_be_applied=call.may_be_applied))

        held.on_lost(lambda: self.call_soon(end_calls))

    def _calls(self) -> list[Call]:
        sessions = [*([self._main] if self._main is not None else []), *self._sides]
        found = [call for session in sessions for call in session.window.calls()]
        return [*found, *self._draining]

    # --- watches -----------------------------------------------------------------

    def subscribe(self, subscription: Subscription) -> None:
        """Begin a watch; it goes on over streams and sessions until it ends."""
        session = self._lane(False)
        self._watching[subscription] = (session, session.subscribe(subscription))

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a watch; one that has ended is no error."""
        session, tag = self._watching.pop(subscription, (None, 0))
        if session is not None:
            session.unsubscribe(tag)

    # --- tasks of the client's own -----------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run something that this client owns and ends when it is closed."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_soon(self, work: Callable[[], None]) -> None:
        """Run something on the client's loop; callable from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(work)

    async def close(self) -> None:
        """End every session; claims go at once. May be called twice."""
        self._is_closed = True
        sessions = [*self._sides, *([self._main] if self._main is not None else [])]
        for subscription in list(self._watching):
            self.unsubscribe(subscription)
            subscription.fail(closed())
        for held in self._holding:
            KEEPER.remove(held)
            held.lose(closed())
        self._holding.clear()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ends = (session.close() for session in sessions)
        await asyncio.gather(*ends, *self._closing)
        await self.shared.channels.close()
        self.shared.renewer.close()

    # --- sessions ----------------------------------------------------------------

    def _check_open(self) -> None:
        if self._is_closed:
            raise closed()

    def _live_main(self) -> Session:
        self._check_open()
        if self._main is not None:
            self._main.check()  # what goes on may have opened the next one already
        if self._main is None or self._main.over is not None:
            self._main = Session(self.shared, self._session_over)
        return self._main

    def _lane(self, waits: bool) -> Session:
        lane = self._waiting if waits else self._prompt
        if lane is not None and lane.takes_more():
            return lane
        main = self._live_main()
        if main.window.is_held_up():
            self._close_idle_sides()
            lane = Session(self.shared, self._session_over)
            self._sides.append(lane)
        else:
            lane = main
        if waits:
            self._waiting = lane
        else:
            self._prompt = lane
        return lane

    def _close_idle_sides(self) -> None:
        for side in list(self._sides):
            if side not in {self._prompt, self._waiting} and not len(side.window):
                self._sides.remove(side)
                closing = self.loop.create_task(side.close())
                self._closing.add(closing)
                closing.add_done_callback(self._closing.discard)

    def _session_over(self, session: Session) -> None:
        why = session.over
        assert why is not None
        if session in self._sides and not self._is_closed:
            self._sides.remove(session)
        calls = session.window.take_all()
        watches = session.take_subscriptions()
        goes_on = isinstance(why, LeaseLost) or why.reason == "SESSION_UNKNOWN"
        if self._is_closed or not goes_on:
            for call in calls:
                call.fail(_end_of(call, why))
            for watch in watches:
                self._watching.pop(watch, None)
                watch.fail(why.fresh())
            return
        for watch in watches:
            self.subscribe(watch)
        waiters = [call for call in calls if not call.future.done()]
        drained = [call for call in waiters if call.may_be_applied]
        for call in waiters:
            if not call.may_be_applied:
                self._send_anew(call)
        if why.reason == "SESSION_UNKNOWN" or session.held is None:
            for call in drained:
                call.fail(_end_of(call, why))
        elif drained:
            self._draining.update(dict.fromkeys(drained))
            self.spawn(self._drain(session.held.id, session.key, drained))

    async def _drain(self, session_id: int, key: bytes, calls: Sequence[Call]) -> None:
        unary = self.shared.unary
        try:
            await _drain.settle_all(unary, session_id, key, calls, self._send_anew)
        finally:
            for call in calls:
                del self._draining[call]

    def _send_anew(self, call: Call) -> None:
        """Send what was certainly not applied, under a number of another session."""
        if call.held is not None and call.held.is_lost():
            call.fail(call.held.error())
            return
        call.unsettled_sends = 0
        call.request.ClearField("number")
        try:
            self._lane(call.waits).submit(call)
        except RaftError as error:  # closed meanwhile
            call.fail(error)


def _ignore(done: asyncio.Future[StreamReply]) -> None:
    if not done.cancelled():
        done.exception()  # else asyncio would report it as never looked at


def _end_of(call: Call, why: RaftError) -> RaftError:
    if call.may_be_applied:
        return OutcomeUnknown(
            f"the session ended before the answer came: {why.message}",
            reason=why.reason,
        )
    return why.fresh()
