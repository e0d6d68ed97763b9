"""What any language can do with generated stubs alone, at any member HOST:PORT.

python -m tests.e2e.plain_stub 127.0.0.1:7400
"""

import sys

import grpc

from raftpb.v1 import kv_pb2, leases_pb2, locks_pb2, queues_pb2, txn_pb2
from raftpb.v1.kv_pb2_grpc import KvServiceStub
from raftpb.v1.leases_pb2_grpc import LeaseServiceStub
from raftpb.v1.locks_pb2_grpc import LockServiceStub
from raftpb.v1.queues_pb2_grpc import QueueServiceStub

with grpc.insecure_channel(sys.argv[1]) as channel:
    kv = KvServiceStub(channel)
    kv.PutKey(kv_pb2.PutKeyRequest(key=b"greeting", value=b"hello"))
    found = kv.GetKey(kv_pb2.GetKeyRequest(key=b"greeting")).key_value
    grant = leases_pb2.GrantLeaseRequest(ttl_ms=10_000)
    lease = LeaseServiceStub(channel).GrantLease(grant).lease_id
    acquire = locks_pb2.AcquireLockRequest(lease_id=lease, claimant="me")
    acquire.name = "door of " + sys.argv[1]
    token = LockServiceStub(channel).AcquireLock(acquire).token
    enqueue = queues_pb2.EnqueueJobsRequest(jobs=[txn_pb2.JobSpec(queue="mail")])
    job = QueueServiceStub(channel).EnqueueJobs(enqueue).jobs[0].job_id
    sys.stdout.write(f"value {found.value.decode()} token {token} job {job}\n")
