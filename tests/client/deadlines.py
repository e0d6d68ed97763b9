"""Deadlines of a client's calls, which pass when a test says so."""

from __future__ import annotations

import asyncio

import pytest

from raftclient._window import Call, Window

__all__ = ["Deadlines", "fly"]


class Deadlines:
    """Those of all calls that go over a stream from here on."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._calls: list[Call] = []
        add = Window.add

        def seen(window: Window, call: Call) -> bool:
            self._calls.append(call)
            return add(window, call)

        patch.setattr(Window, "add", seen)

    def pass_now(self) -> None:
        """Let all of them be over."""
        for call in self._calls:
            call.deadline_s = 0.0


def fly(by_s: float) -> None:
    """Let so much of this test's time be over at once."""
    loop = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + by_s  # type: ignore[method-assign]  # of this loop
