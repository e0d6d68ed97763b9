"""The state machine: entries in, answers and events out; the same on every member.

Order within an entry: renewals; timers due on the lease clock, then on the wall clock;
commands; background tasks. Stamps that fall are taken as standing still: a leader that
stamped wrongly must not be able to stop every member for ever at the same entry.

Rules: an exception out of ``apply`` is a bug, or a log this version cannot read. The
node stops, loudly; it never goes on with a state that may differ.

Source: DESIGN.md section 5.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from raftd.statemachine.answers import (
    Answer,
    AppliedEntry,
    Decision,
    Marked,
    Pending,
)
from raftd.statemachine.context import Context
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.loading import (
    ROW_OVERHEAD_BYTES,
    STEP_BYTES,
    RowsByTable,
    sort,
)
from raftd.statemachine.module import Handler, Module, handlers_of
from raftd.statemachine.registry import Modules
from raftd.statemachine.rows import DIGEST_BYTES, Checkpoint, Row
from raftd.statemachine.schema.base import Command, Refusal, Result
from raftd.statemachine.schema.entry import MarkEntry, Request, decode_batch
from raftd.statemachine.tables import RowKey, Table, key_unpacker
from raftd.statemachine.timers import TimerHeap

__all__ = ["Machine", "MachineLoading"]


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
        self._with_tasks: Final[tuple[Module, ...]] = tuple(
            module
            for module in self.modules.all
            if type(module).has_tasks is not Module.has_tasks
        )
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
                self.context.rows.register(
                    table, module.encode_row, module.encode_record
                )

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
        admit, keep, run = self.sessions.admit, self.sessions.keep, self._run
        for request in requests:
            if request.number:
                answer = admit(request)
                if answer is None:
                    answer = run(request)
                    keep(request, answer)
            else:
                answer = run(request)
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
            wanted = list(promotions)
            if len(wanted) > 1:
                wanted.sort(key=_sort_key)
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
        for module in self._with_tasks:
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
            or any(module.has_tasks() for module in self._with_tasks)
        )

    @property
    def revision(self) -> int:
        """Return the state's revision."""
        return self.context.revision

    # --- checkpoints -------------------------------------------------------------

    def take_checkpoint(self) -> Checkpoint:
        """Begin the checkpoint of a mark, right after the entry was applied.

        Those before it need not be taken to the end, but are to be ended in order:
        the digest of each is a part of the next one's.
        """
        assert self._marking is not None, "a checkpoint is taken at a mark only"
        self._marking = None
        self.checkpoint_written()
        self._checkpoint = self.context.rows.take(
            self.applied_index, self._checkpoint or self.digest
        )
        return self._checkpoint

    def checkpoint_written(self) -> None:
        """Learn the digest of the newest checkpoint, if all rows of it were taken."""
        checkpoint = self._checkpoint
        if checkpoint is not None and checkpoint.is_done:
            self.digest = checkpoint.digest
            self.digest_index = checkpoint.index
            self._checkpoint = None

    # --- load ----------------------------------------------------------------------

    @classmethod
    def load(
        cls, limits: Limits, rows: Iterable[Row], *, index: int, digest: bytes
    ) -> "Machine":
        """Build the state that a series of checkpoints describes; see MachineLoading.

        Raises:
            msgspec.DecodeError: A row is damaged.
            ValueError: A row's table or key is unknown.
        """
        loading = MachineLoading(limits, index=index, digest=digest)
        loading.feed(rows)
        return loading.finish()

    def load_steps(self, rows: RowsByTable) -> Iterator[None]:
        """Take up all rows, in small steps; only for a machine that is still empty."""
        for number in rows.tables():
            unpack = key_unpacker(Table(number))
            load = self._by_table[number].load_row
            keys: list[bytes] = []
            yield from sort(rows.keys(number), keys)
            room_bytes = STEP_BYTES
            for key in keys:
                value = rows.take(number, key)
                load(number, unpack(key), value)
                room_bytes -= ROW_OVERHEAD_BYTES + len(value)
                if room_bytes <= 0:
                    room_bytes = STEP_BYTES
                    yield
        for module in self.modules.all:
            yield from module.loaded()
            yield

    def become(self, other: "Machine") -> None:
        """Take over the whole state of a machine that was loaded, in its place.

        Whoever holds this machine goes on with the new state: nobody may hold on to a
        part of a machine. ``other`` gets the old one, to be let go of.
        """
        own, others = vars(self), vars(other)
        old = dict(own)
        own.update(others)
        others.update(old)
        self._handlers[MarkEntry] = self._mark

    def let_go_steps(self) -> Iterator[None]:
        """Free most of a state that nobody uses any more, in small steps."""
        for module in self.modules.all:
            yield from module.let_go()


class MachineLoading:
    """A machine on its way out of rows.

    Args:
        limits: As those the rows were made under.
        index: Of the newest checkpoint.
        digest: Of the newest checkpoint.
    """

    def __init__(self, limits: Limits, *, index: int, digest: bytes) -> None:
        self.machine: Final = Machine(limits)
        self.machine.applied_index = self.machine.digest_index = index
        self.machine.digest = digest
        self._rows: Final = RowsByTable()

    def feed(self, rows: Iterable[Row]) -> None:
        """Take in rows, oldest first; a later row replaces an earlier."""
        self._rows.add(rows)

    def steps(self) -> Iterator[None]:
        """Build the machine when all rows were fed; it is ready after the last step.

        Raises:
            msgspec.DecodeError: A row is damaged.
            ValueError: A row's table or key is unknown.
        """
        return self.machine.load_steps(self._rows)

    def finish(self) -> Machine:
        """Build the machine at once; see ``steps``."""
        for _ in self.steps():
            pass
        return self.machine


def _sort_key(promotion: tuple[int, RowKey]) -> Any:
    return promotion  # the keys of one rank have one type, so promotions compare
