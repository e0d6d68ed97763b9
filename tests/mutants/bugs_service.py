"""Planted bugs of what is between the log and the clients: watches and fences.

Source: RELIABILITY.md scenarios 53, 55 and 56; section 4.
"""

from __future__ import annotations

from typing import Final

from raftd.node.service import WatchSpec
from raftd.node.watch_index import About, WatchIndex
from raftd.node.watches import Watch, Watches
from raftd.statemachine.events import Event, HistoryRecord
from raftd.statemachine.fences import Fences
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Fence
from tests.fuzz.test_kv_machine import Keys
from tests.mutants.bug import Bug
from tests.mutants.finders import Served, Stateful

__all__ = ["SERVICE"]

_discard = WatchIndex.discard
_init_watch = Watch.__init__


def _begin_late(self: Watch, machine: Machine, spec: WatchSpec, owner: Watches) -> None:
    _init_watch(self, machine, spec, owner)
    if spec.from_rev:
        self._next_rev += 1


def _hear_and_pass_over(self: Watch, event: Event, record: HistoryRecord) -> None:
    """Take all before an entry for read, though it may not have been."""
    if self.spec.keep(event):
        self._next_rev = max(self._next_rev, record.first_rev)
        self.wake()


def _forget_the_others_too(
    self: WatchIndex[Watch], watch: Watch, about: About | None
) -> None:
    """Forget all watches of a subject with the first of them that ends."""
    others = self._by_subject.get(about, {}) if about is not None else {}
    for each in [watch, *others]:
        _discard(self, each, about)


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
        name="watch-forgotten",
        does="when one watch of a key ends, the others of it are woken no more",
        breaks=("WAT",),
        repeats="scenario 56",
        patches=((WatchIndex, "discard", _forget_the_others_too),),
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
