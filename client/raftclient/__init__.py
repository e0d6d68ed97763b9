"""The client library of raftd.

    import raftclient

    with raftclient.connect("h1:7400,h2:7400,h3:7400") as client:
        client.put("greeting", "hello")
        with client.lock("reports") as grant:
            client.put("reports/last", "7", fences=[grant.fence()])

``raftclient`` is for threads, ``raftclient.aio`` the same for asyncio;
``raftclient.txn`` makes what transactions are made of. Every error is a ``RaftError``
and says in ``applied`` whether anything happened.

Source: DESIGN.md section 9.
"""

from raftclient import aio, txn
from raftclient._cluster_face import Cluster
from raftclient._handles import (
    Election,
    Feed,
    Grant,
    Leadership,
    Lease,
    Lock,
    Queue,
    Reservation,
    ReservedJob,
    Session,
    Transaction,
    Worker,
)
from raftclient._observe import ElectionEvent, LeaderInfo
from raftclient._sync import Client, connect
from raftclient.backups import BackupInfo, BackupProgress
from raftclient.cluster import ClusterStatus, MemberRole, MemberStatus
from raftclient.elections import CandidateInfo, ElectionInfo
from raftclient.errors import (
    Compacted,
    Denied,
    Fenced,
    InternalError,
    InvalidRequest,
    JobFinal,
    LeaseLost,
    LimitExceeded,
    LockHeld,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    RaftError,
    ReservationLost,
    Unavailable,
)
from raftclient.fences import (
    ElectionFence,
    Fence,
    LeaseFence,
    LockFence,
    ReservationFence,
)
from raftclient.jobs import JobEvent, JobInfo, JobState
from raftclient.keys import KeyValue, WatchEvent, WatchKind
from raftclient.kv import DeleteResult, PutResult
from raftclient.leases import LeaseInfo
from raftclient.locks import LockClaim, LockInfo, LockMode
from raftclient.members import HandOver, Member, MemberKind, NewMember
from raftclient.queue_info import QueueInfo, QueueOptions
from raftclient.queues import EnqueuedJob
from raftclient.reservations import CANCEL_REQUESTED
from raftclient.results import Done, Enqueued, OpResult, Put, Removed, Sum, TxnResult
from raftclient.specs import (
    Backoff,
    JobOptions,
    JobSpec,
    OnConflict,
    Unique,
    UniqueUntil,
)
from raftclient.txn import Compare, Op, Operator

__all__ = [
    "CANCEL_REQUESTED",
    "Backoff",
    "BackupInfo",
    "BackupProgress",
    "CandidateInfo",
    "Client",
    "Cluster",
    "ClusterStatus",
    "Compacted",
    "Compare",
    "DeleteResult",
    "Denied",
    "Done",
    "Election",
    "ElectionEvent",
    "ElectionFence",
    "ElectionInfo",
    "Enqueued",
    "EnqueuedJob",
    "Feed",
    "Fence",
    "Fenced",
    "Grant",
    "HandOver",
    "InternalError",
    "InvalidRequest",
    "JobEvent",
    "JobFinal",
    "JobInfo",
    "JobOptions",
    "JobSpec",
    "JobState",
    "KeyValue",
    "LeaderInfo",
    "Leadership",
    "Lease",
    "LeaseFence",
    "LeaseInfo",
    "LeaseLost",
    "LimitExceeded",
    "Lock",
    "LockClaim",
    "LockFence",
    "LockHeld",
    "LockInfo",
    "LockMode",
    "Member",
    "MemberKind",
    "MemberRole",
    "MemberStatus",
    "NewMember",
    "NotFound",
    "OnConflict",
    "Op",
    "OpResult",
    "Operator",
    "OutcomeUnknown",
    "PreconditionFailed",
    "Put",
    "PutResult",
    "Queue",
    "QueueInfo",
    "QueueOptions",
    "RaftError",
    "Removed",
    "Reservation",
    "ReservationFence",
    "ReservationLost",
    "ReservedJob",
    "Session",
    "Sum",
    "Transaction",
    "TxnResult",
    "Unavailable",
    "Unique",
    "UniqueUntil",
    "WatchEvent",
    "WatchKind",
    "Worker",
    "aio",
    "connect",
    "txn",
]
