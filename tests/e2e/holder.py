"""A program that holds a lock, and blocks its only thread while it waits to be told on.

Started by ``test_holder_stopped``: prints its token, reads a line, then tells in one
line what it believes, and in another how its fenced write went; ends with the exit
code of the error.
"""

from __future__ import annotations

import asyncio
import sys

import raftclient
from raftclient import aio
from raftclient.fences import LockFence


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def hold(endpoints: str, name: str, ttl_s: float) -> int:
    async with aio.connect(endpoints, ttl_s=ttl_s) as client:
        lock = client.lock(name)
        grant = await lock.acquire()
        say(f"token {grant.token}")
        sys.stdin.readline()  # the loop stands still; only the keeper renews
        try:
            grant.check()
        except raftclient.LeaseLost as error:
            say(f"lost {error.exit_code}")
        else:
            say("held")
        try:
            await client.put(name, "late", fences=[LockFence(name, grant.token)])
        except raftclient.RaftError as error:
            say(type(error).__name__)
            return error.exit_code
        say("written")
    return 0


if __name__ == "__main__":
    address, lock_name, ttl = sys.argv[1:]
    sys.exit(asyncio.run(hold(address, lock_name, float(ttl))))
