"""A loop whose time passes only while nothing is left to do.

Timers come in their order and on time, however slow the machine is, and nobody waits
for them. Work that was given to a thread, or to a socket, is waited for first.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import Any, Final, ParamSpec, TypeVar, TypeVarTuple

import pytest

from raftd.node import caretaker, driver, member_desk, write_queue

__all__ = ["VirtualLoop", "in_virtual_time"]

Args = ParamSpec("Args")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_SLACK_S: Final = 1e-6


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        """Begin at an arbitrary time."""
        self.now_s = 1000.0
        self.in_threads = 0
        super().__init__(_Patient(self))

    def time(self) -> float:
        """Return the time that has passed."""
        return self.now_s

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """Have a thread do something; time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self.in_threads += 1
        future.add_done_callback(self._on_thread_done)
        return future

    def _on_thread_done(self, _: asyncio.Future[Any]) -> None:
        self.in_threads -= 1


class _Patient(selectors.DefaultSelector):
    """Lets time pass where others wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or (timeout > 0 and self._loop.in_threads):
            return super().select(None)
        found = super().select(0)
        if not found and timeout > 0:
            self._loop.now_s += timeout + _SLACK_S
        return found


class _LoopTime:
    """Stands in for the ``time`` module: the time of the loop that runs."""

    @staticmethod
    def perf_counter() -> float:
        """Return it in seconds."""
        return asyncio.get_running_loop().time()

    monotonic = perf_counter


def in_virtual_time(
    test: Callable[Args, Coroutine[Any, Any, None]],
) -> Callable[Args, None]:
    """Run a test, and the drivers in it, on a loop of its own whose time is virtual."""

    @functools.wraps(test)
    def run(*args: Args.args, **kwargs: Args.kwargs) -> None:
        with (
            pytest.MonkeyPatch.context() as patched,
            asyncio.Runner(loop_factory=VirtualLoop) as runner,
        ):
            for module in (caretaker, driver, member_desk, write_queue):
                patched.setattr(module, "time", _LoopTime)
            runner.run(test(*args, **kwargs))

    return run
