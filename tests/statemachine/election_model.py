"""A naive model of elections; see `claims_model`."""

import dataclasses
from collections.abc import Iterator

from raftd.statemachine.schema.base import Reason
from raftd.statemachine.schema.elections import Campaign
from tests.statemachine.claims_model import LeaseModel, Party, Wait

__all__ = ["ElectionModel", "ModelElection", "Transition"]

Transition = tuple[str, str, bytes]
"""Election, claimant (empty = nobody), value."""


@dataclasses.dataclass
class _Candidate(Wait):
    value: bytes


@dataclasses.dataclass
class ModelElection:
    """One election."""

    leader: Party | None = None
    value: bytes = b""
    epoch: int = 0
    line: list[_Candidate] = dataclasses.field(default_factory=list)
    said: Party | None = None
    """Who led when the last revision ended."""


class ElectionModel(LeaseModel):
    """All elections, on all leases."""

    def __init__(self) -> None:
        super().__init__()
        self.elections: dict[str, ModelElection] = {}
        self.transitions: list[Transition] = []

    def campaign(self, command: Campaign) -> Reason | int | None:
        """Say what comes of a candidacy.

        Returns:
            A reason to refuse; the epoch held already (0: a new one); None to wait.
        """
        if command.lease not in self.leases:
            return Reason.LEASE_EXPIRED
        election = self.elections.setdefault(command.name, ModelElection())
        party = (command.lease, command.claimant)
        if election.leader == party:
            return election.epoch
        if election.leader is None:
            self._seat(command.name, election, party, command.value)
            return 0
        return Reason.LOCK_HELD if command.wait_ms == 0 else None

    def stand(self, command: Campaign, ticket: int) -> None:
        """Take up a candidate with its ticket."""
        deadline_ms = None
        if command.wait_ms is not None:
            deadline_ms = self.now_ms + command.wait_ms
        party = (command.lease, command.claimant)
        self.elections[command.name].line.append(
            _Candidate(ticket, party, deadline_ms, command.value)
        )

    def withdraw(self, name: str, party: Party) -> bool:
        """Take out a candidate, or the leader; tell whether it waited."""
        election = self.elections.get(name, ModelElection())
        waits = [wait for wait in election.line if wait.party == party]
        for wait in waits:
            election.line.remove(wait)
            self.expected[wait.ticket] = Reason.LOCK_HELD
        if election.leader == party:
            election.leader = None
        self.promote_all()
        return bool(waits)

    def judge(self, name: str, epoch: int) -> Reason | None:
        """Say why an epoch is not good for a proclamation or resignation."""
        election = self.elections.get(name)
        if election is None or election.leader is None:
            return Reason.NOT_FOUND
        return None if election.epoch == epoch else Reason.FENCED

    def proclaim(self, name: str, value: bytes) -> None:
        """Change the leader's value."""
        election = self.elections[name]
        assert election.leader is not None
        election.value = value
        self.transitions.append((name, election.leader[1], value))

    def resign(self, name: str) -> None:
        """End the leader."""
        self.elections[name].leader = None
        self.promote_all()

    def transfer(self, name: str, to: str) -> Reason | None:
        """Let a candidate pass, or say why not."""
        election = self.elections.get(name)
        if election is None or election.leader is None:
            return Reason.NOT_FOUND
        if election.leader[1] == to:
            return None
        for wait in election.line:
            if wait.party[1] == to:
                self._elect(name, election, wait.party)
                return None
        return Reason.PRECONDITION

    def timers(self) -> Iterator[tuple[int, int, int, int | str]]:
        """Yield the ends of candidacies."""
        for election in self.elections.values():
            for wait in election.line:
                if wait.deadline_ms is not None:
                    yield wait.deadline_ms, 6, 0, wait.ticket

    def fire(self, kind: int, subject: int | str) -> None:
        """End a candidacy."""
        assert kind == 0
        for election in self.elections.values():
            for wait in list(election.line):
                if wait.ticket == subject:
                    election.line.remove(wait)
                    self.expected[wait.ticket] = Reason.LOCK_HELD

    def drop_claims(self, lease: int, *, is_loss: bool) -> None:
        """Take out the leaders and candidates of a lease."""
        for election in self.elections.values():
            for wait in list(election.line):
                if wait.party[0] == lease:
                    election.line.remove(wait)
                    self.expected[wait.ticket] = Reason.LEASE_EXPIRED
            if election.leader is not None and election.leader[0] == lease:
                election.leader = None

    def promote_all(self) -> None:
        """Let the next candidates win; say where there is none."""
        for name, election in sorted(self.elections.items()):
            if election.leader is None and election.line:
                party = election.line[0].party
                assert party[0] in self.leases
                self._elect(name, election, party)
            elif election.leader is None and election.said is not None:
                self.transitions.append((name, "", b""))
                election.said = None

    def _elect(self, name: str, election: ModelElection, party: Party) -> None:
        waits = [wait for wait in election.line if wait.party == party]
        election.line = [wait for wait in election.line if wait.party != party]
        self.expected.update((wait.ticket, None) for wait in waits)
        self._seat(name, election, party, waits[-1].value)

    def _seat(
        self, name: str, election: ModelElection, party: Party, value: bytes
    ) -> None:
        election.leader = election.said = party
        election.value, election.epoch = value, 0
        self.transitions.append((name, party[1], value))
