"""Load a cluster from a process of its own: python -m tests.workload.

The process may be paused, killed or put on another network, as clients are. A line
``stop`` on its standard input brings it to an orderly end; the end of that input ends
it at once. It writes, a few times a second, a line of JSON: the clock, what was
acknowledged, the longest pause. The history is written when all is over.

Source: RELIABILITY.md section 5 (clients in a namespace of their own).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tests.checkers.recorder import Recorder
from tests.checkers.records import Meta
from tests.proof.seeds import commit_id
from tests.workload.load import Load
from tests.workload.setting import Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.workload.recorded import Tally

__all__ = ["Line", "main", "now_us"]

_LINE_S: Final = 0.2
_FAILED: Final = 3


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the process tells while it runs, and once more when it is over.

    Attributes:
        at_us: The clock of the history.
        writes: Acknowledged so far.
        last_ack_us: When the last one was; 0 = never.
        pause_us: The longest time between two, since the line before.
        calls: Begun and ended so far.
        unknown: Of them without a known outcome.
        is_over: The load has ended and the history is written.
        refused_by_guards: Old tokens refused, outside the cluster.
        troubles: What did not come about.
    """

    at_us: int
    writes: int = 0
    last_ack_us: int = 0
    pause_us: int = 0
    calls: int = 0
    unknown: int = 0
    is_over: bool = False
    refused_by_guards: int = 0
    troubles: list[str] = []


def now_us() -> int:
    """Return the one true clock of all processes of this machine, in microseconds."""
    return time.monotonic_ns() // 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one load; 0 = it came to its end."""
    parser = argparse.ArgumentParser(prog="python -m tests.workload")
    parser.add_argument("--endpoints", required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="a")
    parser.add_argument("--options", default="{}", help="fields of Options, as JSON")
    given = parser.parse_args(arguments)
    options = msgspec.json.decode(given.options, type=Options)
    meta = Meta(
        made_by="workload",
        commit=commit_id(),
        seed=given.seed,
        options={"endpoints": given.endpoints, "name": given.name},
    )
    recorder = Recorder(now_us, meta)
    return asyncio.run(_run(given, options, recorder))


async def _run(given: argparse.Namespace, options: Options, recorder: Recorder) -> int:
    load = Load(
        given.endpoints,
        random.Random(f"{given.seed}/{given.name}"),
        recorder,
        now_us,
        options,
        given.name,
    )
    _listen(load)
    telling = asyncio.create_task(_tell(load.tally))
    try:
        await load.run()
    except* Exception as group:
        load.troubles.extend(f"a caller failed: {each!r}" for each in group.exceptions)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        recorder.save(given.history)
    _write(_line(load.tally, load=load))
    return _FAILED if load.troubles else 0


def _listen(load: Load) -> None:
    """Take ``stop``, and ``at ENDPOINTS`` for clients to come; without input, end."""
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "stop":
                loop.call_soon_threadsafe(load.stop)
            elif word == "at":
                loop.call_soon_threadsafe(load.reach, rest)
        os._exit(_FAILED)  # whoever started this is gone

    threading.Thread(target=read, daemon=True).start()


async def _tell(tally: Tally) -> None:
    loop = asyncio.get_running_loop()
    while True:
        turn: asyncio.Future[None] = loop.create_future()
        loop.call_later(_LINE_S, turn.set_result, None)
        await turn
        _write(_line(tally))


def _line(tally: Tally, *, load: Load | None = None) -> Line:
    pause_us, tally.pause_us = tally.pause_us, 0
    return Line(
        at_us=now_us(),
        writes=tally.writes,
        last_ack_us=tally.last_ack_us,
        pause_us=pause_us,
        calls=tally.calls,
        unknown=tally.unknown,
        is_over=load is not None,
        refused_by_guards=0 if load is None else load.refused_by_guards,
        troubles=[] if load is None else load.troubles,
    )


def _write(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
