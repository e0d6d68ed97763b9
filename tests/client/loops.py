"""Runs a test on each kind of loop that clients run on, and nothing may be left open.

A client that was closed, or whose task was cancelled, has no socket any more: what the
garbage collector finds open afterwards fails the test.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import inspect
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, cast

import pytest
import uvloop

__all__ = ["nothing_left_open", "on_each_loop"]

_LOOPS: Final = [asyncio.SelectorEventLoop, uvloop.new_event_loop]
_TEST_S_MAX: Final = 60.0


@contextlib.contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fail if something was not closed that should have been."""
    gc.collect()  # what others have left is theirs
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(each.message) for each in caught] == []


def on_each_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run it on the loop of asyncio and on that of uvloop."""

    @functools.wraps(test)
    def run(new_loop: Callable[[], Any], **fixtures: Any) -> None:
        with nothing_left_open(), asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(asyncio.wait_for(test(**fixtures), _TEST_S_MAX))

    own = inspect.signature(test)
    loop = inspect.Parameter("new_loop", inspect.Parameter.KEYWORD_ONLY)
    has_all = own.replace(parameters=[*own.parameters.values(), loop])
    vars(run)["__signature__"] = has_all  # pytest reads it
    each = pytest.mark.parametrize("new_loop", _LOOPS, ids=["asyncio", "uvloop"])
    return cast("Callable[..., None]", each(run))
