"""A disk that is there twice: as the model says, and in files of the production stores.

Rules: each transaction is carried out on both. A crash ends the process that had the
files: they become what they were, with some of the transactions under way, the last of
them torn (its bytes in the write-ahead log cut short, or with a sector missing). A
start opens what is left, and has to find exactly what the model has; of a torn
transaction, all or nothing. Damage is a flipped byte: it is found, or it changed
nothing.

What a crash leaves is read back from the page cache, so a transaction that SQLite never
synced would survive here: Python's sqlite3 takes no file system of ours that could tell
synced bytes from others. That nothing is acknowledged before its sync is for the power
losses of chaos, whose shim stands below SQLite and drops what was not synced.

Source: RELIABILITY.md section 6 (disk, real SQLite files), rules 25 to 29 and 50.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from raftd.consensus.ready import Write
from raftd.consensus.types import Entry, Index, NodeId, Term
from raftd.node.roster import Roster
from raftd.storage.directory import LOG_NAME, STATE_NAME
from raftd.storage.errors import StorageError
from raftd.storage.files import wal_path
from raftd.storage.log_here import SyncPace
from raftd.storage.merge import merge
from raftd.storage.open import Stores, open_stores
from raftd.storage.types import CheckpointMeta, InstallMark
from tests.sim.disk import Disk, Staged
from tests.sim.world import SimFailure

__all__ = ["RealDisk"]

T = TypeVar("T")

Image = dict[str, bytes]
"""Files by name."""

_MEMORY: Final = Path("/dev/shm")  # quick to sync, where it is there
_SECTOR_BYTES: Final = 512
_NAMES: Final = tuple(
    name
    for file in (Path(LOG_NAME), Path(STATE_NAME))
    for name in (file.name, wal_path(file).name)
)
_KEPT: Final = (
    "hard_state",
    "commit",
    "first_index",
    "prev_term",
    "log",
    "install_id",
    "meta",
    "base",
    "deltas",
    "staged",
)


class _NoRest(SyncPace):
    """Lets the loop wait always."""

    @property
    def may_wait(self) -> bool:
        """Tell that it may."""
        return True


class RealDisk(Disk):
    """See the module's rules."""

    def __init__(self, node_id: int, roster: Roster, rng: Random) -> None:
        """Make a disk without files: the first start makes them."""
        super().__init__(roster)
        parent = str(_MEMORY) if _MEMORY.is_dir() else None
        self._folder: Final = Path(tempfile.mkdtemp(prefix="raftd-sim-", dir=parent))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._node_id: Final = NodeId(node_id)
        self._own_rng: Final = rng
        self._life = 0
        self.here_count = 0
        """How many appends the loop's connection wrote."""
        self._stores: Stores | None = None
        self._before: dict[str, Any] | None = None
        """What there was before a transaction that was torn."""

    @property
    def _path(self) -> Path:
        return self._folder / str(self._life)

    def close(self) -> None:
        """Let the files go."""
        self._let_go()
        shutil.rmtree(self._folder, ignore_errors=True)

    # --- transactions ---------------------------------------------------------------

    def _do(self, act: Callable[[Stores], Coroutine[Any, Any, object]]) -> None:
        if self._stores is not None:
            _carry(act(self._stores))

    def store(self, write: Write) -> None:
        """Store a write of the core."""
        super().store(write)
        self._do(lambda stores: stores.log.write(write))

    def store_here(self, write: Write) -> None:
        """Store a write that only appends, by the connection of the loop."""
        super().store(write)

        async def store(stores: Stores) -> None:
            if stores.log.write_here(write):
                self.here_count += 1
            else:  # it is too large, or a fold is under way
                await stores.log.write(write)

        self._do(store)

    def cut_prefix(self, upto: int) -> None:
        """Forget entries up to and with this index."""
        is_work = upto >= self.first_index
        super().cut_prefix(upto)
        if is_work:
            self._do(lambda stores: stores.log.cut_prefix(upto))

    def reset(self, index: int, term: int, mark: InstallMark) -> None:
        """Begin the log anew behind an installed state."""
        super().reset(index, term, mark)
        self._do(lambda stores: stores.log.reset(Index(index), Term(term), mark))

    def put_checkpoint(self, meta: CheckpointMeta, chunks: list[bytes]) -> None:
        """Store what changed since the last checkpoint."""
        super().put_checkpoint(meta, chunks)
        self._do(lambda stores: stores.state.checkpoint(meta, chunks))

    def put_staged(self, offer_id: bytes, first: int, chunks: list[bytes]) -> None:
        """Store chunks of a snapshot where nobody sees them."""
        super().put_staged(offer_id, first, chunks)
        self._do(lambda stores: stores.state.stage(offer_id, first, chunks))

    def install(self, offer_id: bytes, count: int, meta: CheckpointMeta) -> None:
        """Make the staged chunks the state."""
        super().install(offer_id, count, meta)
        self._do(lambda stores: stores.state.install(offer_id, count, meta))

    def drop_staged(self) -> None:
        """Forget what is staged."""
        super().drop_staged()
        self._do(lambda stores: stores.state.drop_staged())

    def swap_base(self, delta_count: int, merged: list[bytes]) -> None:
        """Put one base in the place of the old one and some deltas."""
        super().swap_base(delta_count, merged)
        if self._stores is not None:
            path = self._path / STATE_NAME
            _carry(asyncio.to_thread(merge, path))

    # --- the end of a life ----------------------------------------------------------

    def crash(self, rng: Random) -> None:
        """Keep some of the transactions under way, maybe a part of one."""
        chosen = [store for store in self.under_way if rng.random() < 0.5]
        self.under_way.clear()
        for store in chosen[:-1]:
            store()
        before = self._image() if chosen and rng.random() < 0.5 else None
        if before is not None:
            self._before = self._take()
        if chosen:
            chosen[-1]()
        image = self._image()
        if before is not None:
            image = _torn(before, image, rng)
        self._let_go()
        self._life += 1
        self._path.mkdir()
        for name, data in image.items():
            (self._path / name).write_bytes(data)

    def _image(self) -> Image:
        paths = [self._path / name for name in _NAMES]
        return {path.name: path.read_bytes() for path in paths if path.exists()}

    def _let_go(self) -> None:
        stores, self._stores = self._stores, None
        if stores is not None:
            with contextlib.suppress(StorageError):
                _carry(stores.close())
        shutil.rmtree(self._path, ignore_errors=True)

    def _take(self) -> dict[str, Any]:
        held = {name: getattr(self, name) for name in _KEPT}
        for name in ("log", "base", "deltas"):
            held[name] = list(held[name])
        if self.staged is not None:
            held["staged"] = Staged(self.staged.offer_id, list(self.staged.chunks))
        return held

    # --- the begin of a life ----------------------------------------------------------

    def look(self) -> None:
        """Flip a byte if the disk is damaged, and see later whether that is found."""
        if self.is_damaged and self._life:
            path = self._path / self._own_rng.choice([LOG_NAME, STATE_NAME])
            data = bytearray(path.read_bytes())
            data[self._own_rng.randrange(len(data))] ^= 1 << self._own_rng.randrange(8)
            path.write_bytes(data)

    def recover(self) -> None:
        """Open the files, and find there what the model has."""
        stores = _carry(
            open_stores(self._path, node_id=self._node_id, cluster_name="sim")
        )
        try:
            if stores.state.meta is None:
                _carry(stores.state.checkpoint(self.meta, []))
            super().recover()
            differs = self._differs(stores)
            if differs and self._before is not None:
                for name, value in self._before.items():
                    setattr(self, name, value)
                super().recover()
                differs = self._differs(stores)
            if differs:
                raise SimFailure(f"n{self._node_id} finds on disk {differs}")
        except BaseException:
            _carry(stores.close())
            raise
        self._before = None
        self.is_damaged = False
        # The model draws when the loop waits; what real syncs take decides nothing.
        writer = stores.log._writer  # noqa: SLF001  # has no way to be told so
        writer._here.pace = _NoRest()  # type: ignore[misc]  # noqa: SLF001  # as above
        self._stores = stores

    def _differs(self, stores: Stores) -> str:
        """Say what is not as it was."""
        log = stores.recovery.log
        found = (log.hard_state, log.first_index, log.previous_term, log.last_index)
        meant = (self.hard_state, self.first_index, self.prev_term, self.last_index)
        commit = max(self.commit, self.state_index)
        if found != meant or log.commit > commit:
            return f"the log {found} {log.commit}, not {meant} {commit}"
        if _entries(stores) != self.log:
            return "other entries"
        if stores.state.meta != self.meta:
            return f"the state {stores.state.meta}, not {self.meta}"
        rows = {(table, key): value for table, key, value in self.rows()}
        read = {(table, key): value for table, key, value in stores.state.load()}
        if _living(rows) != _living(read):
            return "other rows"
        staged = self.staged
        if staged is not None:
            count = _carry(stores.state.staged(staged.offer_id))
            if count != len(staged.chunks):
                return f"{count} staged chunks, not {len(staged.chunks)}"
        return ""


