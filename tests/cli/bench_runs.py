"""Runs of the benchmark as a command: short ones, and long ones that are stopped."""

from __future__ import annotations

import signal

from cluster.processes import Processes
from raftclient import WatchKind, aio
from raftctl.exit_codes import ExitCode

__all__ = ["SHORT", "START_S", "STOPS", "until_there"]

SHORT = ("bench", "--seconds", "200ms", "--warm-up", "0", "--in-flight", "8")
START_S = 60.0
STOPS = [
    (signal.SIGINT, ExitCode.INTERRUPTED),
    (signal.SIGTERM, ExitCode.TERMINATED),
]
"""What ends a run, and the exit code that says so."""


async def until_there(node: Processes, key: str) -> None:
    """Wait for a key."""
    async with (
        aio.connect(node.endpoints, timeout_s=START_S) as client,
        client.watch(key=key, initial=True) as events,
    ):
        async for event in events:
            if event.kind in {WatchKind.INITIAL, WatchKind.PUT}:
                return
