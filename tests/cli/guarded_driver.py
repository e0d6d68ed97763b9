"""Runs a command behind a guard under a claim that is renewed for ever.

Usage: guarded_driver TTL_S REMAINING_S CMD ... .
Exit code: the command's, 205 stopped, 201 the guard died.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from raftctl.guarded import Claim, GuardDied, OnLost, Stopped, run_guarded

__all__ = ["GUARD_DIED", "STOPPED", "guard_of", "main"]

STOPPED = 205
GUARD_DIED = 201


async def _run(ttl_s: float, remaining_s: float, command: list[str]) -> int:
    claim = Claim(ttl_s, lambda: remaining_s, asyncio.Event())
    try:
        return await run_guarded(command, {}, claim, OnLost())
    except Stopped:
        return STOPPED
    except GuardDied:
        return GUARD_DIED


def main() -> None:
    """See the module."""
    _, ttl_s, remaining_s, *command = sys.argv
    sys.exit(asyncio.run(_run(float(ttl_s), float(remaining_s), command)))


def guard_of(pid: int) -> int:
    """Find the guard among the children of a driver."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in map(int, children):
        if os.getsid(child) == child:
            return child
    raise AssertionError("the driver has no guard")


if __name__ == "__main__":
    main()
