"""The server processes of a peer: started, watched, stopped where they are, ended.

Each logs into its own file, is ended by its process id, and ends with us. They hold
nothing that anybody needs afterwards, so they are ended by SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

from tests.bench.peers.base import PeerFailed
from tests.bench.peers.tied import tied

__all__ = ["Servers"]

T = TypeVar("T")

_ASK_AGAIN_S: Final = 0.05
_TAIL_CHARS: Final = 1500


class Servers:
    """Some processes, by name."""

    def __init__(self, folder: Path) -> None:
        """Say where; ``start`` starts.

        Args:
            folder: For logs; it is made if it is not there.
        """
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._is_resting = False

    @property
    def names(self) -> list[str]:
        """Of those that were started and not ended by us."""
        return list(self._running)

    def start(
        self, name: str, command: Sequence[str], variables: Mapping[str, str] = {}
    ) -> None:
        """Start a server; does not wait until it serves."""
        assert name not in self._running, f"{name} is running"
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                tied(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **variables},
                start_new_session=True,  # ctrl-C is for us; we end it
            )

    def pid(self, name: str) -> int:
        """The process of a server."""
        return self._running[name].pid

    def tail(self, name: str) -> str:
        """The end of what a server has logged."""
        return self._log(name).read_text(errors="replace")[-_TAIL_CHARS:]

    async def until(
        self, what: str, ask: Callable[[], Awaitable[T | None]], *, timeout_s: float
    ) -> T:
        """Ask again and again until there is an answer.

        Args:
            what: Is waited for, for the sentence.
            ask: Returns None, or raises OSError, as long as it is not so.
            timeout_s: For all of it.

        Raises:
            PeerFailed: A server ended, or it took too long.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        why: object = "no answer"
        while loop.time() < end_s:
            try:
                answer = await ask()
            except OSError as error:
                why = error
            else:
                if answer is not None:
                    return answer
            ended = await asyncio.to_thread(self._ended_within, _ASK_AGAIN_S)
            if ended:
                raise PeerFailed(
                    f"{ended} ended by itself; it logged:\n{self._tails([ended])}"
                )
        raise PeerFailed(
            f"{what} not within {timeout_s:g} s ({why}); the logs end with:\n"
            f"{self._tails(self.names)}"
        )

    def _ended_within(self, timeout_s: float) -> str:
        """Wait for the end of any server; returns its name, or nothing."""
        poll = select.poll()
        descriptors = {os.pidfd_open(s.pid): name for name, s in self._running.items()}
        try:
            for descriptor in descriptors:
                poll.register(descriptor, select.POLLIN)
            ended = poll.poll(timeout_s * 1000)
            return descriptors[ended[0][0]] if ended else ""
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _tails(self, names: Sequence[str]) -> str:
        return "\n".join(f"--- {name}\n{self.tail(name)}" for name in names)

    def rest(self) -> None:
        """Stop all where they are."""
        self._signal_all(signal.SIGSTOP)
        self._is_resting = True

    def wake(self) -> bool:
        """Let all go on; returns whether they rested."""
        rested, self._is_resting = self._is_resting, False
        if rested:
            self._signal_all(signal.SIGCONT)
        return rested

    def _signal_all(self, number: signal.Signals) -> None:
        for server in self._running.values():
            server.send_signal(number)

    def kill(self, name: str) -> None:
        """Kill a server with kill -9, and see it dead."""
        server = self._running.pop(name)
        server.kill()
        server.wait()

    def stop(self) -> None:
        """End all; may be called twice."""
        for server in self._running.values():
            server.kill()
        while self._running:
            self._running.popitem()[1].wait()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"
