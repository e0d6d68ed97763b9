"""``raftd restore`` and ``raftd backup-info``: equal members of a cluster, or none."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftd.consensus.types import HardState, NodeId, Term
from raftd.node.roster import decode_roster
from raftd.node.service import WatchKind, WatchSpec, WriteCall
from raftd.server.main import main
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.machine import Machine
from raftd.statemachine.restore import REVISIONS_SKIPPED
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.kv import KeyPut, PutKey
from raftd.storage import offline
from raftd.storage.errors import DiskFull
from raftd.storage.identity import Identity
from raftd.storage.open import open_stores
from raftd.storage.types import CheckpointMeta
from tests.node.cluster import Cluster
from tests.server.backups import MEMBERS, make_backup, sample_state
from tests.structure import ROOT

_GOLDEN = ROOT / "tests" / "golden" / "backup_v1.raftdb"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make_backup(tmp_path / "backup", sample_state())


def _run(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False)


def _restore(file: Path, data_dir: Path, *more: str, node_id: int = 1) -> Result:
    flags = ["--node-id", str(node_id), "--data-dir", str(data_dir)]
    return _run(
        *("restore", str(file), *flags, "--cluster", "new", "--members", MEMBERS, *more)
    )


def _sentence(result: Result, code: int) -> str:
    """Return the one sentence of what was refused; there must be nothing else."""
    assert result.exit_code == code, result.output
    (line,) = result.output.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(".")
    return line


def _contents(
    data_dir: Path, node_id: int
) -> tuple[list[bytes], CheckpointMeta, Identity, HardState]:
    async def read() -> tuple[list[bytes], CheckpointMeta, Identity, HardState]:
        async with await open_stores(
            data_dir, node_id=NodeId(node_id), cluster_name="new"
        ) as stores:
            log, meta = stores.recovery.log, stores.state.meta
            assert meta is not None
            assert (log.first_index, log.previous_term) == (
                meta.applied_index + 1,
                meta.applied_term,
            )
            assert log.last_index == log.commit == meta.applied_index
            chunks = list(stores.state.load_chunks())
            return chunks, meta, stores.identity, log.hard_state

    return asyncio.run(read())


def _machine(data_dir: Path) -> Machine:
    async def load() -> Machine:
        async with await open_stores(
            data_dir, node_id=NodeId(1), cluster_name="new"
        ) as stores:
            meta = stores.state.meta
            assert meta is not None
            return Machine.load(
                DEFAULT_LIMITS,
                stores.state.load(),
                index=meta.applied_index,
                digest=meta.digest,
            )

    return asyncio.run(load())


# --- restore -------------------------------------------------------------------------


def test_members_restored_from_one_file_are_equal_but_for_who_they_are(
    tmp_path: Path, file: Path
) -> None:
    found = []
    for node_id in (1, 2, 3):
        data_dir = tmp_path / f"n{node_id}"
        result = _restore(file, data_dir, node_id=node_id)
        assert result.exit_code == 0, result.output
        assert "start all of them" in result.output
        found.append(_contents(data_dir, node_id))
    chunks, metas, identities, hard_states = zip(*found, strict=True)
    assert chunks[0] == chunks[1] == chunks[2]
    assert metas[0] == metas[1] == metas[2]
    assert len(metas[0].extra) == 16
    assert metas[0].applied_term == 3
    assert hard_states == (HardState(Term(3)),) * 3
    assert len({identity.incarnation for identity in identities}) == 3
    assert not any(identity.is_bound for identity in identities)
    assert [identity.node_id for identity in identities] == [1, 2, 3]
    roster = decode_roster(metas[0].membership)
    assert roster.membership.voters == (1, 2, 3)
    assert [record.name for record in roster.members] == ["n1", "n2", "n3"]


def test_claims_have_ended_and_everything_else_is_there(
    tmp_path: Path, file: Path
) -> None:
    old = sample_state()
    assert _restore(file, tmp_path / "n1").exit_code == 0
    machine = _machine(tmp_path / "n1")
    config = machine.kv.find(b"config")
    assert config is not None
    assert config.value == b"new"
    assert machine.kv.find(b"presence") is None
    assert machine.leases.count() == 0
    assert machine.locks.names() == machine.elections.names() == []
    assert machine.revision > old.machine.revision + REVISIONS_SKIPPED
    page = machine.queues.list_jobs("work")
    assert page is not None
    assert [(job.state, job.crashes) for job in page.jobs] == [
        (JobState.READY, 0),
        (JobState.READY, 0),
        (JobState.SCHEDULED, 0),
    ]
    machine.queues.audit()


def test_one_member_alone_serves_what_three_had(tmp_path: Path, file: Path) -> None:
    cluster = Cluster(tmp_path, size=1)
    (member,) = cluster.members
    members = f"1={member.name}@{member.peer}/{member.client}"
    data_dir = cluster.settings(1).data_dir
    flags = ("--members", members, "--cluster", "test")
    assert _restore(file, data_dir, *flags).exit_code == 0

    async def serve() -> None:
        async with cluster:
            node = await cluster.leader()
            old_rev = sample_state().machine.revision
            watch = node.watch(
                WatchSpec(keep=lambda _: True, from_rev=old_rev, snapshot=lambda _: [])
            )
            assert not isinstance(watch, Refusal)
            batch = await watch.next()
            assert batch.kind is WatchKind.RESYNC
            assert batch.revision > REVISIONS_SKIPPED
            watch.close()
            answered = await node.write(WriteCall(command=PutKey(b"k", b"v")), 10)
            assert isinstance(answered.answer, KeyPut)
            assert answered.answer.mod_rev > batch.revision
            assert node.driver.replica.roster.membership.voters == (1,)

    asyncio.run(serve())


def test_another_file_or_list_of_members_makes_another_origin(
    tmp_path: Path, file: Path
) -> None:
    other = make_backup(tmp_path / "other", sample_state())
    data = bytearray(other.read_bytes())
    assert data == file.read_bytes(), "the same state makes the same file"
    state = sample_state()
    state.add()
    make_backup(other, state)
    origins = {}
    for name, source, members in (
        ("a", file, MEMBERS),
        ("b", other, MEMBERS),
        ("c", file, MEMBERS.replace("n3", "m3")),
    ):
        result = _restore(source, tmp_path / name, "--members", members)
        assert result.exit_code == 0, result.output
        _, meta, _, _ = _contents(tmp_path / name, 1)
        origins[meta.extra] = name
    assert len(origins) == 3


@pytest.mark.parametrize("holds", ["log.db", "state.db", "notes.txt"])
def test_a_directory_that_holds_anything_is_refused_and_left_alone(
    tmp_path: Path, file: Path, holds: str
) -> None:
    data_dir = tmp_path / "n1"
    data_dir.mkdir()
    (data_dir / holds).write_text("mine")
    assert "is not empty" in _sentence(_restore(file, data_dir), 1)
    assert {path.name for path in data_dir.iterdir()} == {holds}
    assert (data_dir / holds).read_text() == "mine"


def test_a_file_that_is_not_whole_leaves_nothing_behind(
    tmp_path: Path, file: Path
) -> None:
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    data_dir = tmp_path / "n1"
    for data in (bytes(flipped), whole[:-1], whole + b"x", b"", b"something else"):
        file.write_bytes(data)
        sentence = _sentence(_restore(file, data_dir), 1)
        assert str(file) in sentence
        assert not data_dir.exists()
    file.unlink()
    assert "No such file" in _sentence(_restore(file, data_dir), 1)
    assert not data_dir.exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--members", "2=n2@a:1/b:2"), "node_id 1 is not among the members [2]."),
        (("--members", f"{MEMBERS},1=x@c:1/d:2"), "id 1 is used twice"),
        (("--members", "nonsense"), "has another form"),
        (("--join", "127.0.0.1:7401"), "give all of them"),
        (("--node-id", "0"), "a whole number from 1"),
    ],
)
def test_a_wrong_list_of_members_is_a_mistake_in_the_call(
    tmp_path: Path, file: Path, more: tuple[str, str], said: str
) -> None:
    assert said in _sentence(_restore(file, tmp_path / "n1", *more), 2)
    assert not (tmp_path / "n1").exists()


@pytest.mark.parametrize("has_directory", [True, False])
def test_a_disk_that_is_full_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, file: Path, has_directory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "n1"
    if has_directory:
        data_dir.mkdir()

    def fail(path: Path, *_: object) -> None:
        path.write_bytes(b"half of it")
        raise DiskFull(f"Cannot create {path}: no space is left on the disk.")

    monkeypatch.setattr(offline, "create_file", fail)
    assert "no space is left" in _sentence(_restore(file, data_dir), 1)
    assert data_dir.exists() == has_directory
    assert not has_directory or not list(data_dir.iterdir())
    monkeypatch.undo()
    assert _restore(file, data_dir).exit_code == 0


# --- backup-info ---------------------------------------------------------------------


def test_a_look_at_a_backup_says_what_it_holds(file: Path) -> None:
    result = _run("backup-info", str(file))
    assert result.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert lines["cluster"].startswith('"sample"')
    assert lines["made"] == "2023-11-14T22:13:20.000Z by raftd 0.1.0"
    assert lines["members"] == "1=n1, 2=n2, 3=n3"
    assert (lines["keys"], lines["jobs"], lines["leases"]) == ("2", "3", "2")
    told = json.loads(_run("backup-info", "--json", str(file)).output)
    assert told["counts"] == {
        "keys": 2,
        "leases": 2,
        "locks": 1,
        "elections": 1,
        "queues": 1,
        "jobs": 3,
    }
    assert told["revision"] == int(lines["revision"])
    assert told["blake2b"] == lines["blake2b"]
    assert told["bytes"] == file.stat().st_size


def test_a_look_reads_to_the_last_byte(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    assert "it ends too early" in _sentence(_run("backup-info", str(file)), 1)


def test_the_first_format_ever_released_still_restores(tmp_path: Path) -> None:
    """The file is never made again; a new format gets a file of its own."""
    assert _restore(_GOLDEN, tmp_path / "n1").exit_code == 0
    machine = _machine(tmp_path / "n1")
    found = machine.kv.find(b"config")
    assert found is not None
    assert found.value == b"new"
    assert machine.queues.depth("work") == 3
    told = json.loads(_run("backup-info", "--json", str(_GOLDEN)).output)
    assert [member["name"] for member in told["members"]] == ["n1", "n2", "n3"]
