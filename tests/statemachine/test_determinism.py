"""One log means one state: across processes, restarts, and slow checkpoints."""

import os
import random
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import Checkpoint
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.entry import MarkEntry, decode_batch, encode_batch, seal
from tests.statemachine.random_log import LIMITS, random_log

_ROOT = Path(__file__).resolve().parents[2]
_Disk = dict[tuple[int, bytes], bytes]
_FINAL_MARK = encode_batch(0, 0, (), [seal(0, 0, 0, MarkEntry(0, b"", 0))])


def _digest_under(hash_seed: str, seed: int) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.statemachine.random_log", str(seed), "300"],
        cwd=_ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_two_processes_with_other_hash_seeds_agree_on_every_byte() -> None:
    first = _digest_under("1", seed=7)
    assert len(first) == 128
    assert first == _digest_under("2", seed=7)
    assert first != _digest_under("1", seed=8)


class _Member:
    """Applies a log and writes checkpoints, each finished within its own time."""

    def __init__(self, machine: Machine, disk: _Disk) -> None:
        self.machine = machine
        self.disk = disk
        self.open: Checkpoint | None = None

    def apply(self, payload: bytes) -> AppliedEntry:
        applied = self.machine.apply(self.machine.applied_index + 1, payload)
        if applied.mark is not None:
            self.finish()
            self.open = self.machine.take_checkpoint()
        return applied

    def write(self, rows: int) -> None:
        """Write so many rows of the open checkpoint."""
        if self.open is None:
            return
        for table, key, value in islice(self.open.rows(), rows):
            if value is None:
                self.disk.pop((table, key), None)
            else:
                self.disk[table, key] = value

    def finish(self) -> None:
        """Write the rest of the open checkpoint."""
        if self.open is not None:
            self.write(self.open.rows_left + 1)
            self.machine.checkpoint_written()
            self.open = None

    def save(self) -> _Disk:
        self.apply(_FINAL_MARK)
        self.finish()
        return self.disk

    def restart(self) -> "_Member":
        """Return the member as its disk knows it; its open checkpoint is finished."""
        self.finish()
        rows = [(table, key, value) for (table, key), value in self.disk.items()]
        random.Random(1).shuffle(rows)  # the order on disk means nothing
        machine = Machine.load(
            LIMITS,
            rows,
            index=self.machine.digest_index,
            digest=self.machine.digest,
        )
        return _Member(machine, dict(self.disk))


@pytest.mark.parametrize("seed", range(12))
def test_a_checkpoint_written_late_holds_the_state_of_its_mark(seed: int) -> None:
    quick, slow = _Member(Machine(LIMITS), {}), _Member(Machine(LIMITS), {})
    chance = random.Random(seed)
    for payload, is_mark in random_log(seed, 250):
        if is_mark:
            slow.finish()
            assert slow.disk == quick.disk
            assert slow.machine.digest == quick.machine.digest
        assert repr(quick.apply(payload)) == repr(slow.apply(payload))
        quick.finish()
        slow.write(chance.choice([0, 0, 1, 3]))
    assert slow.save() == quick.save()


@pytest.mark.parametrize("seed", range(12))
def test_a_restarted_member_goes_on_as_if_it_had_never_stopped(seed: int) -> None:
    straight = _Member(Machine(LIMITS), {})
    restarted = _Member(Machine(LIMITS), {})
    since_mark: list[bytes] = []
    chance = random.Random(seed)
    for payload, is_mark in random_log(seed, 250):
        assert repr(restarted.apply(payload)) == repr(straight.apply(payload))
        assert restarted.machine.next_due_ms == straight.machine.next_due_ms
        assert restarted.machine.has_backlog == straight.machine.has_backlog
        straight.finish()
        since_mark = [] if is_mark else [*since_mark, payload]
        if straight.machine.digest_index and chance.random() < 0.1:
            restarted = restarted.restart()
            for again in since_mark:
                restarted.apply(again)
    assert restarted.save() == straight.save()
    assert restarted.machine.digest == straight.machine.digest


def test_the_digest_tells_states_apart_and_chains() -> None:
    log = list(random_log(3, 120))
    whole, changed = _Member(Machine(LIMITS), {}), _Member(Machine(LIMITS), {})
    for payload, _ in log:
        whole.apply(payload)
        changed.apply(payload)
    whole.finish()
    changed.finish()
    assert whole.machine.digest == changed.machine.digest
    extra = encode_batch(10**9, 0, (), [])
    whole.apply(encode_batch(10**9 + 1, 0, (), []))
    changed.apply(extra)
    whole.save()
    changed.save()
    assert whole.machine.digest != changed.machine.digest
    whole.save()
    changed.save()
    assert whole.machine.digest != changed.machine.digest


@pytest.mark.parametrize("seed", range(6))
def test_a_refused_command_leaves_every_row_as_it_was(seed: int) -> None:
    member = _Member(Machine(LIMITS), {})
    refused_count = 0
    for payload, _ in random_log(seed, 200):
        member.apply(payload)
        member.finish()
    stamp = (member.machine.context.now_ms, member.machine.context.wall_ms)
    while member.machine.has_backlog:  # or tasks would change rows as well
        member.apply(encode_batch(*stamp, (), []))
        member.finish()
    for payload, _ in random_log(seed + 100, 60):
        before = dict(member.save())
        probe = member.restart()
        applied = probe.apply(_at(payload, *stamp))
        if applied.answers and all(
            isinstance(answer, Refusal) for answer in applied.answers
        ):
            refused_count += 1
            assert probe.save() == before
    assert refused_count > 3


def _at(payload: bytes, now_ms: int, wall_ms: int) -> bytes:
    """Return a payload's first command, unnumbered, as an entry of this instant."""
    if not payload:
        return payload
    for request in decode_batch(payload).requests:
        if not isinstance(request.command, MarkEntry):
            again = seal(0, 0, 0, request.command, request.fences)
            return encode_batch(now_ms, wall_ms, (), [again])
    return b""
