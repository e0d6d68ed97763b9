"""How the synchronous face is made of the asyncio one: descriptors, not copies.

All synchronous clients of a process share one background thread with one loop; a call
is handed to it and waited for. A face holds the asyncio object it stands for, and each
of its methods is one line that names the asyncio method: signature, types and
docstring come from there.

Source: DESIGN.md section 9 (one implementation, two thin faces).
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterable, Callable, Coroutine, Iterator
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    TypeVar,
    overload,
)

from raftclient.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = [
    "PORTAL",
    "Face",
    "Portal",
    "Reading",
    "blocking",
    "blocking_handle",
    "direct",
    "giving",
    "iterating",
]

A_co = TypeVar("A_co", covariant=True)
B = TypeVar("B")
F = TypeVar("F")
P = ParamSpec("P")
R = TypeVar("R")

CHUNK: Final = 200
"""How many items of a finite iterator one hand-over brings."""


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # noqa: PLC0415 - it exists only on some platforms
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Portal:
    """The background loop; it runs while somebody holds it open."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._holders = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Hold it open."""
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._loop = loop = _new_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(loop,), name="raftclient-loop", daemon=True
                )
                self._thread.start()

    def close(self) -> None:
        """Hold it open no longer."""
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
            loop, self._loop = self._loop, None
            thread, self._thread = self._thread, None
        assert loop is not None, "opened before it is closed"
        assert thread is not None, "opened before it is closed"
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run something on the loop and wait for its result.

        Raises:
            InvalidRequest: This is the loop's own thread, which would wait for itself.
        """
        loop = self._loop
        assert loop is not None, "opened before it is used"
        if threading.current_thread() is self._thread:
            work.close()
            raise InvalidRequest("a callback of the client cannot wait for the client")
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:  # an interrupt: what was begun is not left running
            future.cancel()
            raise

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a plain function on the loop and wait for its result."""

        async def work() -> R:
            return function(*args, **kwargs)

        return self.run(work())

    def iterate(self, source: AsyncIterable[R]) -> Iterator[R]:
        """Iterate over a finite asyncio iterable, some items at a time."""
        iterator = self.call(aiter, source)
        while items := self.run(_some_of(iterator)):
            yield from items


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        asyncio.set_event_loop(None)
        loop.close()


async def _some_of(iterator: AsyncIterator[R]) -> list[R]:
    items: list[R] = []
    async for item in iterator:
        items.append(item)
        if len(items) == CHUNK:
            break
    return items


PORTAL: Final = Portal()
"""The process's own."""


class Face(Generic[A_co]):
    """The synchronous face of an asyncio object."""

    def __init__(self, inner: A_co) -> None:
        self._inner: Final = inner

    def __repr__(self) -> str:
        return f"<synchronous {self._inner!r}>"


class Reading(Generic[B, R]):
    """An attribute of the asyncio object, read from the face."""

    def __init__(self, read: Callable[[B], R]) -> None:
        self._read: Final = read

    @overload
    def __get__(self, face: None, owner: Any) -> Reading[B, R]: ...
    @overload
    def __get__(self, face: Face[B], owner: Any) -> R: ...
    def __get__(self, face: Face[B] | None, owner: Any) -> R | Reading[B, R]:
        """Read it."""
        if face is None:
            return self
        return self._read(face._inner)  # noqa: SLF001 - descriptor of that class


def blocking(
    method: Callable[Concatenate[B, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Face[B], P], R]:
    """Make a method that waits for what the asyncio method gives."""

    @functools.wraps(method)
    def call(face: Face[B], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return PORTAL.run(method(_inner(face), *args, **kwargs))

    return call


def blocking_handle(
    method: Callable[Concatenate[B, P], Coroutine[Any, Any, R]], wrap: Callable[[R], F]
) -> Callable[Concatenate[Face[B], P], F]:
    """Make a method that waits, and gives a face of the result."""

    @functools.wraps(method)
    def call(face: Face[B], /, *args: P.args, **kwargs: P.kwargs) -> F:
        return wrap(PORTAL.run(method(_inner(face), *args, **kwargs)))

    return call


def giving(
    method: Callable[Concatenate[B, P], R], wrap: Callable[[R], F]
) -> Callable[Concatenate[Face[B], P], F]:
    """Make a method that gives a face of what a plain method makes on the loop."""

    @functools.wraps(method)
    def call(face: Face[B], /, *args: P.args, **kwargs: P.kwargs) -> F:
        return wrap(PORTAL.call(method, _inner(face), *args, **kwargs))

    return call


def direct(
    method: Callable[Concatenate[B, P], R],
) -> Callable[Concatenate[Face[B], P], R]:
    """Make a method that calls a thread-safe plain method here and now."""

    @functools.wraps(method)
    def call(face: Face[B], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return method(_inner(face), *args, **kwargs)

    return call


def iterating(
    method: Callable[Concatenate[B, P], AsyncIterable[R]],
) -> Callable[Concatenate[Face[B], P], Iterator[R]]:
    """Make a method that iterates over what the asyncio method gives."""

    @functools.wraps(method)
    def call(face: Face[B], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        return PORTAL.iterate(method(_inner(face), *args, **kwargs))

    return call


def _inner(face: Face[B]) -> B:
    return face._inner  # noqa: SLF001 - the methods made here are that class's own
