"""Drive locks and elections through a real machine, entry by entry.

Every ticket is watched: it is handed out once and decided at most once. ``reload``
replaces the machine by one loaded from its own checkpoints; ``replay`` builds the same
state again from the log alone.
"""

import dataclasses
from collections.abc import Sequence

from raftd.statemachine.answers import Answer, AppliedEntry, Pending
from raftd.statemachine.events import ElectionEvent, Event
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import Row
from raftd.statemachine.schema.base import Fence, Reason, Refusal, Result
from raftd.statemachine.schema.elections import Campaign, CampaignWon
from raftd.statemachine.schema.entry import AnyCommand, MarkEntry, encode_batch, seal
from raftd.statemachine.schema.leases import GrantLease, LeaseGranted, RevokeLease
from raftd.statemachine.schema.locks import AcquireLock, LockGranted, LockMode
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened

__all__ = ["MARK", "Bench", "merged", "refusal_of", "small_limits"]

TTL_MS = 86_400_000
MARK = MarkEntry(0, b"", 0)


def small_limits(**changes: int) -> Limits:
    """Return the default limits with some changes."""
    return dataclasses.replace(DEFAULT_LIMITS, **changes)


def refusal_of(answer: object, reason: Reason) -> Refusal:
    """Return the answer, which must be a refusal for this reason, in a sentence."""
    assert isinstance(answer, Refusal), answer
    assert answer.reason is reason, answer
    assert answer.sentence
    assert not answer.sentence.endswith(".")
    return answer


def merged(rows: Sequence[Row]) -> dict[tuple[int, bytes], bytes]:
    """Return what a series of checkpoints says in the end."""
    newest: dict[tuple[int, bytes], bytes] = {}
    for table, key, value in rows:
        if value is None:
            newest.pop((table, key), None)
        else:
            newest[table, key] = value
    return newest


