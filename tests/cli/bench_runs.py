"""Runs of the benchmark as a command: short ones, and long ones that are stopped."""

from __future__ import annotations

import signal

from cluster.processes import Processes
from raftclient import WatchKind, aio
from raftctl.exit_codes import ExitCode
from tests.cli.conftest import Ctl, Ran

__all__ = ["START_S", "STOPS", "run_short", "until_there"]

_SHORT = ("--warm-up", "0", "--in-flight", "8")
START_S = 60.0
STOPS = [
    (signal.SIGINT, ExitCode.INTERRUPTED),
    (signal.SIGTERM, ExitCode.TERMINATED),
]
"""What ends a run, and the exit code that says so."""


def run_short(ctl: Ctl, *words: str) -> Ran:
    """Run it for a moment; longer if a busy machine did nothing in that moment."""
    for seconds in ("200ms", "2s"):
        ran = ctl("bench", "--seconds", seconds, *_SHORT, *words)
        if "was acknowledged in" not in ran.err:
            return ran
    return ctl("bench", "--seconds", "20s", *_SHORT, *words)


async def until_there(node: Processes, key: str) -> None:
    """Wait for a key."""
    async with (
        aio.connect(node.endpoints, timeout_s=START_S) as client,
        client.watch(key=key, initial=True) as events,
    ):
        async for event in events:
            if event.kind in {WatchKind.INITIAL, WatchKind.PUT}:
                return
