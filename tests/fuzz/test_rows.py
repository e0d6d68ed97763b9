"""Rows of every table: what is written is read the same, what is altered is told.

Source: RELIABILITY.md section 6 ("round-trip of every row codec"); DESIGN.md section 5.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import strategies as st

from raftd.consensus.types import NodeId
from raftd.server.parts import load_machine
from raftd.statemachine.machine import Machine
from raftd.statemachine.tables import Table, unpack_key
from raftd.storage.chunks import pack
from raftd.storage.errors import BAD_ROWS, DamagedFiles
from raftd.storage.open import open_stores
from tests.fuzz.mutation import harmed
from tests.fuzz.profiles import fuzzed
from tests.fuzz.states import RICH_LIMITS, rich_harness
from tests.node.cluster import Cluster
from tests.statemachine.harness import Disk
from tests.storage.tools import meta

RICH: Final = rich_harness()
KEYS: Final = sorted(RICH.disk)
BY_TABLE: Final = {
    table: [key for key in KEYS if key[0] == table] for table in sorted(Table)
}


def load(disk: Disk) -> Machine:
    rows = [(table, key, value) for (table, key), value in disk.items()]
    machine = RICH.machine
    return Machine.load(
        RICH_LIMITS, rows, index=machine.applied_index, digest=machine.digest
    )


def test_there_is_a_row_of_every_table() -> None:
    assert [table.name for table, keys in BY_TABLE.items() if not keys] == []


def test_rows_are_read_as_they_were_written() -> None:
    """Every row that a loaded machine writes again is the row it was loaded from."""
    machine = load(RICH.disk)
    for table, keys in BY_TABLE.items():
        for _, key in keys:
            machine.context.mark(table, unpack_key(table, key))
    again = {
        (table, key): value
        for table, key, value in machine.context.rows.take(0, b"").rows()
    }
    assert again == RICH.disk


@st.composite
def _altered(draw: st.DrawFn) -> Disk:
    disk = dict(RICH.disk)
    for _ in range(draw(st.integers(1, 2))):
        table = draw(st.sampled_from(list(BY_TABLE)))
        number, key = place = draw(st.sampled_from(BY_TABLE[table]))
        value = disk.pop(place, b"")
        match draw(st.integers(0, 4)):
            case 0:
                pass  # the row is gone
            case 1:
                disk[number, harmed(draw, key)] = value
            case 2:
                disk[draw(st.integers(0, 99)), key] = value
            case _:
                others = [RICH.disk[other] for other in BY_TABLE[table]]
                disk[place] = harmed(draw, value, others)
    return disk


@fuzzed(300, disk=_altered())
def test_altered_rows_are_told_by_the_errors_that_every_loader_expects(
    disk: Disk,
) -> None:
    try:
        machine = load(disk)
    except BAD_ROWS:
        return
    assert machine.applied_index == RICH.machine.applied_index


@fuzzed(60, steps=st.lists(st.sampled_from([1, 500, 2000, 9000]), max_size=6))
def test_a_loaded_state_goes_on_as_the_one_it_was_written_from(
    steps: list[int],
) -> None:
    """Whatever comes due later comes due the same."""
    first, second = rich_harness(), RICH.reload(RICH_LIMITS)
    for after_ms in steps:
        told = [it.entry(after_ms=after_ms) for it in (first, second)]
        assert told[0] == told[1]
    assert first.save() == second.save()


async def test_a_start_from_rows_of_another_release_is_told_in_a_sentence(
    tmp_path: Path,
) -> None:
    settings = Cluster(tmp_path, 1).settings(1)
    async with await open_stores(
        settings.data_dir, node_id=NodeId(1), cluster_name=settings.cluster
    ) as stores:
        rows = [(int(Table.LEASES), b"no number", b"no lease")]
        await stores.state.checkpoint(meta(0, term=0), pack(rows))
    async with await open_stores(
        settings.data_dir, node_id=NodeId(1), cluster_name=settings.cluster
    ) as stores:
        with pytest.raises(DamagedFiles, match=r"state\.db holds rows that") as told:
            await load_machine(settings, stores)
    assert str(told.value).endswith(".")
