"""Elections at the doors.

Rules: an observer sees each transition, "nobody" included; it begins with who leads
now, or at a revision. After a RESYNC the first event is the present state.

Source: SEMANTICS.md section 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Query, Read, Watch, WatchPlan, Write, fill_nothing
from raftd.api.checks import (
    check_bytes,
    check_id,
    check_text,
    lease_of,
    optional_of,
    page_items,
)
from raftd.api.limits import DoorLimits
from raftd.api.resync import ResyncJoiner
from raftd.node.service import WatchSpec
from raftd.node.watch_index import Subject
from raftd.statemachine import election_checks
from raftd.statemachine.election_state import ElectionView, LeaderView
from raftd.statemachine.events import ElectionEvent, Event
from raftd.statemachine.machine import Machine
from raftd.statemachine.refusals import check_name
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWithdrawn,
    CampaignWon,
    ElectionTransferred,
    Proclaim,
    Resign,
    TransferElection,
    WithdrawCampaign,
)
from raftpb.v1 import elections_pb2, txn_pb2

__all__ = ["ElectionCalls"]


class ElectionCalls:
    """The calls of ElectionService."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (
            Write("campaign", self._campaign, _fill_won),
            Write("withdraw_campaign", self._withdraw, _fill_withdrawn),
            Write("proclaim", self.proclaim, fill_nothing),
            Write("resign", self.resign, fill_nothing),
            Write("transfer_election", self._transfer, _fill_transferred),
            Read("get_election", self._get),
            Read("list_elections", self._list),
            Watch("observe_election", self._observe),
        )

    # --- writes ------------------------------------------------------------------

    def _campaign(
        self, request: elections_pb2.CampaignRequest, session: int
    ) -> Campaign | Refusal:
        lease = lease_of(request.lease_id, session)
        if isinstance(lease, Refusal):
            return lease
        command = Campaign(
            request.name,
            lease,
            request.claimant,
            request.value,
            optional_of(request, "wait_ms", request.wait_ms),
        )
        return election_checks.check_campaign(self._limits.apply, command) or command

    def _withdraw(
        self, request: elections_pb2.WithdrawCampaignRequest, session: int
    ) -> WithdrawCampaign | Refusal:
        lease = lease_of(request.lease_id, session)
        if isinstance(lease, Refusal):
            return lease
        return (
            self._check_name(request.name)
            or check_text("the claimant", request.claimant, self._limits)
            or WithdrawCampaign(request.name, lease, request.claimant)
        )

    def proclaim(
        self, request: elections_pb2.ProclaimRequest | txn_pb2.ProclaimOp, session: int
    ) -> Proclaim | Refusal:
        """Translate a proclamation."""
        name, epoch, value = request.name, request.epoch, request.value
        return (
            self._check_name(name)
            or check_id("epoch", epoch)
            or check_bytes("the value", value, self._limits)
            or Proclaim(name, epoch, value)
        )

    def resign(
        self, request: elections_pb2.ResignRequest | txn_pb2.ResignOp, session: int
    ) -> Resign | Refusal:
        """Translate a resignation."""
        name, epoch = request.name, request.epoch
        return self._check_name(name) or check_id("epoch", epoch) or Resign(name, epoch)

    def _transfer(
        self, request: elections_pb2.TransferElectionRequest, session: int
    ) -> TransferElection | Refusal:
        return (
            self._check_name(request.name)
            or check_text("the claimant", request.to, self._limits)
            or TransferElection(request.name, request.to)
        )

    def _check_name(self, name: str) -> Refusal | None:
        return check_name("election", name, self._limits.apply.name_bytes_max)

    # --- reads -------------------------------------------------------------------

    def _get(self, request: elections_pb2.GetElectionRequest) -> Query | Refusal:
        name = request.name
        refusal = self._check_name(name)
        if refusal is not None:
            return refusal

        def query(machine: Machine) -> elections_pb2.GetElectionResponse | Refusal:
            view = machine.modules.elections.inspect(name)
            if view is None:
                return election_checks.unknown(name)
            response = elections_pb2.GetElectionResponse()
            _fill_election(response.election, view, machine.context.now_ms)
            return response

        return query

    def _list(self, request: elections_pb2.ListElectionsRequest) -> Query:
        prefix, after = request.prefix, request.after_name
        limit = page_items(request.limit, self._limits)
        bytes_max = self._limits.page_bytes_max

        def query(machine: Machine) -> elections_pb2.ListElectionsResponse:
            elections = machine.modules.elections
            response = elections_pb2.ListElectionsResponse()
            names = elections.names(prefix, after, limit + 1)
            room = bytes_max
            for place, name in enumerate(names):
                if place == limit or room <= 0:
                    response.more = True
                    break
                view = elections.inspect(name)
                assert view is not None, f"election {name} is in the list"
                message = response.elections.add()
                _fill_election(message, view, machine.context.now_ms)
                room -= message.ByteSize()
            return response

        return query

    # --- observing ---------------------------------------------------------------

    def _observe(
        self, request: elections_pb2.ObserveElectionRequest
    ) -> WatchPlan | Refusal:
        name, from_rev = request.name, request.from_rev
        refusal = self._check_name(name)
        if refusal is not None:
            return refusal

        def keep(event: Event) -> bool:
            return type(event) is ElectionEvent and event.name == name

        def snapshot(machine: Machine) -> list[elections_pb2.ElectionEvent]:
            message = elections_pb2.ElectionEvent(revision=machine.revision)
            leader = machine.modules.elections.leader(name)
            if leader is not None:
                _fill_leader(message.leader, leader, machine.context.now_ms)
            return [message]

        spec = WatchSpec(
            keep=keep,
            about=(Subject.ELECTION, name),
            from_rev=from_rev,
            wants_initial=not from_rev,
            snapshot=snapshot,
            prepare=_to_event,
        )
        return WatchPlan(
            spec, ResyncJoiner(elections_pb2.ObserveElectionResponse).to_messages
        )


def _to_event(machine: Machine, event: Event) -> elections_pb2.ElectionEvent:
    assert isinstance(event, ElectionEvent)
    message = elections_pb2.ElectionEvent(revision=event.rev)
    if event.epoch:
        message.leader.epoch = event.epoch
        message.leader.claimant = event.claimant
        message.leader.value = event.value
    return message


# --- responses -------------------------------------------------------------------


def _fill_won(
    response: elections_pb2.CampaignResponse, result: CampaignWon, machine: Machine
) -> None:
    response.epoch = result.epoch


def _fill_withdrawn(
    response: elections_pb2.WithdrawCampaignResponse,
    result: CampaignWithdrawn,
    machine: Machine,
) -> None:
    response.was_waiting = result.was_waiting


def _fill_transferred(
    response: elections_pb2.TransferElectionResponse,
    result: ElectionTransferred,
    machine: Machine,
) -> None:
    response.epoch = result.epoch


def _fill_election(
    message: elections_pb2.Election, view: ElectionView, now_ms: int
) -> None:
    message.name = view.name
    if view.leader is not None:
        _fill_leader(message.leader, view.leader, now_ms)
    for each in view.candidates:
        candidate = message.candidates.add()
        candidate.claimant = each.claimant
        candidate.lease_id = each.lease
        candidate.value = each.value
        candidate.since_ms = max(0, now_ms - each.since_ms)


def _fill_leader(
    message: elections_pb2.Leadership, view: LeaderView, now_ms: int
) -> None:
    message.epoch = view.epoch
    message.claimant = view.claimant
    message.lease_id = view.lease
    message.value = view.value
    message.since_ms = max(0, now_ms - view.since_ms)
