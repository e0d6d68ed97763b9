"""What the committed log means for leases and elections, by the plain model of them.

Rules: a lease ends where its renewals in the log say, never earlier and never later
(LSE); an election has one leader, whose lease lives, and changes as campaigns,
withdrawals and resignations say, in the order of the line; epochs rise (FEN); the
history tells each change.

Source: SEMANTICS.md sections 1 and 5; RELIABILITY.md section 4 (election).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

from raftd.statemachine.answers import Answer, AppliedEntry, Pending
from raftd.statemachine.events import ElectionEvent
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Command, Reason, Refusal
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWithdrawn,
    CampaignWon,
    Proclaim,
    Resign,
    WithdrawCampaign,
)
from raftd.statemachine.schema.entry import Batch
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionClosed,
    SessionOpened,
)
from tests.sim.world import SimFailure
from tests.statemachine.election_model import ElectionModel

__all__ = ["ClaimsModel", "Leader"]

Leader = tuple[str, int, bytes]
"""Claimant, epoch, value; an empty claimant is nobody."""
_NOBODY: Final = ("", 0, b"")


class ClaimsModel:
    """See the module's rules."""

    def __init__(self) -> None:
        self._plain: Final = ElectionModel()
        self._plain.now_ms = 0
        self._alive: dict[int, None] = {}
        self._top_epoch = 0
        self._tickets: Final[dict[int, None]] = {}
        self._told: Final[dict[str, tuple[list[int], list[Leader]]]] = {}
        self._takes: Final[dict[type[Command], Callable[[Any, Answer], None]]] = {
            Campaign: self._campaign,
            CloseSession: self._close,
            OpenSession: self._open,
            Proclaim: self._proclaim,
            Resign: self._resign,
            WithdrawCampaign: self._withdraw,
        }

    def leader_at(self, name: str, revision: int) -> Leader:
        """Return who leads as of a revision."""
        revisions, leaders = self._told.get(name, ([], []))
        at = bisect_right(revisions, revision)
        return leaders[at - 1] if at else _NOBODY

    def is_led(self) -> bool:
        """Tell whether anybody leads anything."""
        return any(each.leader for each in self._plain.elections.values())

    # --- entry by entry -----------------------------------------------------------

    def begin_entry(self, batch: Batch) -> list[int]:
        """Renew, let the clock go on; return the leases that end by it."""
        plain = self._plain
        before = list(plain.leases)
        plain.now_ms = max(plain.now_ms, batch.now_ms)
        for lease in batch.renewals:
            plain.renew(lease)
        plain.fire_due()
        return [lease for lease in before if lease not in plain.leases]

    def take(self, command: Command, answer: Answer) -> None:
        """Take in the first answer to a command."""
        way = self._takes.get(type(command))
        if way is not None:
            way(command, answer)

    def end_entry(self, machine: Machine, applied: AppliedEntry) -> None:
        """Compare leases, elections, decisions, and what the history tells."""
        self._check_leases(machine, applied)
        self._check_decisions(applied)
        for event in applied.record.events if applied.record is not None else ():
            if isinstance(event, ElectionEvent):
                revisions, leaders = self._told.setdefault(event.name, ([], []))
                revisions.append(event.rev)
                leaders.append((event.claimant, event.epoch, event.value))
        self._plain.transitions.clear()
        top_epoch = self._top_epoch
        for name in self._plain.elections:
            self._check_election(name, machine, top_epoch)

    def _check_leases(self, machine: Machine, applied: AppliedEntry) -> None:
        leases = self._plain.leases
        ended = [lease for lease in self._alive if lease not in leases]
        if sorted(ended) != sorted(n for n in applied.closed if n in self._alive):
            raise SimFailure(
                f"{applied.closed} end at {machine.context.now_ms}, the log says"
                f" {ended} of {self._alive}"
            )
        self._alive = dict.fromkeys(leases)

    def _check_decisions(self, applied: AppliedEntry) -> None:
        expected = self._plain.take_expected()
        decided = {
            each.ticket: each.answer
            for each in applied.decided
            if each.ticket in self._tickets
        }
        if decided.keys() != expected.keys():
            raise SimFailure(f"{decided} are decided, the log says {expected}")
        for ticket, reason in expected.items():
            answer = decided[ticket]
            shown = answer.reason if isinstance(answer, Refusal) else None
            if shown is not reason:
                raise SimFailure(f"ticket {ticket} ends as {answer}, not {reason}")
            del self._tickets[ticket]

    def _check_election(self, name: str, machine: Machine, top_epoch: int) -> None:
        meant = self._plain.elections[name]
        view = machine.elections.inspect(name)
        leader = view.leader if view is not None else None
        shown = (leader.lease, leader.claimant) if leader is not None else None
        line = [(each.lease, each.claimant) for each in view.candidates] if view else []
        if shown != meant.leader or line != [wait.party for wait in meant.line]:
            raise SimFailure(f"election {name} is {view}, the log says {meant}")
        if leader is None:
            return
        if not meant.epoch:
            if leader.epoch <= top_epoch:
                raise SimFailure(f"epoch {leader.epoch} after {top_epoch}")
            meant.epoch = leader.epoch
            self._top_epoch = max(self._top_epoch, leader.epoch)
        if (leader.epoch, leader.value) != (meant.epoch, meant.value):
            raise SimFailure(f"election {name} is {view}, the log says {meant}")
        told = (leader.claimant, leader.epoch, leader.value)
        if self._told[name][1][-1] != told:
            raise SimFailure(f"election {name}: the history does not tell {told}")

    # --- commands -----------------------------------------------------------------

    def _open(self, _: OpenSession, answer: Answer) -> None:
        if isinstance(answer, SessionOpened):
            if answer.is_new:
                self._plain.grant(answer.session, answer.ttl_ms)
                self._alive[answer.session] = None
            self._plain.renew(answer.session)

    def _close(self, command: CloseSession, answer: Answer) -> None:
        if isinstance(answer, SessionClosed) and command.session in self._plain.leases:
            self._plain.end_lease(command.session, is_loss=False)

    def _campaign(self, command: Campaign, answer: Answer) -> None:
        expected = self._plain.campaign(command)
        match answer:
            case Refusal(reason=reason):
                is_right = expected is reason
            case CampaignWon(epoch=epoch):
                is_right = not isinstance(expected, Reason) and expected in {0, epoch}
            case Pending(ticket=ticket):
                is_right = expected is None
                self._plain.stand(command, ticket)
                self._tickets[ticket] = None
            case _:
                is_right = False
        if not is_right:
            raise SimFailure(f"{command} is answered {answer}, not {expected}")

    def _withdraw(self, command: WithdrawCampaign, answer: Answer) -> None:
        party = (command.lease, command.claimant)
        expected = CampaignWithdrawn(self._plain.withdraw(command.name, party))
        if answer != expected:
            raise SimFailure(f"{command} is answered {answer}, not {expected}")

    def _proclaim(self, command: Proclaim, answer: Answer) -> None:
        if self._is_leaders(command, answer):
            self._plain.proclaim(command.name, command.value)

    def _resign(self, command: Resign, answer: Answer) -> None:
        if self._is_leaders(command, answer):
            self._plain.resign(command.name)

    def _is_leaders(self, command: Proclaim | Resign, answer: Answer) -> bool:
        """Tell whether an epoch is current; fail if the answer says otherwise."""
        reason = self._plain.judge(command.name, command.epoch)
        shown = answer.reason if isinstance(answer, Refusal) else None
        if shown is not reason:
            raise SimFailure(f"{command} is answered {answer}, not {reason}")
        return reason is None
