"""A power loss takes away nothing that was called durable, on either way to the log.

A library between a process and its C library notes what each write has overwritten, and
which writes a sync has covered; after a kill the others are taken back, whole or in
part. It is made with the machine's compiler.

Source: RELIABILITY.md section 0 findings 1 and 2, rules 23 and 49, code DUR.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from raftd.storage.errors import DamagedFiles
from tests.chaos.disks import undo_unsynced
from tests.chaos.shim import COMPILER, Page, make_shim
from tests.proof.seeds import ROOT
from tests.storage.power import LAST
from tests.storage.tools import copy_directory, entries, open_node

pytestmark = pytest.mark.skipif(
    COMPILER is None, reason="there is no compiler to stand between with"
)

LOSSES = 8


def append_and_die(tmp_path: Path, how: str) -> tuple[Path, Path]:
    """Append until all is called durable, then kill.

    Returns:
        The node's directory, and what undoes its unsynced writes.
    """
    live, journal = tmp_path / "live", tmp_path / "unsynced"
    page = Page(tmp_path / "orders")
    page["keeps_unsynced"] = 1
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.power", str(live), how],
        cwd=ROOT,
        env=os.environ
        | {
            "LD_PRELOAD": str(make_shim(tmp_path)),
            "CHAOS_ORDERS": str(page.path),
            "CHAOS_UNSYNCED": str(journal),
        },
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(2, LAST + 1)]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        page.close()
    assert told == [*range(2, LAST + 1)]
    return live, journal


async def last_after(live: Path, journal: Path, tmp_path: Path, seed: int) -> int:
    """Return the last entry that a power loss leaves; they are those written."""
    root = tmp_path / str(seed)
    node = root / str(live).lstrip("/")
    node.parent.mkdir(parents=True)
    copy_directory(live, node)
    copied = shutil.copy(journal, root / "unsynced")
    undo_unsynced(Path(copied), root, random.Random(seed))
    async with open_node(node) as stores:
        tail = stores.recovery.log.tail
    assert tail == entries(1, len(tail))
    return len(tail)


@pytest.mark.parametrize("how", ["here", "thread"])
async def test_what_was_called_durable_is_there_after_a_power_loss(
    tmp_path: Path, how: str
) -> None:
    live, journal = append_and_die(tmp_path, how)
    for seed in range(LOSSES):
        assert await last_after(live, journal, tmp_path, seed) == LAST


async def test_without_syncs_a_power_loss_takes_something_away(tmp_path: Path) -> None:
    """Else the test above could not fail."""
    live, journal = append_and_die(tmp_path, "careless")
    left = []
    for seed in range(LOSSES):
        try:
            left.append(await last_after(live, journal, tmp_path, seed))
        except DamagedFiles:  # a start sees it, and refuses
            left.append(0)
    assert min(left) < LAST
