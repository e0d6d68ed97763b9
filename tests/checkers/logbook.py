"""The evidence: a replicated log, read after a run.

What an entry *is* comes from its bytes. What it *did* (answers, events, revisions)
comes from replaying it through the state machine that ran; the checkers do not take
that on trust: they hold it against what clients were told, and against models of their
own.

Source: RELIABILITY.md section 4 (remove unknowns with evidence).
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from raftd.statemachine.answers import Answer, AppliedEntry, Pending
from raftd.statemachine.events import ElectionEvent, JobEvent, LockLost
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Command, Fence, Reason, Refusal, Result
from raftd.statemachine.schema.entry import AnyCommand, Request, decode_batch
from raftd.statemachine.schema.kv import KeyValue, PutKey
from raftd.statemachine.schema.locks import LockMode
from tests.checkers.history import HistoryError, as_text
from tests.checkers.parts import Applied, Decided, Event
from tests.checkers.records import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from raftd.statemachine.events import Event as LogEvent
    from raftd.statemachine.schema.entry import Batch
    from tests.checkers.parts import Fields

__all__ = ["args_of", "event_of", "name_of", "outcome_of", "plain", "read_log"]

_NAMES: Final = {
    "MarkEntry": "mark",
    "OpenSession": "open_session",
    "CloseSession": "close_session",
    "GrantLease": "grant",
    "RevokeLease": "revoke",
    "PutKey": "put",
    "DeleteKey": "delete",
    "DeleteRange": "delete_range",
    "IncrementKey": "incr",
    "GetKey": "get",
    "CompactHistory": "compact",
    "Transact": "txn",
    "AcquireLock": "acquire",
    "CancelAcquire": "cancel_acquire",
    "ReleaseLock": "release_lock",
    "BreakLock": "break_lock",
    "Campaign": "campaign",
    "WithdrawCampaign": "withdraw",
    "Proclaim": "proclaim",
    "Resign": "resign",
    "TransferElection": "transfer_election",
    "EnqueueJobs": "enqueue",
    "ReserveJobs": "reserve",
    "ExtendJob": "extend",
    "SavepointJob": "savepoint",
    "CompleteJob": "complete",
    "FailJob": "fail",
    "SnoozeJob": "snooze",
    "ReleaseJob": "release_job",
    "CancelJob": "cancel_job",
    "RedriveJobs": "redrive",
    "ConfigureQueue": "configure_queue",
    "PauseQueue": "pause_queue",
    "PurgeQueue": "purge_queue",
    "DeleteQueue": "delete_queue",
}
_NEVER_APPLIED: Final = frozenset(
    {
        Reason.SESSION_EXPIRED,
        Reason.SESSION_UNKNOWN,
        Reason.STALE_NUMBER,
        Reason.NUMBER_REUSED,
    }
)


def read_log(
    log: Iterable[tuple[int, int, bytes]], limits: Limits = DEFAULT_LIMITS
) -> Iterator[Entry]:
    """Yield what each entry of a log did.

    Args:
        log: Index, term, payload; from index 1. An entry of Raft's own is empty.
        limits: Those of the members.

    Raises:
        HistoryError: It does not begin at index 1, or has a gap.
    """
    machine = Machine(limits)
    first: dict[tuple[int, int], bool] = {}
    for place, (index, term, payload) in enumerate(log, 1):
        if index != place:
            raise HistoryError(f"the log has entry {index} where {place} must be")
        applied = machine.apply(index, payload)
        if applied.mark is not None:
            machine.take_checkpoint().finish()
            machine.checkpoint_written()
        yield _entry(machine, index, term, payload, applied, first)


def _entry(
    machine: Machine,
    index: int,
    term: int,
    payload: bytes,
    applied: AppliedEntry,
    first: dict[tuple[int, int], bool],
) -> Entry:
    if not payload:
        return Entry(index=index, term=term, revision=machine.revision)
    batch: Batch = decode_batch(payload)
    return Entry(
        index=index,
        term=term,
        now_ms=batch.now_ms,
        wall_ms=batch.wall_ms,
        revision=machine.revision,
        renewals=list(batch.renewals),
        lost=list(applied.lost),
        requests=[
            _applied(request, answer, revision, first)
            for request, answer, revision in zip(
                batch.requests, applied.answers, applied.revisions, strict=True
            )
        ],
        decided=[
            Decided(
                ticket=each.ticket,
                session=each.session,
                number=each.number,
                **outcome_of(each.answer),
            )
            for each in applied.decided
        ],
        events=[
            event_of(event)
            for event in (applied.record.events if applied.record is not None else ())
        ],
        ended=list(applied.closed),
    )


def _applied(
    request: Request,
    answer: Answer,
    revision: int,
    first: dict[tuple[int, int], bool],
) -> Applied:
    """Describe a request; ``first`` has the numbers that were applied before it."""
    said = outcome_of(answer)
    key = (request.session, request.number)
    if request.number:
        if key in first:
            said["outcome"] = "repeat"
        elif not _leaves_no_trace(answer):
            first[key] = True
    return Applied(
        name=name_of(request.command),
        args=args_of(request.command),
        session=request.session,
        number=request.number,
        revision=revision,
        fences=[plain(fence) for fence in request.fences],
        **said,
    )


def _leaves_no_trace(answer: Answer) -> bool:
    """Tell whether the same number, sent again, would be new."""
    if isinstance(answer, Refusal):
        return answer.reason in _NEVER_APPLIED
    return getattr(answer, "jobs", None) == ()


def outcome_of(answer: Answer) -> dict[str, Any]:
    """Return outcome, and error, ticket or answer, as `Applied` has them."""
    match answer:
        case Refusal():
            return {"outcome": "refused", "error": answer.reason.value}
        case Pending():
            return {"outcome": "pending", "ticket": answer.ticket}
        case Result():
            return {"outcome": "ok", "answer": plain(answer)}
        case _:
            return {"outcome": "ok"}


def event_of(event: LogEvent) -> Event:
    """Return an event of the log as a history has it."""
    match event:
        case KeyValue():
            return Event(
                what="put" if event.version else "delete",
                revision=event.mod_rev,
                **plain(event),
            )
        case ElectionEvent():
            return Event(
                what="election",
                revision=event.rev,
                name=event.name,
                claimant=event.claimant,
                value=as_text(event.value),
                epoch=event.epoch,
            )
        case JobEvent():
            return Event(
                what="job",
                revision=event.rev,
                queue=event.queue,
                job=event.job,
                state=event.state.name if event.state is not None else "",
                previous_state=event.previous.name
                if event.previous is not None
                else "",
            )
        case LockLost():
            return Event(
                what="lock_lost",
                revision=event.rev,
                name=event.name,
                claimant=event.claimant,
                epoch=event.token,
            )


def name_of(command: AnyCommand | Command) -> str:
    """Return the operation that a command is; see `records`."""
    if isinstance(command, PutKey) and command.if_mod_rev is not None:
        return "cas"
    return _NAMES[type(command).__name__]


def args_of(command: AnyCommand | Command) -> Fields:
    """Return what a command asks for; see `records`."""
    return plain(command)


def plain(struct: msgspec.Struct | Fence) -> Fields:
    """Return the fields of a struct that differ from their defaults."""
    fields = struct.__struct_fields__
    defaults = struct.__struct_defaults__
    bare = len(fields) - len(defaults)
    found = {}
    for place, field in enumerate(fields):
        value = getattr(struct, field)
        if place < bare or value not in (defaults[place - bare], {}):
            found[field] = _value(value)
    return found


def _value(value: Any) -> Any:
    match value:
        case bytes():
            return as_text(value)
        case LockMode():
            return value.value
        case enum.Enum():
            return value.name
        case Command():
            return {"op": name_of(value), **plain(value)}
        case msgspec.Struct():
            return plain(value)
        case tuple() | list():
            return [_value(each) for each in value]
        case dict():
            return {key: _value(each) for key, each in value.items()}
        case _:
            return value
