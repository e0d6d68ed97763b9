"""Fences: "only while this claim is mine", on any write and in transactions.

Source: SEMANTICS.md sections 3 and 4.
"""

from typing import Final, assert_never

from raftd.statemachine import refusals
from raftd.statemachine.module import JobFacts, LeaseKeeper, TokenKeeper
from raftd.statemachine.schema.base import Fence, FenceKind, Refusal

__all__ = ["Fences"]


class _Nobody:
    """Holds nothing."""

    def holds(self, name: str, token: int) -> bool:
        return False

    def current_token(self, name: str) -> int:
        return 0

    def holds_reservation(self, job: int, token: int) -> bool:
        return False

    def reservation_token(self, job: int) -> int:
        return 0

    def queue_depth(self, name: str) -> int:
        return 0


_NOBODY: Final = _Nobody()


class Fences:
    """Asks the module that a fence is about."""

    def __init__(
        self,
        *,
        leases: LeaseKeeper,
        locks: TokenKeeper = _NOBODY,
        elections: TokenKeeper = _NOBODY,
        jobs: JobFacts = _NOBODY,
    ) -> None:
        self.leases: Final = leases
        self.locks: Final = locks
        self.elections: Final = elections
        self.jobs: Final = jobs

    def check(self, fences: tuple[Fence, ...]) -> Refusal | None:
        """Refuse unless every fence holds."""
        for fence in fences:
            refusal = self._check(fence)
            if refusal is not None:
                return refusal
        return None

    def _check(self, fence: Fence) -> Refusal | None:
        token = fence.token
        match fence.kind:
            case FenceKind.LEASE:
                return self.leases.require(token)
            case FenceKind.LOCK:
                if self.locks.holds(fence.name, token):
                    return None
                what = f"lock {fence.name}"
                return refusals.fenced(
                    what, token, self.locks.current_token(fence.name)
                )
            case FenceKind.ELECTION:
                if self.elections.holds(fence.name, token):
                    return None
                what = f"election {fence.name}"
                return refusals.fenced(
                    what, token, self.elections.current_token(fence.name)
                )
            case FenceKind.RESERVATION:
                if self.jobs.holds_reservation(fence.job, token):
                    return None
                what = f"job {fence.job}"
                return refusals.fenced(
                    what, token, self.jobs.reservation_token(fence.job)
                )
            case _:
                assert_never(fence.kind)
