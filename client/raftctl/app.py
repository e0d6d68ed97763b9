"""Runs the work of one command: a client, signals, and the one boundary of errors.

Source: CLI.md; DESIGN.md section 7 (a session is opened with the first write).
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import click

from raftclient import RaftError, aio
from raftctl.exit_codes import ExitCode, failure_of
from raftctl.options import Settings, settings_of
from raftctl.output import Output
from raftctl.stopper import Stopper

__all__ = ["App", "claimant", "pass_app"]

T = TypeVar("T")
P = ParamSpec("P")

SESSION_TTL_S: Final = 10.0


def claimant() -> str:
    """Return what others see of this command."""
    return f"raftctl/{socket.gethostname()}/{os.getpid()}"


class App:
    """What a command needs besides its own arguments."""

    def __init__(self, settings: Settings) -> None:
        self.settings: Final = settings
        self.out: Final = Output(settings.output)

    def run(
        self,
        work: Callable[[aio.Client], Awaitable[T]],
        *,
        ttl_s: float = SESSION_TTL_S,
        new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> T:
        """Do the work with a client; SIGTERM ends it as Ctrl-C does.

        Args:
            work: Given the client, which is closed afterwards.
            ttl_s: Of the session, if one is needed.
            new_loop: Makes the loop; None = asyncio's own.

        Raises:
            Failure: It was refused or failed, as one sentence.
        """
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                return runner.run(self._connected(work, ttl_s))
        except asyncio.CancelledError:  # by Ctrl-C: nobody else cancels all of it
            raise KeyboardInterrupt from None
        except RaftError as error:
            raise failure_of(error, self.settings.endpoints) from error

    async def _connected(
        self, work: Callable[[aio.Client], Awaitable[T]], ttl_s: float
    ) -> T:
        stopper = Stopper()
        try:
            async with aio.connect(
                self.settings.endpoints,
                ttl_s=ttl_s,
                claimant=claimant(),
                timeout_s=self.settings.timeout_s,
            ) as client:
                return await work(client)
        except asyncio.CancelledError:
            if stopper.told is signal.SIGTERM:
                raise click.exceptions.Exit(ExitCode.TERMINATED) from None
            raise


def pass_app(command: Callable[Concatenate[App, P], T]) -> Callable[P, T]:
    """Give a command its ``App`` as first argument."""

    @functools.wraps(command)
    def with_app(*args: P.args, **kwargs: P.kwargs) -> T:
        app = App(settings_of(click.get_current_context()))
        return command(app, *args, **kwargs)

    return with_app
