"""Loading in steps, and one machine in the place of another."""

import random

import pytest

from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.loading import (
    STEP_ROWS,
    RowsByTable,
    in_steps,
    pop_in_steps,
    sort,
)
from raftd.statemachine.machine import Machine, MachineLoading
from raftd.statemachine.rows import Row
from raftd.statemachine.schema.entry import MarkEntry, encode_batch, seal
from raftd.statemachine.schema.kv import PutKey
from tests.statemachine.harness import Harness
from tests.statemachine.random_log import LIMITS, random_log


@pytest.mark.parametrize("count", [0, 1, 2048, 2049, 30_000])
def test_keys_are_sorted_in_steps_as_at_once(count: int) -> None:
    chance = random.Random(count)
    keys = [chance.randbytes(chance.randrange(1, 9)) for _ in range(count)]
    keys = list(dict.fromkeys(keys))
    found: list[bytes] = []
    steps = sum(1 for _ in sort(keys, found))
    assert found == sorted(keys)
    assert steps >= len(keys) / 4096


def test_of_equal_keys_the_last_row_counts_and_a_gone_one_does_not() -> None:
    rows = RowsByTable()
    rows.add([(30, b"a", b"1"), (30, b"b", b"1"), (10, b"", b"x")])
    rows.add([(30, b"a", b"2"), (30, b"b", None), (30, b"c", None)])
    assert rows.tables() == [10, 30]
    assert list(rows.keys(30)) == [b"a"]
    assert rows.take(30, b"a") == b"2"
    assert rows.take(10, b"") == b"x"


def test_steps_are_as_many_as_the_items_ask_for() -> None:
    seen: list[int] = []
    assert sum(1 for _ in in_steps(range(3 * STEP_ROWS + 1), seen.append)) == 3
    assert seen == list(range(3 * STEP_ROWS + 1))
    items = dict.fromkeys(range(2 * STEP_ROWS))
    assert sum(1 for _ in pop_in_steps(items)) == 2
    assert not items


def _rows_of(machine: Machine) -> dict[tuple[int, bytes], bytes]:
    """Mark, and return the rows that are marked."""
    mark = encode_batch(0, 0, (), [seal(0, 0, 0, MarkEntry(0, b"", 0))])
    machine.apply(machine.applied_index + 1, mark)
    rows = {
        (table, key): value
        for table, key, value in machine.take_checkpoint().rows()
        if value is not None
    }
    machine.checkpoint_written()
    return rows


@pytest.mark.parametrize("seed", range(4))
def test_a_machine_that_became_another_goes_on_as_that_one(seed: int) -> None:
    log = [payload for payload, _ in random_log(seed, 200)]
    straight, old = Machine(LIMITS), Machine(LIMITS)
    disk: dict[tuple[int, bytes], bytes | None] = {}
    for index, payload in enumerate(log[:100], 1):
        if straight.apply(index, payload).mark is not None:
            for table, key, value in straight.take_checkpoint().rows():
                disk[table, key] = value
            straight.checkpoint_written()
        if index <= 20 and old.apply(index, payload).mark is not None:
            assert old.take_checkpoint().index == index
    mark = encode_batch(0, 0, (), [seal(0, 0, 0, MarkEntry(0, b"", 0))])
    straight.apply(101, mark)
    for table, key, value in straight.take_checkpoint().rows():
        disk[table, key] = value
    straight.checkpoint_written()
    rows: list[Row] = [(table, key, value) for (table, key), value in disk.items()]
    loading = MachineLoading(LIMITS, index=101, digest=straight.digest)
    loading.feed(rows)
    held_context = old.context
    old.become(loading.finish())
    assert old.context is not held_context
    for index, payload in enumerate(log[100:], 102):
        applied = old.apply(index, payload)
        assert repr(applied) == repr(straight.apply(index, payload))
        if applied.mark is not None:
            for machine in (old, straight):
                assert list(machine.take_checkpoint().rows())
                machine.checkpoint_written()
    assert _rows_of(old) == _rows_of(straight)
    assert old.digest == straight.digest


def test_the_state_that_was_replaced_can_be_let_go_of_in_steps() -> None:
    harness = Harness()
    for number in range(600):
        harness.do(PutKey(b"k%d" % number, b"v"))
    husk = Machine(DEFAULT_LIMITS)
    harness.machine.become(husk)
    assert husk.kv.count_all == 600
    assert harness.machine.kv.count_all == 0
    assert sum(1 for _ in husk.let_go_steps()) > 4


def test_checkpoints_that_overlap_hold_each_the_state_of_their_mark() -> None:
    quick, slow = Harness(), Harness()
    values = [b"1", b"2", b"3"]
    opened = []
    for value in values:
        for harness in (quick, slow):
            for key in (b"a", b"b", value):
                harness.do(PutKey(key, value))
        quick.write(quick.mark())
        opened.append(slow.mark())
    with pytest.raises(AssertionError, match="digest"):
        _ = opened[-1].digest
    for checkpoint in opened:
        for table, key, row in checkpoint.rows():
            if row is None:
                slow.disk.pop((table, key), None)
            else:
                slow.disk[table, key] = row
    slow.machine.checkpoint_written()
    assert slow.disk == quick.disk
    assert slow.machine.digest == quick.machine.digest
