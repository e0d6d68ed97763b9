"""Runs a merge of state.db in a process of its own and says what became of it.

Rules: the process ends with ours, however ours ends. A disk without room is told as
such; like any other failure of a merge it leaves the state as it was.

Source: DESIGN.md section 6 (state.db); RELIABILITY.md rule 51.
"""

import asyncio
import sys
from pathlib import Path

from raftd.storage.errors import DamagedFiles, DiskFull, StorageError
from raftd.storage.merge import EXIT_DAMAGED, EXIT_FULL, EXIT_OVERTAKEN

__all__ = ["run_merge"]


async def run_merge(path: Path) -> bool:
    """Merge all chunks of state.db into a new base.

    Returns:
        False if an install replaced the state before the merge was done.

    Raises:
        DamagedFiles: A chunk is missing or altered.
        DiskFull: There is no room for a new base.
        StorageError: Something else was in the way.
    """
    # Its input is a pipe from here: when this process ends, so does the merge.
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "raftd.storage.merge", "--until-eof"),
            str(path),
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise StorageError(f"The merge of {path} cannot begin: {error}") from error
    assert process.stderr is not None, "a pipe was asked for"
    try:
        message = (await process.stderr.read()).decode(errors="replace").strip()
        code = await process.wait()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    match code:
        case 0:
            return True
        case _ if code == EXIT_OVERTAKEN:
            return False
        case _ if code == EXIT_DAMAGED:
            raise DamagedFiles(message)
        case _ if code == EXIT_FULL:
            raise DiskFull(message)
        case _:
            raise StorageError(
                f"The merge of {path} failed with exit code {code}: {message}"
            )