class Bench:
    """A machine and all that was said to it and by it."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.machine = Machine(limits)
        self.now_ms = 1000
        self.payloads: list[bytes] = []
        self.rows: list[Row] = []
        self.open: set[int] = set()
        """Tickets not decided yet."""
        self.decided: dict[int, Result | Refusal] = {}
        self.events: list[Event] = []

    # --- the log -----------------------------------------------------------------

    def apply(
        self,
        *commands: AnyCommand,
        fences: tuple[Fence, ...] = (),
        renewals: tuple[int, ...] = (),
    ) -> AppliedEntry:
        """Apply one entry with these commands."""
        requests = [seal(0, 0, 0, command, fences) for command in commands]
        payload = encode_batch(self.now_ms, 0, renewals, requests)
        self.payloads.append(payload)
        applied = self.machine.apply(len(self.payloads), payload)
        for answer in applied.answers:
            if isinstance(answer, Pending):
                assert answer.ticket not in self.open | self.decided.keys()
                self.open.add(answer.ticket)
        for decision in applied.decided:
            self.open.remove(decision.ticket)
            self.decided[decision.ticket] = decision.answer
        if applied.record is not None:
            self.events += applied.record.events
        return applied

    def ask(self, command: AnyCommand, fences: tuple[Fence, ...] = ()) -> Answer:
        """Apply one command and return its answer."""
        return self.apply(command, fences=fences).answers[0]

    def pass_ms(self, span_ms: int) -> AppliedEntry:
        """Let time pass on the lease clock, with an empty entry at its end."""
        self.now_ms += span_ms
        return self.apply()

    def checkpoint(self) -> None:
        """Mark, and take the rows of the checkpoint."""
        self.apply(MARK)
        self.rows += self.machine.take_checkpoint().rows()
        self.machine.checkpoint_written()

    def reload(self) -> None:
        """Go on with a machine that is loaded from the checkpoints."""
        self.checkpoint()
        digest = self.machine.digest
        self.machine = Machine.load(
            self.limits, self.rows, index=len(self.payloads), digest=digest
        )

    def replay(self) -> Machine:
        """Apply the whole log again, without loading; the rows must be equal."""
        machine, rows = Machine(self.limits), list[Row]()
        for index, payload in enumerate(self.payloads, 1):
            if machine.apply(index, payload).mark is not None:
                rows += machine.take_checkpoint().rows()
                machine.checkpoint_written()
        assert merged(rows) == merged(self.rows)
        assert machine.digest == self.machine.digest
        return machine

    # --- words -------------------------------------------------------------------

    def lease(self, ttl_ms: int = TTL_MS) -> int:
        """Grant a lease."""
        answer = self.ask(GrantLease(ttl_ms, "somebody"))
        assert isinstance(answer, LeaseGranted)
        return answer.lease

    def session(self, key_hash: bytes = bytes(16), ttl_ms: int = TTL_MS) -> int:
        """Open a session."""
        answer = self.ask(OpenSession(key_hash, ttl_ms, "somebody"))
        assert isinstance(answer, SessionOpened)
        return answer.session

    def revoke(self, lease: int) -> None:
        """Revoke a lease."""
        assert not isinstance(self.ask(RevokeLease(lease)), Refusal)

    def acquire(
        self,
        lease: int,
        claimant: str,
        mode: LockMode = LockMode.EXCLUSIVE,
        limit: int = 1,
        *,
        name: str = "lock",
        wait_ms: int | None = None,
        delay_ms: int = 0,
    ) -> Answer:
        """Ask for a lock, waiting for ever unless told otherwise."""
        return self.ask(
            AcquireLock(name, lease, claimant, mode, limit, wait_ms, delay_ms)
        )

    def hold(
        self,
        lease: int,
        claimant: str,
        mode: LockMode = LockMode.EXCLUSIVE,
        limit: int = 1,
        *,
        name: str = "lock",
        delay_ms: int = 0,
    ) -> int:
        """Acquire a lock that is free, and return the token."""
        answer = self.acquire(
            lease, claimant, mode, limit, name=name, wait_ms=0, delay_ms=delay_ms
        )
        assert isinstance(answer, LockGranted), answer
        return answer.token

    def wait(
        self,
        lease: int,
        claimant: str,
        mode: LockMode = LockMode.EXCLUSIVE,
        limit: int = 1,
        *,
        name: str = "lock",
        wait_ms: int | None = None,
    ) -> int:
        """Queue for a lock that is taken, and return the ticket."""
        answer = self.acquire(lease, claimant, mode, limit, name=name, wait_ms=wait_ms)
        assert isinstance(answer, Pending), answer
        return answer.ticket

    def token_of(self, ticket: int) -> int:
        """Return the token or epoch with which a wait ended."""
        answer = self.decided[ticket]
        if isinstance(answer, CampaignWon):
            return answer.epoch
        assert isinstance(answer, LockGranted), answer
        return answer.token

    def holders(self, name: str = "lock") -> list[str]:
        """Return the claimants that hold a lock."""
        view = self.machine.locks.inspect(name)
        return [] if view is None else [party.claimant for party in view.holders]

    def waiters(self, name: str = "lock") -> list[str]:
        """Return the claimants that wait for a lock, in their order."""
        view = self.machine.locks.inspect(name)
        return [] if view is None else [party.claimant for party in view.waiters]

    def leader(self) -> str:
        """Return the claimant that leads, empty for nobody."""
        found = self.machine.elections.leader("election")
        return "" if found is None else found.claimant

    def transitions(self) -> list[tuple[str, bytes, int]]:
        """Return claimant, value and epoch of every event; all are of elections."""
        events = [event for event in self.events if isinstance(event, ElectionEvent)]
        assert len(events) == len(self.events)
        revs = [event.rev for event in events]
        assert revs == sorted(revs)
        return [(event.claimant, event.value, event.epoch) for event in events]

    def campaign(
        self,
        lease: int,
        claimant: str,
        value: bytes = b"",
        *,
        name: str = "election",
        wait_ms: int | None = None,
    ) -> Answer:
        """Stand for an election, waiting for ever unless told otherwise."""
        return self.ask(Campaign(name, lease, claimant, value, wait_ms))

    def win(self, lease: int, claimant: str, value: bytes = b"") -> int:
        """Win an election that nobody leads, and return the epoch."""
        answer = self.campaign(lease, claimant, value, wait_ms=0)
        assert isinstance(answer, CampaignWon), answer
        return answer.epoch

    def stand(
        self,
        lease: int,
        claimant: str,
        value: bytes = b"",
        *,
        wait_ms: int | None = None,
    ) -> int:
        """Stand for an election that is led, and return the ticket."""
        answer = self.campaign(lease, claimant, value, wait_ms=wait_ms)
        assert isinstance(answer, Pending), answer
        return answer.ticket
