"""``raftd recover``: deliberate, told in full, and safe to interrupt."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raftd.consensus.ready import Write
from raftd.consensus.types import Entry, EntryKind, HardState, Index, NodeId, Term
from raftd.node.roster import decode_roster
from raftd.node.service import WriteCall
from raftd.server.main import main
from raftd.statemachine.restore import REVISIONS_SKIPPED
from raftd.statemachine.schema.entry import encode_batch, seal
from raftd.statemachine.schema.kv import PutKey
from raftd.storage.chunks import pack
from raftd.storage.directory import DirectoryLock
from raftd.storage.errors import StorageError
from raftd.storage.open import open_stores
from raftd.storage.types import NO_DIGEST, CheckpointMeta
from tests.node.cluster import Cluster
from tests.server.survivors import CLUSTER, Old

_CONFIRMED = "--others-are-gone-for-good"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Old:
    return Old(tmp_path_factory.mktemp("old"))


@pytest.fixture
def old(left: Old, tmp_path: Path) -> Old:
    return left.copy(tmp_path)


def _sentence(result: Result, code: int) -> str:
    assert result.exit_code == code, result.output
    *_, line = result.output.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(".")
    return line


# --- not yet -------------------------------------------------------------------------


def test_without_the_confirmation_it_only_says_what_it_would_do(old: Old) -> None:
    before = old.identity()
    result = old.run()
    assert "nothing was changed" in _sentence(result, 2)
    for warning in ("LOST", "n2, n3", "never be started again", "by its id", "4 keys"):
        assert warning in result.output
    assert old.identity() == before
    assert not list(old.data_dir.glob("before-recovery-*"))


@pytest.mark.parametrize(
    "words",
    [
        ("recover",),
        ("recover", "--force-single"),
        ("recover", "--cluster", CLUSTER, _CONFIRMED),
    ],
)
def test_it_must_be_asked_for_in_full(old: Old, words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*words, "--data-dir", str(old.data_dir)])
    assert "--force-single and --cluster NAME" in _sentence(result, 2)


def test_another_clusters_name_is_refused(old: Old) -> None:
    before = old.identity()
    said = _sentence(old.run(_CONFIRMED, cluster="other"), 1)
    assert 'belongs to cluster "test", not to "other"' in said
    assert old.identity() == before


def test_a_directory_in_use_is_refused(old: Old) -> None:
    lock = DirectoryLock(old.data_dir)
    try:
        assert "is in use" in _sentence(old.run(_CONFIRMED), 1)
    finally:
        lock.release()


def test_what_is_no_members_directory_is_refused(old: Old, tmp_path: Path) -> None:
    old.data_dir = tmp_path / "none"
    assert "is no data directory" in _sentence(old.run(_CONFIRMED), 1)
    assert not old.data_dir.exists()

    async def make_blank() -> None:
        stores = await open_stores(
            old.data_dir, node_id=NodeId(1), cluster_name=CLUSTER
        )
        await stores.close()

    asyncio.run(make_blank())
    assert "never belonged to a cluster" in _sentence(old.run(_CONFIRMED), 1)

    async def join() -> None:
        async with await open_stores(
            old.data_dir, node_id=NodeId(1), cluster_name=CLUSTER
        ) as stores:
            own = stores.identity.incarnation
            await stores.bind_cluster(b"i" * 16, {NodeId(1): own})

    asyncio.run(join())
    assert "was still joining" in _sentence(old.run(_CONFIRMED), 1)
    assert not list(old.data_dir.glob("before-recovery-*"))


# --- done ----------------------------------------------------------------------------


def test_the_survivor_serves_alone_with_all_that_its_log_held(old: Old) -> None:
    before = old.identity()
    result = old.run(_CONFIRMED)
    assert result.exit_code == 0, result.output
    assert "WARNING" in result.output
    assert "before-recovery-1" in result.output
    after = old.identity()
    assert after.cluster_id not in (b"", before.cluster_id)
    assert after.incarnation != before.incarnation
    assert after.peers == {1: after.incarnation}
    aside = old.data_dir / "before-recovery-1"
    assert {path.name for path in aside.iterdir()} == {"log.db", "state.db"}
    asyncio.run(_serves_alone(old))


async def _serves_alone(old: Old) -> None:
    cluster = Cluster(old.data_dir.parent)
    cluster.members = old.cluster.members
    await cluster.start(1)
    try:
        node = await cluster.leader()
        machine = node.machine
        assert machine.revision > old.revision + REVISIONS_SKIPPED
        found = {key: machine.kv.find(key) for key in (b"early", b"late", b"lone")}
        assert [record.value for record in found.values() if record] == [
            b"1",
            b"2",
            b"4",
        ]
        assert machine.kv.find(b"gone") is None
        assert machine.leases.count() == 0
        roster = node.driver.replica.roster
        assert roster.membership.voters == (1,)
        assert roster.removed == (2, 3)
        assert roster.next_id == 4
        answered = await node.write(WriteCall(command=PutKey(b"new", b"5")), 10)
        assert answered.revision > machine.kv.compacted_rev
    finally:
        await cluster.stop()


def test_it_may_be_done_again_and_keeps_what_was_before(old: Old) -> None:
    assert old.run(_CONFIRMED).exit_code == 0
    first = old.identity()
    result = old.run(_CONFIRMED)
    assert result.exit_code == 0
    assert "there are none" in result.output
    assert old.identity().cluster_id != first.cluster_id
    asides = sorted(path.name for path in old.data_dir.glob("before-recovery-*"))
    assert asides == ["before-recovery-1", "before-recovery-2"]


# --- interrupted ---------------------------------------------------------------------


class _PowerCutError(Exception):
    """The process ends here."""


def _cut_after(renames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End the process at a later renaming of files in the directory itself."""
    rename = Path.rename
    left = renames

    def cut(path: Path, target: Path) -> Path:
        nonlocal left
        is_ours = "recovery" in f"{path}{target}" and not path.name.endswith(".new")
        if is_ours or path.name == "recovery.new":
            if not left:
                raise _PowerCutError
            left -= 1
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", cut)


