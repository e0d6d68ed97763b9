"""What holds for all tests: a quiet gRPC, Ctrl-C, and draws by a test's source.

So no test of drawn values fails by chance, nor because the machine is busy. With
``RAFTD_FUZZ=soak`` draws are random; see ``tests/fuzz/profiles.py``.
"""

import os
import signal

from hypothesis import HealthCheck, settings

# A shell starts what it runs in the background with Ctrl-C ignored, and all that tests
# start would inherit that: no test of Ctrl-C could pass.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Read when gRPC is first imported, so before any test module.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

_QUIET = settings(
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("gate", _QUIET, derandomize=True)
settings.register_profile("soak", _QUIET)
# Before any test module makes settings of its own: they begin from these.
settings.load_profile("soak" if os.environ.get("RAFTD_FUZZ") == "soak" else "gate")
