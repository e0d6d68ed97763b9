"""A log entry's payload: stamps, renewals, and a batch of requests.

One msgpack value, decoded in one call. The writer encodes each command once
(``msgspec.Raw``), and the checksum over just those bytes is what tells a
re-sent number from a reused one.
Source: DESIGN.md section 5, SEMANTICS.md section 1.
"""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

from raftd.statemachine.schema.base import Command, Fence, Refusal, Result
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWithdrawn,
    CampaignWon,
    ElectionTransferred,
    Proclaim,
    Proclaimed,
    Resign,
    Resigned,
    TransferElection,
    WithdrawCampaign,
)
from raftd.statemachine.schema.jobs import (
    CancelJob,
    CompleteJob,
    EnqueueJobs,
    ExtendJob,
    FailJob,
    JobCancelled,
    JobCompleted,
    JobExtended,
    JobFailed,
    JobReleased,
    JobSaved,
    JobsEnqueued,
    JobSnoozed,
    JobsReserved,
    ReleaseJob,
    ReserveJobs,
    SavepointJob,
    SnoozeJob,
)
from raftd.statemachine.schema.kv import (
    CompactHistory,
    DeleteKey,
    DeleteRange,
    HistoryCompacted,
    IncrementKey,
    KeyDeleted,
    KeyIncremented,
    KeyPut,
    PutKey,
    RangeDeleted,
)
from raftd.statemachine.schema.leases import (
    GrantLease,
    LeaseGranted,
    LeaseRevoked,
    RevokeLease,
)
from raftd.statemachine.schema.locks import (
    AcquireCancelled,
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockBroken,
    LockGranted,
    LockReleased,
    ReleaseLock,
)
from raftd.statemachine.schema.queues import (
    ConfigureQueue,
    DeleteQueue,
    JobsRedriven,
    PauseQueue,
    PurgeQueue,
    QueueConfigured,
    QueueDeleted,
    QueuePaused,
    QueuePurged,
    RedriveJobs,
)
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionOpened,
)
from raftd.statemachine.schema.txn import Transact, Transacted

__all__ = [
    "AnyCommand",
    "AnyResult",
    "Batch",
    "MarkEntry",
    "Request",
    "decode_answer",
    "decode_batch",
    "encode_answer",
    "encode_batch",
    "seal",
]


class MarkEntry(Command, frozen=True, tag=1):
    """Every node writes a checkpoint exactly here, and compares digests.

    Attributes:
        digest_at: Index of the previous mark, 0 if none.
        digest: The leader's digest at that mark.
        cut_index: Every voter holds the log up to here, so that no member needs to
            keep it once its checkpoint is beyond.
    """

    digest_at: int
    digest: bytes
    cut_index: int


AnyCommand = (
    MarkEntry
    | OpenSession
    | CloseSession
    | GrantLease
    | RevokeLease
    | PutKey
    | DeleteKey
    | DeleteRange
    | IncrementKey
    | CompactHistory
    | Transact
    | AcquireLock
    | CancelAcquire
    | ReleaseLock
    | BreakLock
    | Campaign
    | WithdrawCampaign
    | Proclaim
    | Resign
    | TransferElection
    | EnqueueJobs
    | ReserveJobs
    | ExtendJob
    | SavepointJob
    | CompleteJob
    | FailJob
    | SnoozeJob
    | ReleaseJob
    | CancelJob
    | RedriveJobs
    | ConfigureQueue
    | PauseQueue
    | PurgeQueue
    | DeleteQueue
)

AnyResult = (
    SessionOpened
    | SessionClosed
    | LeaseGranted
    | LeaseRevoked
    | KeyPut
    | KeyDeleted
    | RangeDeleted
    | KeyIncremented
    | HistoryCompacted
    | Transacted
    | LockGranted
    | AcquireCancelled
    | LockReleased
    | LockBroken
    | CampaignWon
    | CampaignWithdrawn
    | Proclaimed
    | Resigned
    | ElectionTransferred
    | JobsEnqueued
    | JobsReserved
    | JobExtended
    | JobSaved
    | JobCompleted
    | JobFailed
    | JobSnoozed
    | JobReleased
    | JobCancelled
    | JobsRedriven
    | QueueConfigured
    | QueuePaused
    | QueuePurged
    | QueueDeleted
)


class Request(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One command with what binds it to its sender.

    Attributes:
        session: Whose numbered write this is; 0 = none.
        number: From 1; 0 = not numbered.
        acknowledged: The client has all answers up to this number.
        checksum: CRC-32 of the encoded command and fences.
        fences: All must hold, else the command is refused.
        command: What to do.
    """

    session: int
    number: int
    acknowledged: int
    checksum: int
    fences: tuple[Fence, ...]
    command: AnyCommand


class Batch(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The payload of one log entry.

    Attributes:
        now_ms: The lease clock, stamped by the leader, never falling.
        wall_ms: Wall time for ``run_at`` and cron, never falling.
        renewals: Leases and sessions renewed, applied before timers.
        requests: Applied in order, after timers.
    """

    now_ms: int
    wall_ms: int
    renewals: tuple[int, ...]
    requests: tuple[Request, ...]


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Batch)
_answers: Final = msgspec.msgpack.Decoder(AnyResult | Refusal)
_encode: Final = _encoder.encode
_NO_FENCES_CRC: Final = zlib.crc32(_encode(()))


def seal(
    session: int,
    number: int,
    acknowledged: int,
    command: AnyCommand,
    fences: tuple[Fence, ...] = (),
) -> msgspec.Raw:
    """Encode a request once, with its checksum; the batch takes it as it is."""
    body = _encode(command)
    fences_crc = zlib.crc32(_encode(fences)) if fences else _NO_FENCES_CRC
    checksum = zlib.crc32(body, fences_crc)
    request = (session, number, acknowledged, checksum, fences, msgspec.Raw(body))
    return msgspec.Raw(_encode(request))


def encode_batch(
    now_ms: int,
    wall_ms: int,
    renewals: tuple[int, ...],
    requests: list[msgspec.Raw],
) -> bytes:
    """Encode an entry's payload from requests that ``seal`` made."""
    return _encoder.encode((now_ms, wall_ms, renewals, requests))


def decode_batch(payload: bytes) -> Batch:
    """Decode an entry's payload.

    Raises:
        msgspec.ValidationError: An unknown tag or field: the node must stop.
        msgspec.DecodeError: Not msgpack.
    """
    try:
        return _decoder.decode(payload)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def encode_answer(answer: Result | Refusal) -> bytes:
    """Encode what a reply window keeps, or a member forwards."""
    return _encoder.encode(answer)


def decode_answer(data: bytes) -> AnyResult | Refusal:
    """Decode what ``encode_answer`` made.

    Raises:
        msgspec.DecodeError: It made no such bytes.
    """
    try:
        answer: AnyResult | Refusal = _answers.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
    return answer
