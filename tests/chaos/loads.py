"""The loads of a round: processes of their own that call, record, and are paused.

Source: RELIABILITY.md section 5 (load); `tests.workload` for what they do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

import msgspec

from tests.chaos.fault import Fault
from tests.chaos.leftovers import WORLD
from tests.workload.__main__ import Line, now_us
from tests.workload.setting import Options

if TYPE_CHECKING:
    import random
    from typing import Self

    from tests.chaos.world import World

__all__ = ["LoadProcess", "PauseClient", "Stuck"]

_ROOT: Final = Path(__file__).resolve().parents[2]
_POLL_S: Final = 0.05
_LINE_BYTES_MAX: Final = 1 << 24


class Stuck(Exception):
    """What should have come about did not, in ample time; the text says what."""


class LoadProcess:
    """One load; make it with ``start``."""

    def __init__(self, process: asyncio.subprocess.Process, history: Path) -> None:
        self.history: Final = history
        self.line: Line = Line(at_us=now_us())
        """What it told last."""
        self._process: Final = process
        self._pause_us = 0
        self._reading: Final = asyncio.create_task(self._read())

    @classmethod
    async def start(
        cls,
        endpoints: str,
        history: Path,
        *,
        seed: str,
        name: str,
        options: Options,
        world: str = "",
    ) -> Self:
        """Start a load.

        Args:
            endpoints: Of the cluster.
            history: Where it is written in the end.
            seed: Of all it draws.
            name: Apart from others on the same cluster.
            options: How much of what.
            world: Whose end is its own.
        """
        with history.with_suffix(".err").open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.workload"),
                *("--endpoints", endpoints, "--history", str(history)),
                *("--seed", seed, "--name", name),
                *("--options", msgspec.json.encode(options).decode()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                cwd=_ROOT,
                env=os.environ | {WORLD: world},
                limit=_LINE_BYTES_MAX,
            )
        return cls(process, history)

    async def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None, "a pipe was asked for"
        while text := await stdout.readline():
            self.line = msgspec.json.decode(text, type=Line)
            self._pause_us = max(self._pause_us, self.line.pause_us)

    async def wait_for_writes(self, since_us: int, within_s: float, why: str) -> None:
        """Wait until a write was acknowledged after an instant.

        Raises:
            Stuck: None was in time, or the load has ended.
        """
        end_us = now_us() + int(within_s * 1_000_000)
        while self.line.last_ack_us <= since_us:
            if self._process.returncode is not None:
                raise Stuck(f"the load ended {why}: {self.said()}")
            if now_us() > end_us:
                raise Stuck(f"no write was acknowledged within {within_s:g} s {why}")
            await asyncio.sleep(_POLL_S)

    def lap_us(self) -> int:
        """Return the longest time without a write since this was asked last."""
        pause_us, self._pause_us = self._pause_us, 0
        if self.line.last_ack_us:
            pause_us = max(pause_us, self.line.at_us - self.line.last_ack_us)
        return pause_us

    def pause(self) -> None:
        """Stop the process where it is."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on; nothing happens if it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)

    async def reach(self, endpoints: str) -> None:
        """Say where the cluster is now, to clients that are yet to connect."""
        await self._say(f"at {endpoints}")

    async def finish(self, within_s: float) -> list[str]:
        """Bring it to its orderly end.

        Returns:
            What did not come about.

        Raises:
            Stuck: It did not end.
        """
        await self._say("stop")
        try:
            async with asyncio.timeout(within_s):
                await self._reading
                await self._process.wait()
        except TimeoutError:
            raise Stuck(f"the load did not end within {within_s:g} s") from None
        if not self.line.is_over:
            raise Stuck(f"the load broke off: {self.said()}")
        return [*self.line.troubles]

    async def _say(self, line: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None, "a pipe was asked for"
        with contextlib.suppress(ConnectionError):
            stdin.write(f"{line}\n".encode())
            await stdin.drain()

    def said(self) -> str:
        """Return the last lines of its standard error."""
        text = self.history.with_suffix(".err").read_text(errors="replace")
        return " | ".join(text.splitlines()[-3:])

    async def close(self) -> None:
        """Kill it if it still runs."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


class PauseClient(Fault):
    """Stop the clients of one load where they are; they do not know when they go on."""

    name = "pause_client"
    row = "SIGSTOP / SIGCONT"
    lasts_s: ClassVar[tuple[float, float]] = (0.2, 8.0)
    load: LoadProcess | None = None
    """Whom it is for; set before it is injected."""

    async def inject(self, world: World, rng: random.Random) -> None:
        del world, rng  # there is one such load
        assert self.load is not None, "set before"
        self.load.pause()
        self.has_happened = True

    async def heal(self, world: World) -> None:
        del world
        if self.load is not None:
            self.load.resume()
