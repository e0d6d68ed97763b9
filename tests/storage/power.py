"""A program that appends to a log and tells of each append that is durable.

    python -m tests.storage.power DIRECTORY here|thread|careless

It appends on the loop (here), on the log's own thread, or on the loop without waiting
for syncs: a planted bug, which shows that a power loss is one. Then it waits to be
killed.
"""

import asyncio
import sqlite3
import sys
from pathlib import Path

from raftd.storage import log_here
from raftd.storage.files import connect_writer_here
from tests.storage.tools import entries, open_node, write

__all__ = ["LAST"]

LAST = 12


def _careless(path: Path) -> sqlite3.Connection:
    db = connect_writer_here(path)
    db.execute("PRAGMA synchronous=NORMAL")
    return db


async def _append(directory: Path, how: str) -> None:
    for name, seconds in (("_REST_S_FIRST", 0.0), ("_SLOW_S", 60.0), ("_MEAN_S", 60.0)):
        setattr(log_here, name, seconds)  # no sync of this machine is a slow one
    if how == "careless":
        vars(log_here)["connect_writer_here"] = _careless
    async with open_node(directory) as stores:
        await stores.log.make_room()
        await stores.log.write(write(entries(1, 1), hard_state=(1, None)))
        for index in range(2, LAST + 1):
            one = write(entries(index, index), commit=index - 1)
            if how == "thread":
                await stores.log.write(one)
            else:
                assert stores.log.write_here(one)
            sys.stdout.write(f"{index}\n")
            sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    asyncio.run(_append(Path(sys.argv[1]), sys.argv[2]))
