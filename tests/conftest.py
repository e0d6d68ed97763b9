"""What holds for all tests: gRPC is as quiet as in the programs that use it."""

import os

# Read when gRPC is first imported, so before any test module.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
