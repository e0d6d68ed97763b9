"""All elections and who leads them: wins, ends, values, their events, rows.

It knows nothing of candidates in line; every change goes through the undo journal.

Source: SEMANTICS.md section 5.
"""

from collections.abc import Iterator
from typing import Final

from sortedcontainers import SortedDict

from raftd.statemachine.context import Context
from raftd.statemachine.election_state import Candidate, Election
from raftd.statemachine.events import ElectionEvent
from raftd.statemachine.loading import in_steps
from raftd.statemachine.module import LeaseKeeper
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.tables import Rank, Table
from raftd.statemachine.waiters import names_of

__all__ = ["ElectionTable"]

_ELECTION_BYTES: Final = 400
_EVENT_BYTES: Final = 100

_RANK: Final = int(Rank.ELECTIONS)


class ElectionTable:
    """Elections that somebody leads or wants to lead."""

    def __init__(self, context: Context, leases: LeaseKeeper) -> None:
        self._context: Final = context
        self._leases: Final = leases
        self._elections: Final = SortedDict()
        self._names: dict[int, str] = {}
        """Which election a live epoch is of."""

    # --- reads -----------------------------------------------------------------

    def find(self, name: str) -> Election | None:
        """Return an election, None if nobody leads or waits."""
        found: Election | None = self._elections.get(name)
        return found

    def led_with(self, epoch: int) -> Election:
        """Return the election of a live epoch."""
        found: Election = self._elections[self._names[epoch]]
        return found

    def name_of(self, epoch: int) -> str | None:
        """Return which election a live epoch is of."""
        return self._names.get(epoch)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        """Return names of elections above ``after``, rising, at most ``limit``."""
        return names_of(self._elections, prefix, after, limit)

    # --- changes ---------------------------------------------------------------

    def create(self, name: str) -> Election:
        """Begin to remember an election."""
        context = self._context
        context.rev()
        context.mark(Table.ELECTIONS, name)
        context.journal.item(self._elections, name)
        election = self._elections[name] = Election(name, 0, None)
        context.size_bytes += _ELECTION_BYTES + len(name)
        return election

    def forget(self, election: Election) -> None:
        """Stop remembering an election that nobody leads or stands in."""
        context = self._context
        assert election.leader is None, "an election that is led is not forgotten"
        context.rev()
        context.mark(Table.ELECTIONS, election.name)
        context.journal.item(self._elections, election.name)
        del self._elections[election.name]
        context.size_bytes -= _ELECTION_BYTES + len(election.name)

    def win(self, election: Election, candidate: Candidate) -> int | Refusal:
        """Make a candidate the leader and return the epoch.

        Refused only where the candidate's lease has too many attachments.
        """
        context = self._context
        epoch = context.mint()
        refusal = self._leases.attach(candidate.lease, _RANK, epoch)
        if refusal is not None:
            return refusal
        leader = candidate.holding_since(context.now_ms)
        self._set_leader(election, leader, epoch)
        context.journal.item(self._names, epoch)
        self._names[epoch] = election.name
        context.size_bytes += leader.size_bytes
        self.announce(election)
        return epoch

    def unseat(self, election: Election) -> None:
        """End a leadership; that nobody leads is announced if it stays so."""
        context = self._context
        leader, epoch = election.leader, election.epoch
        assert leader is not None, "nobody to unseat"
        context.rev()
        context.journal.item(self._names, epoch)
        del self._names[epoch]
        self._set_leader(election, None, 0)
        context.size_bytes -= leader.size_bytes
        self._leases.detach(leader.lease, _RANK, epoch)

    def set_value(self, election: Election, value: bytes) -> None:
        """Give the leader another value."""
        leader = election.leader
        assert leader is not None, "nobody has a value"
        self._context.rev()
        self._set_leader(election, leader.with_value(value), election.epoch)
        self._context.size_bytes += len(value) - len(leader.value)
        self.announce(election)

    def announce(self, election: Election) -> None:
        """Tell the history who leads now, with which value."""
        context = self._context
        leader = election.leader
        claimant = "" if leader is None else leader.claimant
        value = b"" if leader is None else leader.value
        context.journal.attribute(election, "announced_epoch")
        election.announced_epoch = election.epoch
        context.emit(
            ElectionEvent(
                context.rev(), election.name, claimant, value, election.epoch
            ),
            _EVENT_BYTES + len(election.name) + len(claimant) + len(value),
        )

    def _set_leader(
        self, election: Election, leader: Candidate | None, epoch: int
    ) -> None:
        context = self._context
        context.mark(Table.ELECTIONS, election.name)
        context.journal.attribute(election, "leader")
        context.journal.attribute(election, "epoch")
        election.leader, election.epoch = leader, epoch

    # --- rows ------------------------------------------------------------------

    def encode(self, name: str) -> bytes | None:
        """Encode an election's row."""
        election = self.find(name)
        return None if election is None else election.encode()

    def load(self, name: str, value: bytes) -> None:
        """Take up an election's row."""
        election = self._elections[name] = Election.decode(name, value)
        if election.leader is not None:
            self._names[election.epoch] = name

    def loaded(self) -> Iterator[None]:
        """Attach the loaded leaders to their leases."""
        return in_steps(self._elections.values(), self._reattach)

    def _reattach(self, election: Election) -> None:
        leader = election.leader
        if leader is not None:
            self._leases.reattach(leader.lease, _RANK, election.epoch)