@pytest.mark.parametrize("renames", range(8))
def test_a_crash_at_any_point_leaves_the_old_member_or_one_to_complete(
    old: Old, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = old.identity()
    _cut_after(renames, monkeypatch)
    try:
        result = old.run(_CONFIRMED)
    except _PowerCutError:
        result = None
    monkeypatch.undo()
    if result is not None:
        assert result.exit_code == 0
        assert old.identity().cluster_id != before.cluster_id
        return
    try:
        found = old.identity()
    except StorageError:
        found = None  # refused until it is completed
    else:
        assert found == before
    again = old.run(_CONFIRMED)
    assert again.exit_code == 0, again.output
    after = old.identity()
    assert after.cluster_id != before.cluster_id
    assert after.peers == {1: after.incarnation}
    kept = max(old.data_dir.glob("before-recovery-*"))
    assert {path.name for path in kept.iterdir()} == {"log.db", "state.db"}


def test_the_roster_of_one_is_stored_for_whoever_joins(old: Old) -> None:
    assert old.run(_CONFIRMED).exit_code == 0

    async def read() -> bytes:
        async with await open_stores(
            old.data_dir, node_id=NodeId(1), cluster_name=CLUSTER
        ) as stores:
            assert stores.state.meta is not None
            return stores.state.meta.membership

    roster = decode_roster(asyncio.run(read()))
    (record,) = roster.members
    assert record.name == "n1"
    assert record.peer_address == str(old.cluster.members[0].peer)
    assert record.incarnation == old.identity().incarnation
    assert roster.origin == (1,)


def test_a_directory_of_the_release_before_is_recovered_too(
    old: Old, tmp_path: Path
) -> None:
    """It is bound, has a log, and neither a checkpoint nor records of the members."""
    old.data_dir = tmp_path / "before"

    async def make() -> None:
        async with await open_stores(
            old.data_dir, node_id=NodeId(1), cluster_name=CLUSTER
        ) as stores:
            mine = stores.identity.incarnation
            peers = {NodeId(1): mine, NodeId(2): b"b" * 16, NodeId(3): b"c" * 16}
            await stores.bind_cluster(b"i" * 16, peers)
            entries = (
                Entry(Index(1), Term(2), EntryKind.NORMAL, b""),
                Entry(Index(2), Term(2), EntryKind.NORMAL, _put_entry(b"k")),
            )
            hard_state = HardState(Term(3), NodeId(1))
            await stores.log.write(Write(1, hard_state, None, entries, Index(1)))

    asyncio.run(make())
    result = old.run(_CONFIRMED)
    assert result.exit_code == 0, result.output
    assert "entry 2 of term 2: 1 keys" in result.output

    async def read() -> None:
        async with await open_stores(
            old.data_dir, node_id=NodeId(1), cluster_name=CLUSTER
        ) as stores:
            meta = stores.state.meta
            assert meta is not None
            (record,) = decode_roster(meta.membership).members
            assert record.peer_address == str(old.cluster.members[0].peer)
            assert (meta.applied_index, meta.applied_term) == (2, 2)

    asyncio.run(read())


def test_rows_that_it_does_not_know_are_told_in_a_sentence_and_nothing_is_done(
    old: Old, tmp_path: Path
) -> None:
    old.data_dir = tmp_path / "later"

    async def make() -> None:
        async with await open_stores(
            old.data_dir, node_id=NodeId(1), cluster_name=CLUSTER
        ) as stores:
            mine = {NodeId(1): stores.identity.incarnation}
            await stores.bind_cluster(b"i" * 16, mine)
            entry = Entry(Index(1), Term(2), EntryKind.NORMAL, b"")
            hard_state = HardState(Term(2), NodeId(1))
            await stores.log.write(Write(1, hard_state, None, (entry,), Index(1)))
            meta = CheckpointMeta(Index(1), Term(2), NO_DIGEST, b"")
            await stores.state.checkpoint(meta, pack([(200, b"key", b"row")]))

    asyncio.run(make())
    before = sorted(path.name for path in old.data_dir.iterdir())
    told = _sentence(old.run(_CONFIRMED), 1)
    assert "rows that this raftd does not understand" in told
    assert sorted(path.name for path in old.data_dir.iterdir()) == before


def _put_entry(key: bytes) -> bytes:
    return encode_batch(1000, 1000, (), [seal(0, 0, 0, PutKey(key, b"v"))])
