"""log.db in normal life: what was written is there after a restart, and only that."""

import asyncio
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from raftd.consensus.ready import Write
from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.storage.errors import DiskFailed, DiskFull, StorageError
from raftd.storage.log_rows import CHANGE_SQL
from raftd.storage.log_store import LogStore
from raftd.storage.log_writer import STATEMENT_ROWS_MAX
from raftd.storage.open import Stores
from raftd.storage.types import InstallMark, LogRecovery, TermRun
from tests.storage.tools import (
    checkpoint,
    copy_directory,
    entries,
    entry,
    open_node,
    row,
    run_sql,
    write,
)


async def reopen(directory: Path, tail_bytes_max: int = 1 << 20) -> LogRecovery:
    async with open_node(directory, tail_bytes_max=tail_bytes_max) as stores:
        return stores.recovery.log


async def test_a_blank_log_is_empty(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        assert stores.recovery.is_new
        assert stores.recovery.log == LogRecovery(
            HardState(), Index(0), Index(1), Index(0), Term(0), (), ()
        )
    assert (await reopen(tmp_path)).last_index == 0


async def test_entries_come_back_with_terms_and_commit(tmp_path: Path) -> None:
    first, second = entries(1, 3), entries(4, 5, term=4)
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(first, hard_state=(1, 2)))
        await stores.log.write(write(second, hard_state=(4, None), commit=3))
        assert stores.log.last_index == 5
    assert await reopen(tmp_path) == LogRecovery(
        hard_state=HardState(Term(4), None),
        commit=Index(3),
        first_index=Index(1),
        last_index=Index(5),
        previous_term=Term(0),
        term_runs=(TermRun(Index(1), Term(1)), TermRun(Index(4), Term(4))),
        tail=first + second,
    )


async def test_a_vote_alone_is_kept(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(hard_state=(7, 3)))
    recovered = await reopen(tmp_path)
    assert recovered.hard_state == HardState(Term(7), NodeId(3))


@pytest.mark.parametrize("later", [(2, 1), (3, 1), (3, None)])
async def test_term_and_vote_never_go_back(
    tmp_path: Path, later: tuple[int, int | None]
) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(hard_state=(3, 2)))
        with pytest.raises(AssertionError, match=r"term went back|second vote"):
            await stores.log.write(write(hard_state=later))
    assert (await reopen(tmp_path)).hard_state == HardState(Term(3), NodeId(2))


async def test_a_conflict_cut_and_its_new_entries_are_one(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 6), hard_state=(1, None), commit=2))
        new = entries(4, 5, term=2)
        await stores.log.write(write(new, hard_state=(2, 3), truncate_from=4, commit=3))
        await stores.log.write(write(entries(6, 6, term=2), commit=4))
    recovered = await reopen(tmp_path)
    assert recovered.tail == (*entries(1, 3), *new, entry(6, 2))
    assert recovered.commit == 4
    assert recovered.hard_state == HardState(Term(2), NodeId(3))


async def test_a_cut_below_the_seal_of_the_start_is_no_damage(tmp_path: Path) -> None:
    node = tmp_path / "node"
    async with open_node(node) as stores:
        await stores.log.write(write(entries(1, 9), hard_state=(1, None)))
    async with open_node(node) as stores:
        await stores.log.write(write(truncate_from=3, hard_state=(2, None)))
        copy_directory(node, tmp_path / "crashed")
    assert (await reopen(node)).tail == entries(1, 2)
    assert (await reopen(tmp_path / "crashed")).tail == entries(1, 2)


async def test_a_cut_of_everything_leaves_an_empty_log(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 2), hard_state=(1, None)))
        await stores.log.write(
            write(entries(1, 1, term=2), hard_state=(2, None), truncate_from=1)
        )
    assert (await reopen(tmp_path)).tail == entries(1, 1, term=2)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (write(entries(5, 5), commit=2), "gap"),
        (write(entries(3, 3), commit=2), "gap"),
        (write(truncate_from=2, commit=2), "committed"),
        (write(truncate_from=4, commit=2), "nothing"),
        (write(entries(4, 4), commit=1), "commit index fell"),
    ],
)
async def test_impossible_writes_are_asserted(
    tmp_path: Path, bad: Write, complaint: str
) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 3), hard_state=(1, None), commit=2))
        with pytest.raises(AssertionError, match=complaint):
            await stores.log.write(bad)


async def test_the_stored_commit_is_clamped_to_the_log(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 3), hard_state=(1, None), commit=99))
    recovered = await reopen(tmp_path)
    assert (recovered.commit, recovered.last_index) == (3, 3)


async def test_many_entries_take_several_statements(tmp_path: Path) -> None:
    last = 2 * STATEMENT_ROWS_MAX + 5
    many = entries(1, last)
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(many, hard_state=(1, None)))
        await stores.log.write(write(entries(last + 1, 2 * last)))
        got = stores.log.read(Index(1), Index(last + 1), 1 << 30)
        assert got == many
    assert (await reopen(tmp_path)).last_index == 2 * last


async def test_writes_called_together_stay_in_order(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(hard_state=(1, None)))
        async with asyncio.TaskGroup() as tasks:
            for index in range(1, 51):
                tasks.create_task(stores.log.write(write([entry(index)])))
    assert (await reopen(tmp_path)).tail == entries(1, 50)


