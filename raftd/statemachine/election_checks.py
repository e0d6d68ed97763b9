"""What an election refuses, and the sentences for it.

Source: ERRORS.md; SEMANTICS.md section 5.
"""

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_claim
from raftd.statemachine.election_state import Election
from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.elections import Campaign

__all__ = [
    "check_campaign",
    "check_epoch",
    "check_value",
    "led",
    "no_candidate",
    "unknown",
]


def check_campaign(limits: Limits, command: Campaign) -> Refusal | None:
    """Refuse a malformed candidacy."""
    return check_claim(
        limits, "election", command.name, command.claimant, command.wait_ms
    ) or check_value(limits, command.value)


def check_value(limits: Limits, value: bytes) -> Refusal | None:
    """Refuse a value over its limit."""
    limit = limits.value_bytes_max
    if len(value) <= limit:
        return None
    return refusals.too_large("the value", len(value), "value_bytes_max", limit)


def check_epoch(election: Election, epoch: int) -> Refusal | None:
    """Refuse an epoch that is not the leader's."""
    current = election.epoch
    if current == 0:
        return Refusal(
            Reason.NOT_HOLDER,
            f'nobody leads election "{election.name}"',
            {"token": str(epoch), "current": "0"},
        )
    if epoch != current:
        return refusals.fenced(f'election "{election.name}"', epoch, current)
    return None


def led(election: Election) -> Refusal:
    """Say who is in the way when a try or a wait is over."""
    leader = election.leader
    if leader is None:
        holder = ""
        sentence = f'others stand in election "{election.name}"'
    else:
        holder = leader.claimant
        sentence = (
            f'election "{election.name}" is led by {holder} (epoch {election.epoch})'
        )
    return Refusal(
        Reason.LOCK_HELD, sentence, {"holder": holder, "token": str(election.epoch)}
    )


def no_candidate(name: str, claimant: str) -> Refusal:
    """Refuse to hand leadership to somebody that does not wait for it."""
    return Refusal(
        Reason.PRECONDITION,
        f'{claimant} does not wait in election "{name}"',
        {"claimant": claimant},
    )


def unknown(name: str) -> Refusal:
    """Refuse to speak of an election that is not remembered."""
    return Refusal(Reason.NOT_FOUND, f'nobody leads or stands in election "{name}"')
