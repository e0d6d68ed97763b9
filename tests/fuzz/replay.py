"""The log alone gives what a machine has become, whatever it was loaded from between.

Source: RELIABILITY.md section 6 invariant 9.
"""

from __future__ import annotations

from raftd.statemachine.limits import Limits
from raftd.statemachine.machine import Machine
from tests.statemachine.harness import Harness

__all__ = ["check_replay"]


def check_replay(harness: Harness, limits: Limits) -> None:
    """Apply a harness's whole log once more: rows and digests are equal."""
    disk = harness.save()
    again = Harness(limits, Machine(limits))
    for payload in harness.payloads:
        if again.apply(payload).mark is not None:
            again.write(again.machine.take_checkpoint())
    assert again.disk == disk
    assert again.machine.digest == harness.machine.digest