async def test_the_tail_in_memory_is_bounded_by_bytes(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        large = [entry(index, payload=b"x" * 100) for index in range(1, 11)]
        await stores.log.write(write(large, hard_state=(1, None)))
    assert (await reopen(tmp_path, tail_bytes_max=399)).tail == tuple(large[-3:])
    assert (await reopen(tmp_path, tail_bytes_max=0)).tail == ()


async def filled(stores: Stores, last: int, commit: int) -> LogStore:
    await stores.log.write(write(entries(1, last), hard_state=(1, None)))
    await stores.log.write(write(entries(last + 1, last + 1), commit=commit))
    return stores.log


async def test_reading_is_bounded_by_range_and_bytes(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        log = await filled(stores, 9, 5)
        assert log.read(Index(3), Index(7), 1 << 20) == entries(3, 6)
        assert log.read(Index(3), Index(7), 0) == entries(3, 3)
        two = len(entry(3).payload) * 2
        assert log.read(Index(3), Index(7), two) == entries(3, 4)
        assert log.read(Index(9), Index(99), 1 << 20) == entries(9, 10)
        assert log.read(Index(11), Index(99), 1 << 20) == ()


async def test_a_cut_prefix_stays_cut(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        log = await filled(stores, 2500, 2400)
        await checkpoint(stores, [row(1, b"v")], 2400)
        await log.cut_prefix(2300)
        assert log.first_index == 2301
        assert log.read(Index(2301), Index(2303), 1 << 20) == entries(2301, 2302)
        with pytest.raises(AssertionError, match="cut away"):
            log.read(Index(2300), Index(2303), 1 << 20)
        await log.cut_prefix(10)
        await log.write(write(entries(2502, 2502), commit=2400))
    recovered = await reopen(tmp_path)
    assert (recovered.first_index, recovered.last_index) == (2301, 2502)
    assert (recovered.previous_term, recovered.commit) == (1, 2400)
    assert recovered.tail == entries(2301, 2502)


async def test_a_cut_that_a_reset_comes_before_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    mark = InstallMark(b"install", HardState(Term(2), NodeId(3)))
    async with open_node(tmp_path) as stores:
        log = await filled(stores, 9, 9)
        await asyncio.gather(log.reset(Index(90), Term(2), mark), log.cut_prefix(8))
        assert (log.first_index, log.last_index) == (91, 90)
        await log.write(write(entries(91, 91, term=2), commit=91))


async def test_a_log_cut_to_nothing_knows_term_and_commit(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        log = await filled(stores, 9, 9)
        await log.write(write(entries(11, 11), commit=11))
        await checkpoint(stores, [row(1, b"v")], 11)
        await log.cut_prefix(11)
    async with open_node(tmp_path) as stores:
        recovered = stores.recovery.log
        assert (recovered.first_index, recovered.last_index) == (12, 11)
        assert (recovered.previous_term, recovered.commit) == (1, 11)
        await stores.log.write(write(entries(12, 12), commit=11))
    assert (await reopen(tmp_path)).tail == entries(12, 12)


async def test_what_is_needed_is_not_cut(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        log = await filled(stores, 9, 5)
        with pytest.raises(AssertionError, match="needed"):
            await log.cut_prefix(6)


async def test_the_write_ahead_log_is_folded_now_and_then(tmp_path: Path) -> None:
    block = b"x" * (1 << 20)
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(hard_state=(1, None)))
        for index in range(1, 41):
            await stores.log.write(write([entry(index, payload=block)]))
        assert (tmp_path / "log.db-wal").stat().st_size < 24 << 20
    assert not (tmp_path / "log.db-wal").exists()


async def test_the_first_error_is_the_last_word(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 3), hard_state=(1, None)))
        run_sql(tmp_path / "log.db", "DROP TABLE entries")
        with pytest.raises(StorageError, match=r"log\.db.*no such table"):
            await stores.log.write(write(entries(4, 4)))
        with pytest.raises(StorageError, match=r"log\.db.*no such table"):
            await stores.log.write(write(hard_state=(2, None)))


async def test_a_full_disk_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk = (*CHANGE_SQL, "PRAGMA max_page_count=20")
    monkeypatch.setattr("raftd.storage.log_writer.CHANGE_SQL", small_disk)
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(hard_state=(1, None)))
        with pytest.raises(DiskFull, match="no space is left"):
            await stores.log.write(write([entry(1, payload=b"x" * 1_000_000)]))
    assert (await reopen(tmp_path)).last_index == 0


@contextmanager
def files_bounded(size_bytes: int) -> Iterator[None]:
    """Let the system refuse to write files beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_refusing_disk_is_the_last_word_although_it_recovers(
    tmp_path: Path,
) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(entries(1, 3), hard_state=(1, None)))
        with files_bounded(100_000), pytest.raises(DiskFailed, match="Cannot write"):
            await stores.log.write(write([entry(4, payload=b"x" * 1_000_000)]))
        with pytest.raises(DiskFailed, match="Cannot write"):
            await stores.log.write(write(entries(5, 5)))
        with pytest.raises(DiskFailed, match="Cannot write"):
            await stores.log.write(write())
    assert (await reopen(tmp_path)).tail == entries(1, 3)


async def test_a_write_given_up_ends_the_store(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.log.write(write(hard_state=(1, None)))
        task = asyncio.create_task(stores.log.write(write(entries(1, 1))))
        await asyncio.wait({task}, timeout=0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(StorageError, match="given up"):
            await stores.log.write(write(entries(2, 2)))
    assert (await reopen(tmp_path)).last_index in {0, 1}


async def test_closing_twice_is_no_error(tmp_path: Path) -> None:
    async with open_node(tmp_path) as stores:
        await stores.close()
        await stores.log.close()
