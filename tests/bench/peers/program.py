"""A load program: takes orders, and answers, as lines of JSON.

It runs in a process of its own, all rounds long (a JVM stays warm), and tells when the
measured time begins and ends, so that the harness takes the processor time of all
processes then. What it did must be found on the servers, or there is no figure.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from tests.bench.measure import read_cpu_s
from tests.bench.peers.base import PeerFailed, Run
from tests.bench.peers.tied import tied

__all__ = ["Done", "Order", "Program", "decode", "run_of"]

#: What a run may take beyond its own time: preparation and proof.
_SPARE_S: Final = 90.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Attributes:
        measure: The workload, by our name.
        endpoints: Of the servers.
        prefix: Of every name that is used; no other run has the same.
        tasks: Operations in flight.
        warm_up_s: Before the measured time.
        measured_s: How long it is.
        hold_s: How long a contended lock is held.
        killed_ns: Unix time of a kill, told to who waits for it.
    """

    measure: str = ""
    endpoints: tuple[str, ...] = ()
    prefix: str = ""
    tasks: int = 1
    warm_up_s: float = 0.0
    measured_s: float = 0.0
    hold_s: float = 0.0
    killed_ns: int = 0


class _Begin(msgspec.Struct, frozen=True, tag_field="event", tag="begin"):
    pass


class _End(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    pass


class _Failed(msgspec.Struct, frozen=True, tag_field="event", tag="failed"):
    sentence: str


class Done(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="done"):
    """What a load program tells of a run.

    Attributes:
        operations: That ended within the measured time.
        p50_us: Of an operation.
        p99_us: Of the slowest hundredth.
        acknowledged: Operations, those of the warm-up among them.
        found: Operations that the servers show to have been done.
        pause_s: From the kill of a leader to the next acknowledged write.
    """

    operations: int
    p50_us: float
    p99_us: float
    acknowledged: int
    found: int
    pause_s: float = 0.0


_Answer: TypeAlias = _Begin | _End | _Failed | Done
_ANSWERS: Final[msgspec.json.Decoder[_Answer]] = msgspec.json.Decoder(_Answer)


def decode(line: bytes) -> _Answer:
    """Read one answer.

    Raises:
        PeerFailed: It is none.
    """
    try:
        return _ANSWERS.decode(line)
    except msgspec.DecodeError as error:
        raise PeerFailed(f"the load program told {line[:200]!r}: {error}") from error


class Program:
    """One load program; ``start`` before ``run``."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        """Say how it is started, and where its complaints go."""
        self._command = tuple(command)
        self._log = log
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tied(self._command),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,  # ctrl-C is for us; we end it
            )

    async def run(self, order: Order, pids: Mapping[str, int]) -> Run:
        """Have it run a workload.

        Args:
            order: What to run.
            pids: The servers, by what to call them.

        Raises:
            PeerFailed: It failed, or its writes were not found.
        """
        assert self._process is not None, "it was started"
        named = {"client": self._process.pid, **pids}
        cpu_s: list[dict[str, float]] = []

        def sample() -> None:
            # Who has ended has no figure, and is told of by what comes next.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                cpu_s.append({role: read_cpu_s(pid) for role, pid in named.items()})

        done = await self.ask(order, begin=sample, end=sample)
        return run_of(order, done, cpu_s)

    async def ask(
        self,
        order: Order,
        *,
        begin: Callable[[], Order | None],
        end: Callable[[], None] = lambda: None,
    ) -> Done:
        """Give an order, and wait until it is done.

        Args:
            order: What to run.
            begin: Called when the measured time begins; may give one order more.
            end: Called when it ends.

        Raises:
            PeerFailed: It failed, or ended.
        """
        timeout_s = order.warm_up_s + order.measured_s + _SPARE_S
        try:
            async with asyncio.timeout(timeout_s):
                self._give(order)
                while True:
                    match decode(await self._line()):
                        case _Begin():
                            if (more := begin()) is not None:
                                self._give(more)
                        case _End():
                            end()
                        case _Failed(sentence):
                            raise PeerFailed(sentence)
                        case Done() as done:
                            return done
        except TimeoutError:
            raise PeerFailed(f"{order.measure}: not done in {timeout_s:g} s") from None

    def _give(self, order: Order) -> None:
        assert self._process is not None, "it was started"
        assert self._process.stdin is not None, "a pipe was asked for"
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")

    async def _line(self) -> bytes:
        assert self._process is not None, "it was started"
        assert self._process.stdout is not None, "a pipe was asked for"
        line = await self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(errors="replace")[-1500:]
            raise PeerFailed(f"the load program ended; it said:\n{tail}")
        return line

    async def stop(self) -> None:
        """End it; may be called twice, or before ``start``."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            self._process = None


def run_of(order: Order, done: Done, cpu_s: Sequence[Mapping[str, float]]) -> Run:
    """Make the figures of a run.

    Args:
        order: What was run.
        done: What the load program told.
        cpu_s: Processor time by process, when the measured time began and ended.

    Raises:
        PeerFailed: What was acknowledged was not found, or there is nothing to tell.
    """
    if done.found != done.acknowledged:
        raise PeerFailed(
            f"{order.measure}: {done.acknowledged} operations were acknowledged,"
            f" {done.found} were found"
        )
    if not done.operations:
        raise PeerFailed(f"{order.measure}: no operation ended in time")
    if len(cpu_s) != 2:
        raise PeerFailed(f"{order.measure}: the measured time was not told")
    before, after = cpu_s
    return Run(
        done.operations,
        done.operations / order.measured_s,
        done.p50_us,
        done.p99_us,
        {role: (after[role] - before[role]) * 1e6 / done.operations for role in before},
    )