def _living(rows: dict[tuple[int, bytes], bytes | None]) -> dict[Any, bytes]:
    return {key: value for key, value in rows.items() if value is not None}


def _entries(stores: Stores) -> list[Entry]:
    log = stores.log
    found: list[Entry] = []
    while log.first_index + len(found) <= log.last_index:
        low = Index(log.first_index + len(found))
        found.extend(log.read(low, Index(log.last_index + 1), 1 << 20))
    return found


def _torn(before: Image, after: Image, rng: Random) -> Image:
    """Keep a part of what a transaction wrote, where it only added to a file."""
    changed = [name for name in after if before.get(name) != after[name]]
    if len(changed) == 1 and changed[0].endswith("-wal"):
        name = changed[0]
        old, new = before.get(name, b""), after[name]
        if new.startswith(old) and len(new) > len(old):
            at = rng.randrange(len(old), len(new))
            if rng.random() < 0.5:
                return {**after, name: new[:at]}
            hole = new[:at] + bytes(_SECTOR_BYTES) + new[at + _SECTOR_BYTES :]
            return {**after, name: hole[: len(new)]}
    return before if rng.random() < 0.5 else after


# --- a loop for what is real ----------------------------------------------------------


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return a loop that runs in a thread of its own: the simulated one cannot wait."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name="real files").start()
    return loop


def _carry(act: Coroutine[Any, Any, T]) -> T:
    """Wait for real until something is done."""
    return asyncio.run_coroutine_threadsafe(act, _loop()).result()
