"""Planted bugs of what is between the log and the clients: watches and fences.

Source: RELIABILITY.md scenarios 53, 55 and 56; section 4.
"""

from __future__ import annotations

from typing import Final

from raftd.node.service import WatchSpec
from raftd.node.watches import Watch, Watches
from raftd.statemachine.events import HistoryRecord
from raftd.statemachine.fences import Fences
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Fence
from tests.fuzz.test_kv_machine import Keys
from tests.mutants.bug import Bug
from tests.mutants.finders import Served, Stateful

__all__ = ["SERVICE"]

_init_watch = Watch.__init__


def _begin_late(self: Watch, machine: Machine, spec: WatchSpec, owner: Watches) -> None:
    _init_watch(self, machine, spec, owner)
    if spec.from_rev:
        self._next_rev += 1


def _hear_and_pass_over(self: Watch, record: HistoryRecord) -> None:
    """Take what came while it slept for read, once it is awake."""
    if self._wake.is_set():
        self._next_rev = max(self._next_rev, record.first_rev)
    self._wake.set()


def _hold_always(_: Fences, __: tuple[Fence, ...]) -> None:
    return None


SERVICE: Final = (
    Bug(
        name="watch-begins-late",
        does="a watch from a revision on begins one revision later",
        breaks=("WAT",),
        repeats="etcd#18089, scenario 56",
        patches=((Watch, "__init__", _begin_late),),
        finder=Served(),
    ),
    Bug(
        name="watch-passes-over",
        does="a slow watch passes over what happens while it catches up",
        breaks=("WAT",),
        repeats="etcd#17529, scenario 56",
        patches=((Watch, "hear", _hear_and_pass_over),),
        finder=Served(),
    ),
    Bug(
        name="fence-unchecked",
        does="a write that is bound to a claim is applied when the claim is gone",
        breaks=("FEN",),
        repeats="scenario 53, SEMANTICS.md section 3",
        patches=((Fences, "check", _hold_always),),
        finder=Stateful(Keys),
    ),
)
