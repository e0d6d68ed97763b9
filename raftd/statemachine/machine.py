"""The state machine: entries in, answers and events out; the same on every member.

Order within an entry: renewals; timers due on the lease clock, then on the wall clock;
commands; background tasks. Stamps that fall are taken as standing still: a leader that
stamped wrongly must not be able to stop every member for ever at the same entry.

Rules: an exception out of ``apply`` is a bug, or a log this version cannot read. The
node stops, loudly; it never goes on with a state that may differ.

Source: DESIGN.md section 5.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Self

from raftd.statemachine.answers import (
    Answer,
    AppliedEntry,
    Decision,
    Marked,
    Pending,
)
from raftd.statemachine.context import Context
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.module import Handler, Module, handlers_of
from raftd.statemachine.registry import Modules
from raftd.statemachine.rows import DIGEST_BYTES, Checkpoint, Row
from raftd.statemachine.schema.base import Command, Refusal, Result
from raftd.statemachine.schema.entry import MarkEntry, Request, decode_batch
from raftd.statemachine.tables import RowKey, Table, unpack_key
from raftd.statemachine.timers import TimerHeap

__all__ = ["Machine"]


class Machine:
    """One member's state.

    Args:
        limits: Equal on all members, as they decide what an entry means.
    """

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.applied_index = 0
        self.digest_index = 0
        """Index of the newest checkpoint whose digest is known, 0 = none."""
        self.digest = bytes(DIGEST_BYTES)
        self.context: Final = Context(limits)
        self.modules: Final = Modules(self.context)
        self.kv: Final = self.modules.kv
        self.leases: Final = self.modules.leases
        self.sessions: Final = self.modules.sessions
        self.history: Final = self.modules.history
        self.locks: Final = self.modules.locks
        self.elections: Final = self.modules.elections
        self.queues: Final = self.modules.queues
        # The next primitive: one line here.
        self._by_rank: Final[dict[int, Module]] = {}
        self._by_table: Final[dict[int, Module]] = {}
        self._register()
        self._handlers: Final[dict[type[Command], Handler]] = {
            **handlers_of(self.modules.all),
            MarkEntry: self._mark,
        }
        self.modules.txn.bind(self._handlers)
        self._decided: list[Decision] = []
        self._marking: MarkEntry | None = None
        self._checkpoint: Checkpoint | None = None

    def _register(self) -> None:
        for module in self.modules.all:
            assert module.rank not in self._by_rank, f"two modules rank {module.rank}"
            self._by_rank[module.rank] = module
            self.context.timers.register(module.rank, module.timer_deadline)
            for table in module.tables:
                self._by_table[table] = module
                self.context.rows.register(table, module.encode_row)

    # --- apply -------------------------------------------------------------------

    def apply(self, index: int, payload: bytes) -> AppliedEntry:
        """Apply the next entry; an empty payload is the core's own no-op.

        Raises:
            msgspec.DecodeError: Not an entry of this version: the node must stop.
            AssertionError: A bug: the node must stop.
        """
        assert index == self.applied_index + 1, f"{index} follows {self.applied_index}"
        assert self._marking is None, "a checkpoint of the last mark was not taken"
        if not payload:
            self.applied_index = index
            return AppliedEntry([], [], [], None, (), (), None)
        batch = decode_batch(payload)
        context = self.context
        self.modules.meta.touch()
        context.now_ms = max(context.now_ms, batch.now_ms)
        context.wall_ms = max(context.wall_ms, batch.wall_ms)
        first_rev = context.revision + 1
        renew = self.leases.renew
        lost = tuple([lease for lease in batch.renewals if not renew(lease)])
        rows_left = self._fire_due()
        answers, revisions = self._run_all(batch.requests)
        self._run_tasks(rows_left + len(context.events))
        decided, self._decided = self._decided, []
        self.applied_index = index
        return AppliedEntry(
            answers,
            revisions,
            decided,
            self.history.close_entry(first_rev),
            lost,
            self.leases.take_ended(),
            self._marking,
        )

    def _run_all(self, requests: Sequence[Request]) -> tuple[list[Answer], list[int]]:
        answers: list[Answer] = []
        revisions: list[int] = []
        context = self.context
        sessions = self.sessions
        for request in requests:
            if request.number:
                answer = sessions.admit(request)
                if answer is None:
                    answer = self._run(request)
                    sessions.keep(request, answer)
            else:
                answer = self._run(request)
            answers.append(answer)
            revisions.append(context.revision)
        return answers, revisions

    def _run(self, request: Request) -> Answer:
        """Run one command to its end: all of it, or nothing."""
        context = self.context
        context.command_rev = 0
        if request.fences:
            refusal = self.modules.fences.check(request.fences)
            if refusal is not None:
                return refusal
        command = request.command
        answer = self._handlers[type(command)](command)
        if type(answer) is Refusal:
            context.roll_back()
            return answer
        if not context.promotions and not context.decisions:
            context.journal.notes.clear()
            return answer
        if isinstance(answer, Pending):
            return self._finish(answer.ticket) or answer
        self._finish()
        return answer

    def _finish(self, own_ticket: int = 0) -> Result | Refusal | None:
        """Promote, then settle the waits that ended.

        Returns:
            The answer to the command's own wait, if that ended at once.
        """
        context = self.context
        promotions = context.promotions
        while promotions:
            wanted = sorted(promotions, key=_sort_key)
            promotions.clear()
            for rank, key in wanted:
                self._by_rank[rank].promote(key)
        context.journal.drop()
        own = None
        for ticket, answer in context.decisions:
            if ticket == own_ticket:
                own = answer
                continue
            session, number = self.sessions.resolve(ticket, answer)
            self._decided.append(Decision(ticket, session, number, answer))
        context.decisions.clear()
        return own

    def _mark(self, command: MarkEntry) -> Answer:
        self._marking = command
        return Marked()

    # --- timers and tasks --------------------------------------------------------

    def _fire_due(self) -> int:
        context = self.context
        left = context.limits.work_rows_max
        left = self._fire_clock(context.timers.lease, context.now_ms, left)
        return self._fire_clock(context.timers.wall, context.wall_ms, left)

    def _fire_clock(self, heap: TimerHeap, now_ms: int, rows_left: int) -> int:
        while rows_left > 0:
            due = heap.due(now_ms)
            if due is None:
                break
            rank, timer = due
            self.context.begin()
            rows_left -= max(1, self._by_rank[rank].fire(timer))
            self._finish()
        return max(0, rows_left)

    def _run_tasks(self, rows_left: int) -> None:
        for module in self.modules.all:
            if rows_left > 0 and module.has_tasks():
                self.context.begin()
                rows_left -= module.run_tasks(rows_left)
                self._finish()

    @property
    def next_due_ms(self) -> int | None:
        """Return when the next timer is due on the lease clock."""
        due = self.context.timers.lease.peek()
        return due[0] if due is not None else None

    @property
    def next_due_wall_ms(self) -> int | None:
        """Return when the next timer is due on the wall clock."""
        due = self.context.timers.wall.peek()
        return due[0] if due is not None else None

    @property
    def has_backlog(self) -> bool:
        """Tell whether the last entry left due work: the leader proposes another."""
        context = self.context
        return (
            context.timers.lease.due(context.now_ms) is not None
            or context.timers.wall.due(context.wall_ms) is not None
            or any(module.has_tasks() for module in self.modules.all)
        )

    @property
    def revision(self) -> int:
        """Return the state's revision."""
        return self.context.revision

    # --- checkpoints -------------------------------------------------------------

    def take_checkpoint(self) -> Checkpoint:
        """Begin the checkpoint of a mark, right after the entry was applied.

        The rows of the checkpoint before must have been taken to the last one: its
        digest is a part of this one's.
        """
        assert self._marking is not None, "a checkpoint is taken at a mark only"
        if self._checkpoint is not None:
            self._close_checkpoint(self._checkpoint)
        self._marking = None
        self._checkpoint = self.context.rows.take(self.applied_index, self.digest)
        return self._checkpoint

    def checkpoint_written(self) -> None:
        """Note that all rows of the newest checkpoint were taken."""
        if self._checkpoint is not None:
            self._close_checkpoint(self._checkpoint)
            self._checkpoint = None

    def _close_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.digest = checkpoint.digest
        self.digest_index = checkpoint.index

    @classmethod
    def load(
        cls, limits: Limits, rows: Iterable[Row], *, index: int, digest: bytes
    ) -> Self:
        """Build the state that a series of checkpoints describes.

        Args:
            limits: As those the rows were made under.
            rows: Of all checkpoints, oldest first; a later row replaces an earlier.
            index: Of the newest checkpoint.
            digest: Of the newest checkpoint.

        Raises:
            msgspec.DecodeError: A row is damaged.
            ValueError: A row's table or key is unknown.
        """
        machine = cls(limits)
        machine.applied_index = machine.digest_index = index
        machine.digest = digest
        newest: dict[int, dict[bytes, bytes]] = {}
        for table, key, value in rows:
            if value is None:
                newest.setdefault(table, {}).pop(key, None)
            else:
                newest.setdefault(table, {})[key] = value
        for number in sorted(newest):
            table_of = Table(number)
            module = machine._by_table[number]
            found = newest.pop(number)
            # Sorted, as the order on disk differs from member to member.
            for key in sorted(found):
                module.load_row(number, unpack_key(table_of, key), found[key])
        for module in machine.modules.all:
            module.loaded()
        return machine


def _sort_key(promotion: tuple[int, RowKey]) -> Any:
    return promotion  # the keys of one rank have one type, so promotions compare
