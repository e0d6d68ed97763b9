"""One election as the state has it: who leads, with which value and epoch.

Source: SEMANTICS.md section 5.
"""

from typing import Final, Self

import msgspec

from raftd.statemachine.waiters import Waiter

__all__ = [
    "Candidate",
    "CandidateView",
    "Election",
    "ElectionView",
    "LeaderView",
    "view_of",
]


class Candidate(Waiter, frozen=True):
    """Somebody that waits to lead, or leads."""

    value: bytes

    @property
    def size_bytes(self) -> int:
        """What it counts against ``state_bytes_max``."""
        return super().size_bytes + len(self.value)

    def with_value(self, value: bytes) -> Self:
        """Return the same candidate with another value."""
        return msgspec.structs.replace(self, value=value)


class LeaderView(msgspec.Struct, frozen=True, gc=False):
    """The leader of an election as a reader sees it.

    Attributes:
        since_ms: Instant on the lease clock.
    """

    epoch: int
    claimant: str
    lease: int
    value: bytes
    since_ms: int


class CandidateView(msgspec.Struct, frozen=True, gc=False):
    """A candidate that waits, as a reader sees it.

    Attributes:
        since_ms: Instant on the lease clock.
    """

    claimant: str
    lease: int
    value: bytes
    since_ms: int


class ElectionView(msgspec.Struct, frozen=True, gc=False):
    """An election as a reader sees it; the candidates are in their order."""

    name: str
    leader: LeaderView | None
    candidates: tuple[CandidateView, ...]


_Stored = tuple[int, Candidate | None]
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Stored).decode


class Election:
    """An election that somebody leads or wants to lead."""

    __slots__ = ("announced_epoch", "epoch", "leader", "name")

    def __init__(self, name: str, epoch: int, leader: Candidate | None) -> None:
        self.name = name
        self.epoch = epoch
        """The leader's; 0 = nobody leads."""
        self.leader = leader
        self.announced_epoch = epoch
        """What the history said last: differs from ``epoch`` within a command only."""

    def is_led_by(self, lease: int, claimant: str) -> bool:
        """Tell whether this claimant leads."""
        leader = self.leader
        return (
            leader is not None and leader.lease == lease and leader.claimant == claimant
        )

    def growth_bytes(self, value: bytes) -> int:
        """Return how much the state grows if the leader takes another value."""
        return 0 if self.leader is None else len(value) - len(self.leader.value)

    def view(self) -> LeaderView | None:
        """Describe who leads."""
        leader = self.leader
        if leader is None:
            return None
        return LeaderView(
            self.epoch, leader.claimant, leader.lease, leader.value, leader.since_ms
        )

    def encode(self) -> bytes:
        """Encode the election with its leader."""
        return _encode((self.epoch, self.leader))

    @classmethod
    def decode(cls, name: str, value: bytes) -> Self:
        """Decode what ``encode`` made."""
        return cls(name, *_decode(value))


def view_of(election: Election, candidates: list[Candidate]) -> ElectionView:
    """Describe an election and its line."""
    return ElectionView(
        election.name,
        election.view(),
        tuple(
            CandidateView(each.claimant, each.lease, each.value, each.since_ms)
            for each in candidates
        ),
    )
