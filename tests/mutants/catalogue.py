"""All planted bugs, by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from tests.mutants.bug import Bug, planted
from tests.mutants.bugs_client import CLIENT
from tests.mutants.bugs_elections import ELECTIONS
from tests.mutants.bugs_machine import MACHINE
from tests.mutants.bugs_members import MEMBERS
from tests.mutants.bugs_node import NODE
from tests.mutants.bugs_plain import PLAIN
from tests.mutants.bugs_queues import QUEUES
from tests.mutants.bugs_reads import READS
from tests.mutants.bugs_replication import REPLICATION
from tests.mutants.bugs_service import SERVICE
from tests.mutants.bugs_snapshots import SNAPSHOTS
from tests.mutants.bugs_storage import STORAGE
from tests.mutants.finders import Simulated
from tests.sim.options import Options

__all__ = ["BUGS", "options_for", "planted_named"]

BUGS: Final[dict[str, Bug]] = {
    bug.name: bug
    for bug in (
        *ELECTIONS,
        *REPLICATION,
        *READS,
        *MEMBERS,
        *SNAPSHOTS,
        *NODE,
        *STORAGE,
        *MACHINE,
        *QUEUES,
        *SERVICE,
        *CLIENT,
        *PLAIN,
    )
}


@contextlib.contextmanager
def planted_named(name: str) -> Iterator[None]:
    """Run the body with the bug of a name; without any if there is no name."""
    with planted(BUGS[name]) if name else contextlib.nullcontext():
        yield


def options_for(name: str, seed: int) -> Options:
    """Return what the simulator runs a seed with when it looks for a bug."""
    finder = BUGS[name].finder
    assert isinstance(finder, Simulated), f"{name} is not looked for by the simulator"
    return finder.options(seed)
