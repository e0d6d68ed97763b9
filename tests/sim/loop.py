"""An asyncio loop over simulated time: one for each life of a node.

Rules: nothing waits for real. A timer is an event of the world; what is ready runs to
its end within the event that made it ready. A paused loop keeps everything for later,
a killed one forgets it. Work for a thread is done at once, some time later. Errors that
nobody takes are errors of the run.

Source: RELIABILITY.md section 6 (level B: the production code on a virtual clock).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor
from contextvars import Context
from functools import partial
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple

from tests.sim.clock import NodeClock
from tests.sim.world import SimFailure, World

__all__ = ["SimLoop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MILLION: Final = 1_000_000
_ROUNDS_MAX: Final = 100_000
_THREAD_US_MAX: Final = 3000
_BUSY_S: Final = (0.0, 0.0, 0.0002, 0.002)


class SimLoop(asyncio.BaseEventLoop):
    """Just as much of a loop as raftd uses."""

    def __init__(
        self, world: World, label: str, clock: NodeClock, rng: Random, lag_us: int
    ) -> None:
        """Begin to exist.

        Args:
            world: Whose events its timers are.
            label: Names it in the trace.
            clock: Tells how fast the node's time passes.
            rng: Draws how long things take.
            lag_us: What comes from outside is taken in so much later at the most.
        """
        self._is_running = False
        super().__init__()
        self.lag_us = lag_us
        self.is_paused = False
        self.is_dead = False
        self._world: Final = world
        self._label: Final = label
        self._clock: Final = clock
        self._rng: Final = rng
        self._due: Final[deque[asyncio.Handle]] = deque()
        self._tasks: Final[dict[asyncio.Task[Any], None]] = {}
        self._is_run_due = False
        self._busy_s = 0.0

    # --- the life ---------------------------------------------------------------

    def poke(self) -> None:
        """Run what is ready, now or a little later."""
        if self._is_running or self.is_paused or self.is_dead:
            return
        if not self.lag_us:
            self.run()
        elif not self._is_run_due:
            self._is_run_due = True
            delay_us = self._rng.randrange(self.lag_us)
            self._world.after(delay_us, f"turn {self._label}", self._run_late)

    def _run_late(self) -> None:
        self._is_run_due = False
        if not self.is_paused and not self.is_dead:
            self.run()

    def run(self) -> None:
        """Run until nothing is ready."""
        rounds = 0
        self._is_running = True
        asyncio._set_running_loop(self)  # noqa: SLF001  # made for loops
        try:
            while self._due and not self.is_held:
                handle = self._due.popleft()
                if not handle.cancelled():
                    handle._run()  # noqa: SLF001  # as any loop does
                rounds += 1
                if rounds > _ROUNDS_MAX:
                    raise SimFailure(f"{self._label} does not come to rest")
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001  # as above
            self._is_running = False

    def enter(self, begin: Callable[[], None]) -> None:
        """Call something on this loop, and run what came of it."""
        self.call_soon(begin)
        self.run()

    @property
    def is_held(self) -> bool:
        """Whether it stands still and will go on; one that is dead only ends."""
        return self.is_paused and not self.is_dead

    def hold(self, for_us: int) -> None:
        """Stand still from here on: what runs now is waiting for something."""
        self.is_paused = True
        self._world.after(for_us, f"{self._label} goes on", self.resume)

    def resume(self) -> None:
        """Go on after a pause, with all that came meanwhile."""
        self.is_paused = False
        self.poke()

    def kill(self) -> None:
        """Forget everything: tasks end without having an effect."""
        self.is_dead = True
        for task in list(self._tasks):
            task.cancel()
        self.run()

    # --- what raftd uses --------------------------------------------------------

    def time(self) -> float:
        """Return the node's monotonic time in seconds."""
        return self._clock.monotonic_us(self._world.now_us) / _MILLION

    def busy_time(self) -> float:
        """Return time for long work, which a little of passes with each look."""
        self._busy_s += self._rng.choice(_BUSY_S)
        return self._busy_s

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Have something called in the next round."""
        handle = asyncio.Handle(callback, args, self, context)
        self._due.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called after some seconds of the node's time."""
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        delay_us = self._clock.true_us(max(0, int(delay * _MILLION)))
        self.post(delay_us, f"timer {self._label}", handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called at a time."""
        return self.call_later(when - self.time(), callback, *args, context=context)

    def post(self, delay_us: int, label: str, handle: asyncio.Handle) -> None:
        """Have something called at a true time, if this loop still lives then."""
        self._world.after(delay_us, label, self._fire, handle)

    def _fire(self, handle: asyncio.Handle) -> None:
        if not self.is_dead and not handle.cancelled():
            self._due.append(handle)
            self.poke()

    def after(self, delay_us: int, label: str) -> asyncio.Future[None]:
        """Return a future that is done after some true time."""
        future: asyncio.Future[None] = self.create_future()
        self.post(delay_us, label, asyncio.Handle(_finish, (future,), self))
        return future

    def finish_soon(self, delay_us: int, label: str, future: Any) -> None:
        """Have a future done earlier than was said."""
        self.post(delay_us, label, asyncio.Handle(_finish, (future,), self))

    def create_future(self) -> asyncio.Future[Any]:
        """Make a future."""
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Make a task; its error is one of the run."""
        assert isinstance(coro, Coroutine), "raftd has no other kind"
        task = asyncio.Task(coro, loop=self, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        del self._tasks[task]
        if self.is_dead or task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._world.fail(error)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Do a thread's work a little later, all at once."""
        assert executor is None, "raftd uses the default one"
        future: asyncio.Future[T] = self.create_future()
        if self.is_dead:
            future.cancel()
            return future
        act = partial(_do, future, func, args)
        delay_us = self._rng.randrange(_THREAD_US_MAX)
        label = f"thread {self._label}"
        self.post(delay_us, label, asyncio.Handle(act, (), self))
        return future

    def get_debug(self) -> bool:
        """Tell that nothing is recorded."""
        return False

    def is_running(self) -> bool:
        """Tell whether something runs."""
        return self._is_running

    def is_closed(self) -> bool:
        """Tell that there is nothing to close."""
        return True

    def _timer_handle_cancelled(self, _: asyncio.TimerHandle) -> None:
        return

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Take an error that nobody took."""
        error = context.get("exception")
        if not self.is_dead and error is not None:
            self._world.fail(error)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _do(
    future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    if future.done():
        return
    try:
        result = func(*args)
    except Exception as error:  # the caller's, wherever that is
        future.set_exception(error)
    else:
        future.set_result(result)
