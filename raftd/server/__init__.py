"""The composition root: configuration, start and stop, health, metrics, commands.

Here the parts are put together and nowhere else, so every other package can be
handed what it needs. Nothing imports this package.
"""

import os

# gRPC reads these when it is first imported. Its fork handlers run in the child that
# the event loop forks for a merge, where now and then they crash it. Its messages do
# not belong among ours.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
