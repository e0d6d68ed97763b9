"""What a lock refuses, and the sentences for it.

Source: ERRORS.md; SEMANTICS.md section 4.
"""

from typing import Final

from raftd.statemachine import refusals
from raftd.statemachine.claim_checks import check_claim, check_range
from raftd.statemachine.limits import Limits
from raftd.statemachine.lock_state import Lock, LockClaim
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.locks import AcquireLock, LockMode

__all__ = [
    "check_acquire",
    "check_same_mode",
    "check_use",
    "held",
    "not_current",
    "unknown",
]


_SEMAPHORE: Final = LockMode.SEMAPHORE  # an enum's member costs a look-up each time


def check_acquire(limits: Limits, command: AcquireLock) -> Refusal | None:
    """Refuse a malformed request for a lock."""
    refusal = check_claim(
        limits, "lock", command.name, command.claimant, command.wait_ms
    )
    if refusal is None and command.delay_ms:
        refusal = check_range("delay_ms", command.delay_ms, 0, limits.lock_delay_ms_max)
    if refusal is not None or command.mode is not _SEMAPHORE:
        return refusal
    return check_range("the limit of a semaphore", command.limit, 1, limits.holders_max)


def check_use(user: LockClaim | None, claim: LockClaim) -> Refusal | None:
    """Refuse to mix semaphores of other limits, or other locks, with the users."""
    # What is no semaphore has limit 0, shared or exclusive.
    if user is None or user.limit == claim.limit:
        return None
    return Refusal(
        Reason.PRECONDITION,
        f'lock "{claim.name}" is in use as {_kind(user)}, not as {_kind(claim)}',
        {"mode": user.mode.name.lower(), "limit": str(user.limit)},
    )


def check_same_mode(mine: LockClaim, claim: LockClaim) -> Refusal | None:
    """Refuse to turn a claim that stands already into one of another mode."""
    if mine.mode is claim.mode and mine.limit == claim.limit:
        return None
    return Refusal(
        Reason.PRECONDITION,
        f'{claim.claimant} has a claim on lock "{claim.name}" as {_kind(mine)}'
        f" already, not as {_kind(claim)}",
        {"mode": mine.mode.name.lower(), "limit": str(mine.limit)},
    )


def held(lock: Lock, now_ms: int) -> Refusal:
    """Say who is in the way when a try or a wait is over."""
    token = lock.newest_token()
    holder = lock.holders[token].claimant if token else ""
    details = {"holder": holder, "token": str(token)}
    if lock.closed_until_ms:
        left_ms = max(0, lock.closed_until_ms - now_ms)
        details["retry_after_ms"] = str(left_ms)
        sentence = (
            f'lock "{lock.name}" is closed for another {left_ms} ms, since a holder'
            " lost it"
        )
    elif token:
        sentence = f'lock "{lock.name}" is held by {holder} (token {token})'
    else:
        sentence = f'others wait for lock "{lock.name}"'
    return Refusal(Reason.LOCK_HELD, sentence, details)


def not_current(lock: Lock, token: int) -> Refusal:
    """Refuse a token that is not among the holders'."""
    current = lock.newest_token()
    if current:
        return refusals.fenced(f'lock "{lock.name}"', token, current)
    return Refusal(
        Reason.NOT_HOLDER,
        f'nobody holds lock "{lock.name}"',
        {"token": str(token), "current": "0"},
    )


def unknown(name: str) -> Refusal:
    """Refuse to speak of a lock that is not remembered."""
    return Refusal(Reason.NOT_FOUND, f'nobody holds or awaits lock "{name}"')


def _kind(claim: LockClaim) -> str:
    match claim.mode:
        case LockMode.EXCLUSIVE:
            return "an exclusive lock"
        case LockMode.SHARED:
            return "a shared lock"
        case LockMode.SEMAPHORE:
            return f"a semaphore of {claim.limit}"
