"""Clients of elections: they stand, proclaim, withdraw and resign, and look who leads.

Rules: nobody believes to lead while another does. What a look shows is what the log
says at its revision. In the end who leads resigns.

Source: SEMANTICS.md section 5; RELIABILITY.md section 4 (election).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from raftd.node.service import Answered
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason, Refusal, Result
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWon,
    Proclaim,
    Resign,
    WithdrawCampaign,
)
from tests.sim.caller import Caller
from tests.sim.claims_model import Leader
from tests.sim.ops import Op
from tests.sim.world import SimFailure

__all__ = ["ELECTIONS", "Candidate"]

ELECTIONS: Final = ("north", "south")


class Candidate(Caller):
    """See the module's rules; it stands for one election at a time."""

    def __init__(self, *args: Any) -> None:
        """Begin to exist; see ``Caller``."""
        super().__init__(*args)
        self._void: dict[int, None] = {}

    def _begin_some(self) -> None:
        rng = self._rng
        held = [name for name in ELECTIONS if _claim(name) in self._belief.held]
        if held and (self._is_draining or rng.random() < 0.3):
            epoch = self._belief.held[_claim(held[0])]
            self._belief.let_go(_claim(held[0]))
            self._begin(Resign(held[0], epoch), b"")
            return
        if self._is_draining:
            return
        if rng.random() < 0.3:
            name = rng.choice(ELECTIONS)
            self._begin(None, name.encode(), query=partial(_leader, name))
        elif held:
            value = b"%d.%d" % (self._id, self._tag)
            epoch = self._belief.held[_claim(held[0])]
            self._begin(Proclaim(held[0], epoch, value), b"")
        else:
            self._stand()

    def _stand(self) -> None:
        rng = self._rng
        standing = [
            op.command.name
            for op in self._open.values()
            if isinstance(op.command, Campaign | Resign | WithdrawCampaign)
        ]
        name, claimant = rng.choice(ELECTIONS), f"c{self._id}"
        if not standing:
            wait_ms = rng.choice([0, 500, None])
            value = b"%d.%d" % (self._id, self._tag)
            self._begin(Campaign(name, self._session, claimant, value, wait_ms), b"")
        elif len(standing) == 1 and rng.random() < 0.1:
            # Whatever it wins from here on is given back with this.
            self._void = dict.fromkeys(self._open)
            withdraw = WithdrawCampaign(standing[0], self._session, claimant)
            self._begin(withdraw, b"")

    def _on_told(self, op: Op, answer: Result | Refusal) -> None:
        match answer:
            case CampaignWon(epoch=epoch):
                assert isinstance(op.command, Campaign)
                self._tally.elected += 1
                if op.tag not in self._void:
                    self._belief.take(_claim(op.command.name), epoch)
            case Refusal(reason=Reason.FENCED | Reason.NOT_FOUND):
                if isinstance(op.command, Proclaim):
                    self._let_go(op.command.name)
            case _:
                pass

    def _let_go(self, name: str) -> None:
        if _claim(name) in self._belief.held:
            self._belief.let_go(_claim(name))

    def _on_read(self, op: Op, answered: Answered) -> None:
        shown: object = answered.answer
        name = op.key.decode()
        expected = self._model.claims.leader_at(name, answered.revision)
        if shown != expected:
            raise SimFailure(
                f"c{self._id} saw {shown} lead {name} at {answered.revision}, the log"
                f" says {expected}"
            )


def _claim(name: str) -> str:
    """Return what a belief in leadership is called among those in locks."""
    return f"election {name}"


def _leader(name: str, machine: Machine) -> Leader:
    view = machine.elections.leader(name)
    if view is None:
        return ("", 0, b"")
    return (view.claimant, view.epoch, view.value)
