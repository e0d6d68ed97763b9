"""What locks and elections refuse alike, in the same words.

Source: ERRORS.md; SEMANTICS.md sections 0, 4 and 5.
"""

from raftd.statemachine import refusals
from raftd.statemachine.context import Context
from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Reason, Refusal

__all__ = [
    "cancelled",
    "check_claim",
    "check_growth",
    "check_range",
    "lease_ended_waiting",
]


def check_claim(
    limits: Limits, what: str, name: str, claimant: str, wait_ms: int | None
) -> Refusal | None:
    """Refuse a malformed claim: its name, its claimant, or how long it waits."""
    refusal = refusals.check_name(what, name, limits.name_bytes_max)
    if refusal is not None:
        return refusal
    if not claimant:
        # Claims of nobody in particular would all re-enter each other.
        return Refusal(Reason.INVALID_REQUEST, "the claimant is empty")
    refusal = refusals.check_text(
        "the claimant", claimant, "claimant_bytes_max", limits.claimant_bytes_max
    )
    if refusal is not None or wait_ms is None:
        return refusal
    return check_range("wait_ms", wait_ms, 0, limits.wait_ms_max)


def check_range(what: str, number: int, least: int, most: int) -> Refusal | None:
    """Refuse a number that is not within ``least`` to ``most``."""
    if least <= number <= most:
        return None
    return Refusal(
        Reason.INVALID_REQUEST,
        f"{what} is {number}, not within {least} to {most}",
        {"limit": str(most), "size": str(number)},
    )


def check_growth(context: Context, growth_bytes: int) -> Refusal | None:
    """Refuse what the state has no room for."""
    if context.may_grow(growth_bytes):
        return None
    return refusals.quota_reached(
        context.size_bytes + growth_bytes, context.limits.state_bytes_max
    )


def cancelled(what: str) -> Refusal:
    """End a wait because its claimant took it back."""
    return Refusal(
        Reason.LOCK_HELD,
        f"the wait for {what} was cancelled",
        {"cause": "cancelled"},
    )


def lease_ended_waiting(lease: int, what: str) -> Refusal:
    """End a wait because the lease that paid for it ended."""
    return Refusal(
        Reason.LEASE_EXPIRED,
        f"lease {lease} ended while it waited for {what}",
        {"lease": str(lease)},
    )
