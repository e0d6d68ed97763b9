"""The command line of raftd, built on the client library alone."""

import os

# gRPC reads this when it is first imported. It would tell of broken connections on
# standard error, where one sentence of ours belongs.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
