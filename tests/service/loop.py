"""The virtual loop of one process, as level B needs it: many tasks, any order.

Rules: what is ready in one round runs in an order that the seed draws, if the run says
so. Only errors that nobody takes end a run: children of a task group may fail. What
comes from another thread comes by an event of the world. Tasks count through, so that
sets of them have one order in every run.

Source: RELIABILITY.md section 6 (level B); ``tests.sim.loop``.
"""

from __future__ import annotations

import asyncio
import math
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from tests.sim.clock import NodeClock
from tests.sim.loop import SimLoop
from tests.sim.world import SimFailure, World

if TYPE_CHECKING:
    from tests.service.hosts import Host

__all__ = ["ServiceLoop", "current_loop"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_MILLION: Final = 1_000_000
_ROUNDS_MAX: Final = 10_000


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on where it lies in memory."""

    def __init__(self, number: int, coro: Any, **others: Any) -> None:
        self._number = number
        super().__init__(coro, **others)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class ServiceLoop(SimLoop):
    """One thread of a process; its host says what else belongs to that."""

    def __init__(
        self,
        world: World,
        label: str,
        clock: NodeClock,
        rng: Random,
        lag_us: int,
        host: Host,
        *,
        is_shuffled: bool,
    ) -> None:
        """Begin to exist; see ``SimLoop``."""
        super().__init__(world, label, clock, rng, lag_us)
        self.rng: Final = rng
        self.host: Final = host
        self.world: Final = world
        self.label: Final = label
        self._is_shuffled: Final = is_shuffled
        self._task_count = 0
        self._threadsafe_us = 0
        self._generators: Final[dict[Any, None]] = {}

    def run(self) -> None:
        """Run until nothing is ready, round by round."""
        rounds = 0
        self._is_running = True
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(finalizer=self._close_generator)
        asyncio._set_running_loop(self)  # noqa: SLF001  # made for loops
        try:
            while self._due and not self.is_held:
                batch = list(self._due)
                self._due.clear()
                if self._is_shuffled and len(batch) > 1:
                    batch = _mixed(batch, self.rng)
                self._run_round(batch)
                rounds += 1
                if rounds > _ROUNDS_MAX:
                    shown = "\n".join(map(repr, batch))
                    raise SimFailure(f"{self.label} does not come to rest: {shown}")
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001  # as above
            sys.set_asyncgen_hooks(*before)
            self._is_running = False

    def _run_round(self, batch: list[asyncio.Handle]) -> None:
        """Run what is ready; the rest later, if one of them waits for something."""
        for place, handle in enumerate(batch):
            if self.is_held:
                self._due.extendleft(reversed(batch[place:]))
                return
            if not handle.cancelled():
                handle._run()  # noqa: SLF001  # as any loop does

    def _close_generator(self, generator: Any) -> None:
        """Close a generator that was left; as ``BaseEventLoop`` does."""
        if not self.is_dead:
            self.create_task(generator.aclose())

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        """Have something called from another thread of the same process."""
        handle = asyncio.Handle(callback, args, self, context)
        now_us = self.world.now_us
        at_us = max(now_us + self.rng.randrange(1, 50), self._threadsafe_us)
        self._threadsafe_us = at_us
        self.post(at_us - now_us, f"call {self.label}", handle)
        return handle

    def take(self, callback: Callable[[*Ts], object], *args: *Ts) -> None:
        """Have something called that comes from outside; only in an event."""
        if not self.is_dead:
            self.call_soon(callback, *args)
            self.poke()

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called when so much time has passed, and not just before."""
        when_s = self.time() + delay
        handle = asyncio.TimerHandle(when_s, callback, args, self, context)
        delay_us = 1 + self._clock.true_us(max(0, math.ceil(delay * _MILLION)))
        self.post(delay_us, f"timer {self.label}", handle)
        return handle

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Make a task; its error belongs to whoever awaits it."""
        self._task_count += 1
        task: asyncio.Task[T] = _Task(
            self._task_count, coro, loop=self, context=context, name=name
        )
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)

    def is_closed(self) -> bool:
        """Tell whether its process has ended."""
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Take an error that nobody took."""
        error = context.get("exception")
        if not self.is_dead and error is not None:
            failure = SimFailure(f"{self.label}: {context.get('message')}: {error!r}")
            failure.__cause__ = error
            self.world.fail(failure)


def _mixed(batch: list[asyncio.Handle], rng: Random) -> list[asyncio.Handle]:
    """Put a round in another order that asyncio could have had it in.

    Who waits for one future is told in order, and what was called soon is called in
    order; nothing says when other futures and other tasks have their turn.
    """
    groups: dict[object, deque[asyncio.Handle]] = {}
    order: list[object] = []
    for handle in batch:
        args = handle._args or ()  # noqa: SLF001  # none: it was cancelled
        key: object = None
        if len(args) == 1 and isinstance(args[0], asyncio.Future):
            key = id(args[0])
        elif not args and _is_step(handle):
            key = handle
        groups.setdefault(key, deque()).append(handle)
        order.append(key)
    rng.shuffle(order)
    return [groups[key].popleft() for key in order]


def _is_step(handle: asyncio.Handle) -> bool:
    """Tell whether a task has its first turn, or one that it asked for."""
    name = type(handle._callback).__name__  # type: ignore[attr-defined]  # noqa: SLF001  # as above
    return name == "TaskStepMethWrapper"


def current_loop() -> ServiceLoop:
    """Return the loop that runs; only what is simulated runs in a run."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, ServiceLoop), "only what is simulated runs"
    return loop
