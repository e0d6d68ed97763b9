"""Elections in the log: campaign, withdraw, proclaim, resign, transfer.

Source: SEMANTICS.md section 5.
"""

from __future__ import annotations

from raftd.statemachine.schema.base import Command, Result

__all__ = [
    "Campaign",
    "CampaignWithdrawn",
    "CampaignWon",
    "ElectionTransferred",
    "Proclaim",
    "Proclaimed",
    "Resign",
    "Resigned",
    "TransferElection",
    "WithdrawCampaign",
]


class Campaign(Command, frozen=True, tag=60):
    """Stand for an election; first come, first served.

    Attributes:
        name: 1 to 256 bytes.
        lease: Lease or session that pays for the candidacy.
        claimant: Fresh for each election object; equal claimants re-enter.
        value: What observers see of the winner, up to 1 MiB.
        wait_ms: 0 = try, None = for ever.
    """

    name: str
    lease: int
    claimant: str
    value: bytes
    wait_ms: int | None = None


class CampaignWon(Result, frozen=True, tag=60):
    """The epoch: a fencing token."""

    epoch: int


class WithdrawCampaign(Command, frozen=True, tag=61):
    """Stop standing (or give back a win that raced it)."""

    name: str
    lease: int
    claimant: str


class CampaignWithdrawn(Result, frozen=True, tag=61):
    """Whether a candidate was removed."""

    was_waiting: bool


class Proclaim(Command, frozen=True, tag=62):
    """Change the value that observers see; the epoch must be current."""

    name: str
    epoch: int
    value: bytes


class Proclaimed(Result, frozen=True, tag=62):
    """Done."""


class Resign(Command, frozen=True, tag=63):
    """Give up leadership; the epoch must be current."""

    name: str
    epoch: int


class Resigned(Result, frozen=True, tag=63):
    """Done."""


class TransferElection(Command, frozen=True, tag=64):
    """Hand leadership to the waiting candidate whose claimant is ``to``."""

    name: str
    to: str


class ElectionTransferred(Result, frozen=True, tag=64):
    """The new leader's epoch."""

    epoch: int
