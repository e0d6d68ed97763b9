"""Measurements of raftd: beside its peers, at a million of anything, and of its ends.

Source: PERFORMANCE.md; docs/performance.md says how to read them.
"""

import os

# gRPC reads this when it is first imported. uvloop forks for each process that it
# starts, and gRPC's fork handlers then begin threads in the child: one in a hundred
# dies of them before it runs its program.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
