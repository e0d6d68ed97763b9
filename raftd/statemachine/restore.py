"""Another life for a state: what a backup or a lone survivor's log begins anew with.

The claims of the old life end: all sessions and leases with what hangs on them, as
after a clean goodbye, so no lock stays closed and no job is charged. Windows go as
well: the old cluster may have applied numbers that this state never saw. The counter
moves on by 2**32, so that no token or revision of the old life ever compares as new,
and the history is compacted to there, so that a watch of the old life is told so.

Rules: the result follows from the rows, the entries and nothing else, and comes in one
order, so every member that is restored from one file gets equal bytes. Only keys are
remembered beside the machine; rows are encoded again from it, one by one.

Source: SEMANTICS.md section 7 (Restore); RELIABILITY.md rule 53.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from raftd.statemachine.limits import Limits
from raftd.statemachine.lock_table import OPEN_TIMER
from raftd.statemachine.machine import Machine
from raftd.statemachine.module import EndReason
from raftd.statemachine.rows import DIGEST_BYTES, Checkpoint, Row
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.schema.kv import CompactHistory
from raftd.statemachine.schema.sessions import CloseSession
from raftd.statemachine.tables import Rank, RowKey, Table, unpack_key

__all__ = ["REVISIONS_SKIPPED", "Restoring"]

REVISIONS_SKIPPED: Final = 1 << 32
"""More than any cluster counts between a backup and its end."""

_ROWS_MAX: Final = 1 << 40
_ENDED: Final = (
    Table.SESSIONS,
    Table.LEASES,
    Table.LOCKS,
    Table.LOCK_WAITERS,
    Table.ELECTIONS,
    Table.CANDIDATES,
)
"""Tables of claims: empty when they have ended."""


class Restoring:
    """One state on its way into another life."""

    def __init__(
        self, limits: Limits, rows: Iterable[Row], *, index: int, digest: bytes
    ) -> None:
        """Load what checkpoints or a backup describe.

        Args:
            limits: Of the cluster to be; they refuse nothing that is there already.
            rows: Oldest first; a later row replaces an earlier.
            index: Of the newest entry that they include.
            digest: Of the state there.

        Raises:
            msgspec.DecodeError: A row is damaged.
            ValueError: A row's table or key is unknown.
        """
        self._keys: Final[dict[int, dict[bytes, None]]] = {}
        self._machine: Final = Machine.load(
            limits, self._noted(rows), index=index, digest=digest
        )

    @property
    def index(self) -> int:
        """The newest entry that the state includes."""
        return self._machine.applied_index

    @property
    def revision(self) -> int:
        """The counter, as it is now."""
        return self._machine.revision

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return self._machine.kv.count_all

    def count(self, table: Table) -> int:
        """Return how many rows a table had at the newest mark."""
        return len(self._keys.get(table, ()))

    def apply(self, index: int, payload: bytes) -> None:
        """Apply an entry of the old life's log, as `Machine.apply`."""
        machine = self._machine
        if machine.apply(index, payload).mark is not None:
            self._note_all(machine.take_checkpoint())
            machine.checkpoint_written()

    def finish(self) -> bytes:
        """End the old life; call it once.

        Returns:
            The digest that the new life goes on from: of all `rows`.
        """
        machine = self._machine
        self._note_changed()
        _move_on(machine, self._keys)
        self._note_changed()
        for claims in _ENDED:
            assert not self._keys.get(claims), f"claims are left in {claims.name}"
        checkpoint = self._take_all()
        checkpoint.finish()
        return checkpoint.digest

    def rows(self) -> Iterator[Row]:
        """Give the whole state, sorted by table and key; may be called again."""
        return self._take_all().rows()

    def _take_all(self) -> Checkpoint:
        machine = self._machine
        # A checkpoint gives the newest mark of a table first.
        for table in sorted(self._keys):
            for key in sorted(self._keys[table], reverse=True):
                machine.context.mark(table, unpack_key(Table(table), key))
        return machine.context.rows.take(machine.applied_index, bytes(DIGEST_BYTES))

    # --- keys ---------------------------------------------------------------------

    def _noted(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Pass rows on and remember whose keys are alive."""
        for row in rows:
            table, key, value = row
            if value is None:
                self._keys.setdefault(table, {}).pop(key, None)
            else:
                self._keys.setdefault(table, {})[key] = None
            yield row

    def _note_all(self, checkpoint: Checkpoint) -> None:
        for _ in self._noted(checkpoint.rows()):
            pass

    def _note_changed(self) -> None:
        self._note_all(self._machine.context.rows.take(self.index, b""))


def _move_on(machine: Machine, keys: dict[int, dict[bytes, None]]) -> None:
    """Skip revisions, end all claims, forget the history: as one entry would."""
    context = machine.context
    machine.modules.meta.touch()
    context.revision += REVISIONS_SKIPPED
    first_rev = context.revision + 1
    context.begin()
    context.rev()
    _end_leases(machine)
    _end_graces(machine, _keys_of(keys, Table.JOBS))
    _forget_sessions(machine, _keys_of(keys, Table.SESSIONS))
    _open_locks(machine, _keys_of(keys, Table.LOCKS))
    _promote(machine)
    machine.history.close_entry(first_rev)
    compact = machine.history.handlers()[CompactHistory]
    compact(CompactHistory(context.revision))
    while machine.history.has_tasks():
        machine.history.run_tasks(_ROWS_MAX)
    context.commit()


def _end_leases(machine: Machine) -> None:
    leases = machine.leases
    for lease in leases.ids(limit=leases.count()):
        leases.end(lease, EndReason.CLOSED)
        machine.context.commit()
    leases.take_ended()


def _end_graces(machine: Machine, jobs: Iterable[RowKey]) -> None:
    """Take jobs back whose workers are lost and only their grace was running."""
    queues = machine.queues
    for job in jobs:
        assert isinstance(job, int)
        view = queues.get(job)
        if view is not None and view.state is JobState.RESERVED:
            queues.lease_ended(0, [job], EndReason.CLOSED)
            machine.context.commit()


def _forget_sessions(machine: Machine, sessions: Iterable[RowKey]) -> None:
    """Drop the windows of sessions that had ended before."""
    close = machine.sessions.handlers()[CloseSession]
    for session in sessions:
        assert isinstance(session, int)
        if machine.sessions.is_closed(session):
            close(CloseSession(session))
            machine.context.commit()


def _open_locks(machine: Machine, locks: Iterable[RowKey]) -> None:
    for name in locks:
        view = machine.locks.inspect(str(name))
        if view is not None and view.closed_until_ms:
            machine.locks.fire((OPEN_TIMER, str(name)))


def _promote(machine: Machine) -> None:
    """Let in who is next: jobs, and no waiter, for none is left."""
    context = machine.context
    by_rank = {module.rank: module for module in machine.modules.all}
    while context.promotions:
        wanted: list[Any] = list(context.promotions)  # keys of one rank compare
        wanted.sort()
        context.promotions.clear()
        for rank, key in wanted:
            by_rank[Rank(rank)].promote(key)
            context.journal.drop()
    context.decisions.clear()  # nobody of the old life waits for them


def _keys_of(keys: dict[int, dict[bytes, None]], table: Table) -> list[RowKey]:
    return [unpack_key(table, key) for key in sorted(keys.get(table, ()))]
