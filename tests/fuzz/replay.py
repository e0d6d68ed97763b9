"""A machine that was loaded, or made of the log alone, is the one that was there.

Source: RELIABILITY.md section 6 invariant 9.
"""

from __future__ import annotations

from typing import Any

from raftd.statemachine.limits import Limits
from raftd.statemachine.machine import Machine
from tests.statemachine.harness import Harness

__all__ = ["check_replay", "look", "restarted"]


def look(machine: Machine) -> dict[str, Any]:
    """Return all that readers can see, and what is to come."""
    context, queues = machine.context, machine.queues
    names = queues.list_queues()
    leases = machine.leases.ids()
    return {
        "clocks": (context.now_ms, context.wall_ms, context.revision),
        "due": (machine.next_due_ms, machine.next_due_wall_ms, machine.has_backlog),
        "size": (context.size_bytes, machine.history.size_bytes),
        "leases": [
            (machine.leases.view(lease), machine.leases.attachments(lease))
            for lease in leases
        ],
        "sessions": [
            view
            for number in range(1, context.revision + 1)
            if (view := machine.sessions.view(number)) is not None
        ],
        "keys": machine.kv.range(b"", b"", 10_000),
        "compacted": machine.kv.compacted_rev,
        "history": machine.history.read(machine.kv.compacted_rev + 1, 10_000),
        "locks": [machine.locks.inspect(name) for name in machine.locks.names()],
        "elections": [
            machine.elections.inspect(name) for name in machine.elections.names()
        ],
        "queues": [
            (queues.stats(name), queues.options(name), queues.list_jobs(name))
            for name in names
        ],
    }


def restarted(harness: Harness, limits: Limits) -> Harness:
    """Save, load, and go on with what was loaded; it looks the same."""
    harness.save()
    loaded = harness.reload(limits)
    loaded.payloads = harness.payloads
    assert look(loaded.machine) == look(harness.machine)
    return loaded


def check_replay(harness: Harness, limits: Limits) -> None:
    """Load once more, and apply the whole log once more: all is equal."""
    restarted(harness, limits)
    disk = dict(harness.disk)
    again = Harness(limits, Machine(limits))
    for payload in harness.payloads:
        if again.apply(payload).mark is not None:
            again.write(again.machine.take_checkpoint())
    assert again.disk == disk
    assert again.machine.digest == harness.machine.digest
    assert look(again.machine) == look(harness.machine)
