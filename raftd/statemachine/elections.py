"""Elections: candidates in line, one leader of a name, every transition an event.

Rules:
* Candidates win in the order in which they came; only a transfer lets one pass.
* Each win draws an epoch from the revision line: a fencing token like a lock's.
* The history tells what an election is at the end of each revision: another leader,
  another value, or nobody. Leadership that changes hands within one revision tells of
  the new leader alone.
* The end of a lease takes its candidacies out before anybody wins.

Source: SEMANTICS.md section 5.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from raftd.statemachine import election_checks, refusals
from raftd.statemachine.answers import Answer, Pending
from raftd.statemachine.claim_checks import (
    cancelled,
    check_claim,
    check_growth,
    lease_ended_waiting,
)
from raftd.statemachine.context import Context
from raftd.statemachine.election_state import (
    Candidate,
    Election,
    ElectionView,
    LeaderView,
    view_of,
)
from raftd.statemachine.election_table import ElectionTable
from raftd.statemachine.loading import in_steps
from raftd.statemachine.module import EndReason, Handlers, LeaseKeeper, Module
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWithdrawn,
    CampaignWon,
    ElectionTransferred,
    Proclaim,
    Proclaimed,
    Resign,
    Resigned,
    TransferElection,
    WithdrawCampaign,
)
from raftd.statemachine.tables import Rank, RowKey, Table
from raftd.statemachine.timers import TimerId
from raftd.statemachine.waiters import (
    WAIT_TIMER,
    Backlog,
    Waiting,
    number_of,
)

__all__ = ["Elections"]


class Elections(Module):
    """All elections that somebody leads or wants to lead."""

    rank = Rank.ELECTIONS
    tables = (Table.ELECTIONS, Table.CANDIDATES)

    def __init__(self, context: Context, leases: LeaseKeeper) -> None:
        super().__init__(context)
        self._leases: Final = leases
        self._table: Final = ElectionTable(context, leases)
        self._waiting: Final = Waiting(
            context, leases, self.rank, Table.CANDIDATES, Candidate
        )
        self._backlog: Final = Backlog(context)

    def handlers(self) -> Handlers:
        """Return who handles which command type."""
        return {
            Campaign: self._campaign,
            WithdrawCampaign: self._withdraw,
            Proclaim: self._proclaim,
            Resign: self._resign,
            TransferElection: self._transfer,
        }

    # --- reads -----------------------------------------------------------------

    def holds(self, name: str, token: int) -> bool:
        """Tell whether this epoch is current."""
        election = self._table.find(name)
        return election is not None and election.epoch == token != 0

    def current_token(self, name: str) -> int:
        """Return the current epoch, 0 if nobody leads."""
        election = self._table.find(name)
        return 0 if election is None else election.epoch

    def leader(self, name: str) -> LeaderView | None:
        """Describe who leads; None if nobody does."""
        election = self._table.find(name)
        return None if election is None else election.view()

    def inspect(self, name: str) -> ElectionView | None:
        """Describe an election; None if nobody leads or waits."""
        election = self._table.find(name)
        if election is None:
            return None
        return view_of(election, [each for _, each in self._waiting.line(name)])

    def name_of(self, claim: int) -> str | None:
        """Return the name that a epoch or a ticket is about, None if over."""
        if claim in self._waiting:
            return self._waiting[claim].name
        return self._table.name_of(claim)

    def names(self, prefix: str = "", after: str = "", limit: int = 1000) -> list[str]:
        """Return names of elections above ``after``, rising, at most ``limit``."""
        return self._table.names(prefix, after, limit)

    # --- commands --------------------------------------------------------------

    def _campaign(self, command: Campaign) -> Answer:
        refusal = election_checks.check_campaign(self.context.limits, command)
        refusal = refusal or self._leases.require(command.lease)
        if refusal is not None:
            return refusal
        candidate = self._candidate_of(command)
        election = self._table.find(command.name)
        if election is None:
            return self._win_at_once(self._table.create(command.name), candidate)
        if election.is_led_by(command.lease, command.claimant):
            return CampaignWon(election.epoch)
        if command.wait_ms == 0:
            return election_checks.led(election)
        ticket = self._waiting.join(candidate)
        return ticket if isinstance(ticket, Refusal) else Pending(ticket)

    def _candidate_of(self, command: Campaign) -> Candidate:
        now_ms, wait_ms = self.context.now_ms, command.wait_ms
        return Candidate(
            command.name,
            command.lease,
            command.claimant,
            now_ms,
            None if wait_ms is None else now_ms + wait_ms,
            command.value,
        )

    def _win_at_once(self, election: Election, candidate: Candidate) -> Answer:
        refusal = check_growth(self.context, candidate.size_bytes)
        if refusal is not None:
            return refusal
        epoch = self._table.win(election, candidate)
        return epoch if isinstance(epoch, Refusal) else CampaignWon(epoch)

    def _withdraw(self, command: WithdrawCampaign) -> Answer:
        name, lease, claimant = command.name, command.lease, command.claimant
        refusal = check_claim(self.context.limits, "election", name, claimant, None)
        if refusal is not None:
            return refusal
        tickets = self._waiting.tickets(name, lease, claimant)
        for ticket in tickets:
            self._leave(ticket, cancelled(f'election "{name}"'))
        election = self._table.find(name)
        if election is not None and election.is_led_by(lease, claimant):
            self._unseat(election)
        return CampaignWithdrawn(was_waiting=bool(tickets))

    def _proclaim(self, command: Proclaim) -> Proclaimed | Refusal:
        election = self._find(command.name)
        if isinstance(election, Refusal):
            return election
        context = self.context
        refusal = (
            election_checks.check_epoch(election, command.epoch)
            or election_checks.check_value(context.limits, command.value)
            or check_growth(context, election.growth_bytes(command.value))
        )
        if refusal is not None:
            return refusal
        self._table.set_value(election, command.value)
        return Proclaimed()

    def _resign(self, command: Resign) -> Resigned | Refusal:
        election = self._find(command.name)
        if isinstance(election, Refusal):
            return election
        refusal = election_checks.check_epoch(election, command.epoch)
        if refusal is not None:
            return refusal
        self._unseat(election)
        return Resigned()

    def _transfer(self, command: TransferElection) -> Answer:
        name, claimant = command.name, command.to
        election = self._find(name)
        if isinstance(election, Refusal):
            return election
        leader = election.leader
        if leader is not None and leader.claimant == claimant:
            return ElectionTransferred(election.epoch)
        line = self._waiting.line(name)
        ticket = next((at for at, each in line if each.claimant == claimant), None)
        if ticket is None:
            return election_checks.no_candidate(name, claimant)
        if leader is not None:
            self._table.unseat(election)
        self._let_in(election, ticket)
        self.context.promote_later(self.rank, name)
        return ElectionTransferred(election.epoch)

    def _find(self, name: str) -> Election | Refusal:
        limit = self.context.limits.name_bytes_max
        refusal = refusals.check_name("election", name, limit)
        return refusal or self._table.find(name) or election_checks.unknown(name)

    # --- changes ---------------------------------------------------------------

    def _unseat(self, election: Election) -> None:
        self._table.unseat(election)
        self.context.promote_later(self.rank, election.name)

    def _leave(self, ticket: int, refusal: Refusal) -> None:
        candidate = self._waiting.leave(ticket)
        self.context.decide(ticket, refusal)
        self.context.promote_later(self.rank, candidate.name)

    def _let_in(self, election: Election, ticket: int) -> int:
        tickets, candidate = self._waiting.leave_all(ticket)
        epoch = self._table.win(election, candidate)
        assert not isinstance(epoch, Refusal), "the tickets left room on the lease"
        for each in tickets:
            self.context.decide(each, CampaignWon(epoch))
        return len(tickets)

    def lease_ended(
        self, lease: int, keys: Sequence[RowKey], reason: EndReason
    ) -> None:
        """Take the leaders and candidates of a lease out of their elections."""
        for key in keys:
            number = number_of(key)
            if number in self._waiting:
                name = self._waiting[number].name
                self._leave(number, lease_ended_waiting(lease, f'election "{name}"'))
            else:
                self._unseat(self._table.led_with(number))

    def promote(self, key: RowKey) -> None:
        """Let the next candidate win, if the command's budget allows it."""
        assert isinstance(key, str)
        self._backlog.spend(self._promote(key, self._backlog.room()))

    def _promote(self, name: str, room: int) -> int:
        election = self._table.find(name)
        if election is None:
            return 0
        promoted = 0
        ticket = self._due(election)
        if ticket is not None and room > 0:
            promoted = self._let_in(election, ticket)
        self._backlog.note(name, is_due=self._due(election) is not None)
        if election.epoch == 0 != election.announced_epoch:
            self._table.announce(election)
        if election.leader is None and self._waiting.first(name) is None:
            self._table.forget(election)
        return promoted

    def _due(self, election: Election) -> int | None:
        """Return the first ticket, if nobody leads."""
        return self._waiting.first(election.name) if election.leader is None else None

    # --- timers, tasks, rows ---------------------------------------------------

    def timer_deadline(self, timer: TimerId) -> int | None:
        """Return when a candidate stops waiting."""
        assert timer[0] == WAIT_TIMER
        return self._waiting.deadline_ms(number_of(timer))

    def fire(self, timer: TimerId) -> int:
        """End a candidate's wait."""
        ticket = number_of(timer)
        election = self._table.find(self._waiting[ticket].name)
        assert election is not None, "somebody stands in it"
        self._leave(ticket, election_checks.led(election))
        return 1

    def has_tasks(self) -> bool:
        """Tell whether promotions are left over."""
        return bool(self._backlog)

    def run_tasks(self, rows_max: int) -> int:
        """Let candidates win from the backlog."""
        return self._backlog.work(rows_max, self._promote)

    def encode_row(self, table: int, key: RowKey) -> bytes | None:
        """Encode an election with its leader, or a candidate."""
        if table == Table.CANDIDATES:
            return self._waiting.encode(number_of(key))
        return self._table.encode(str(key))

    def load_row(self, table: int, key: RowKey, value: bytes) -> None:
        """Take up an election with its leader, or a candidate."""
        if table == Table.CANDIDATES:
            self._waiting.load(number_of(key), value)
        else:
            self._table.load(str(key), value)

    def loaded(self) -> Iterator[None]:
        """Attach claims, arm timers, find out who is due."""
        yield from self._table.loaded()
        yield from self._waiting.loaded()
        yield from in_steps(self._waiting.names(), self._find_due)

    def _find_due(self, name: str) -> None:
        election = self._table.find(name)
        assert election is not None, f"somebody stands in {name}"
        self._backlog.load(name, is_due=self._due(election) is not None)
