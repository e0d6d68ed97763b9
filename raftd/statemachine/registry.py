"""Every module of the machine, made and wired once; a new primitive is a few lines.

Source: DESIGN.md section 2 ("one line in each registry").
"""

from typing import TYPE_CHECKING, Final

from raftd.statemachine.context import Context
from raftd.statemachine.elections import Elections
from raftd.statemachine.fences import Fences
from raftd.statemachine.history import History
from raftd.statemachine.kv import Kv
from raftd.statemachine.leases import Leases
from raftd.statemachine.locks import Locks
from raftd.statemachine.meta import Meta
from raftd.statemachine.queues import Queues
from raftd.statemachine.sessions import Sessions
from raftd.statemachine.txn import Transactions

if TYPE_CHECKING:
    from raftd.statemachine.module import Module

__all__ = ["Modules"]


class Modules:
    """The modules of one machine, by name and in the order of their ranks."""

    def __init__(self, context: Context) -> None:
        self.meta: Final = Meta(context)
        self.leases: Final = Leases(context)
        self.sessions: Final = Sessions(context, self.leases)
        self.kv: Final = Kv(context, self.leases)
        self.history: Final = History(context, self.kv)
        self.locks: Final = Locks(context, self.leases)
        self.elections: Final = Elections(context, self.leases)
        self.queues: Final = Queues(context, self.leases)
        self.fences: Final = Fences(
            leases=self.leases,
            locks=self.locks,
            elections=self.elections,
            jobs=self.queues,
        )
        self.txn: Final = Transactions(context, self.kv, self.fences)
        self.all: Final[tuple[Module, ...]] = (
            self.meta,
            self.sessions,
            self.leases,
            self.kv,
            self.history,
            self.locks,
            self.elections,
            self.queues,
            self.txn,
        )
        self.leases.bind({module.rank: module for module in self.all}, self.sessions)
