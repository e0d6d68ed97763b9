"""A naive model of claims on leases: plain lists, searched from the front each time.

It says what must come out, in the simplest way; it does not say with which numbers:
tickets and tokens are told to it as the machine draws them.
"""

import dataclasses
from collections.abc import Iterator

from raftd.statemachine.schema.base import Reason

__all__ = ["Expected", "LeaseModel", "Party", "Wait"]

Party = tuple[int, str]
"""Lease and claimant."""

Expected = dict[int, Reason | None]
"""Ticket -> why its wait ends; None = with the claim."""

_Timer = tuple[int, int, int, int | str]
"""Deadline, rank, kind, what it is about."""


@dataclasses.dataclass
class Wait:
    """Somebody in a line."""

    ticket: int
    party: Party
    deadline_ms: int | None


class LeaseModel:
    """Leases, time, and the order in which things fall due."""

    def __init__(self) -> None:
        self.now_ms = 1000
        self.leases: dict[int, tuple[int, int]] = {}
        """Lease -> ttl and deadline."""
        self.expected: Expected = {}
        """Decisions that the running entry must bring."""

    def grant(self, lease: int, ttl_ms: int) -> None:
        """Begin a lease."""
        self.leases[lease] = ttl_ms, self.now_ms + ttl_ms

    def renew(self, lease: int) -> None:
        """Renew a lease, if it is alive."""
        if lease in self.leases:
            ttl_ms, _ = self.leases[lease]
            self.leases[lease] = ttl_ms, self.now_ms + ttl_ms

    def end_lease(self, lease: int, *, is_loss: bool = True) -> None:
        """End a lease and its claims, then promote."""
        del self.leases[lease]
        self.drop_claims(lease, is_loss=is_loss)
        self.promote_all()

    def fire_due(self) -> None:
        """Do what is due, in order."""
        while True:
            timers: list[_Timer] = [
                (deadline_ms, 2, 0, lease)
                for lease, (_, deadline_ms) in self.leases.items()
            ]
            timers += self.timers()
            due = [timer for timer in timers if timer[0] <= self.now_ms]
            if not due:
                return
            _, rank, kind, subject = min(due)
            if rank == 2:
                assert isinstance(subject, int)
                self.end_lease(subject)
            else:
                self.fire(kind, subject)
                self.promote_all()

    def take_expected(self) -> Expected:
        """Return which decisions the entry must bring."""
        expected, self.expected = self.expected, {}
        return expected

    def timers(self) -> Iterator[_Timer]:
        """Yield the timers of the claims."""
        raise NotImplementedError

    def fire(self, kind: int, subject: int | str) -> None:
        """Do what a timer says."""
        raise NotImplementedError

    def drop_claims(self, lease: int, *, is_loss: bool) -> None:
        """Take out all claims of a lease."""
        raise NotImplementedError

    def promote_all(self) -> None:
        """Let in whoever may come in."""
        raise NotImplementedError
