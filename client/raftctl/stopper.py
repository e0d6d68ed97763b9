"""Ends the work of a command by SIGTERM or Ctrl-C, whatever it is doing.

Rules:
    * The loop takes the signals, so that none is lost in a callback or a destructor,
      where an exception has no effect. A second Ctrl-C waits for nothing.
    * Ctrl-C stays ignored where it was when the command started: shells start so what
      is to run in the background.
    * Who takes the signals over for a while gives them back with ``listen_again``.

Source: CLI.md (how commands end).
"""

from __future__ import annotations

import asyncio
import signal
from contextvars import ContextVar
from typing import Final

__all__ = ["Stopper", "listen_again"]

_PRESENT: Final[ContextVar[Stopper]] = ContextVar("_PRESENT")


class Stopper:
    """Cancels the task that made it when it is told to."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "work is run by a task"
        self._task: Final = task
        self._loop: Final = asyncio.get_running_loop()
        self._takes_interrupts: Final = (
            signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
        )
        self.told: signal.Signals | None = None
        """The first signal that came."""
        _PRESENT.set(self)
        self.listen()

    def listen(self) -> None:
        """Take the signals; may be called again."""
        self._loop.add_signal_handler(signal.SIGTERM, self._stop, signal.SIGTERM)
        if self._takes_interrupts:
            self._loop.add_signal_handler(signal.SIGINT, self._stop, signal.SIGINT)

    def _stop(self, number: signal.Signals) -> None:
        if number is signal.SIGINT and (self.told is number or self._task.done()):
            raise KeyboardInterrupt
        self.told = self.told or number
        self._task.cancel()


def listen_again() -> None:
    """Let signals end the work again, if there is one that they end."""
    present = _PRESENT.get(None)
    if present is not None:
        present.listen()
