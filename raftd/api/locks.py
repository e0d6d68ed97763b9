"""Locks at the doors.

Source: SEMANTICS.md section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Query, Read, Write, fill_nothing
from raftd.api.checks import (
    check_id,
    check_text,
    enum_of,
    lease_of,
    optional_of,
    page_items,
)
from raftd.api.limits import DoorLimits
from raftd.statemachine import lock_checks
from raftd.statemachine.lock_state import ClaimView, LockChange, LockView
from raftd.statemachine.machine import Machine
from raftd.statemachine.refusals import check_name
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.locks import (
    AcquireCancelled,
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockBroken,
    LockGranted,
    LockMode,
    ReleaseLock,
)
from raftpb.v1 import locks_pb2, txn_pb2

__all__ = ["LockCalls"]


class LockCalls:
    """The calls of LockService."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (
            Write("acquire_lock", self._acquire, _fill_granted),
            Write("cancel_acquire", self._cancel, _fill_cancelled),
            Write("release_lock", self.release, fill_nothing),
            Write("break_lock", self._break, _fill_broken),
            Read("get_lock", self._get),
            Read("list_locks", self._list),
        )

    # --- writes ------------------------------------------------------------------

    def _acquire(
        self, request: locks_pb2.AcquireLockRequest, session: int
    ) -> AcquireLock | Refusal:
        lease = lease_of(request.lease_id, session)
        if isinstance(lease, Refusal):
            return lease
        mode = enum_of(LockMode, request.mode, LockMode.EXCLUSIVE)
        if isinstance(mode, Refusal):
            return mode
        command = AcquireLock(
            request.name,
            lease,
            request.claimant,
            mode,
            request.limit if mode is LockMode.SEMAPHORE else 1,
            optional_of(request, "wait_ms", request.wait_ms),
            request.delay_ms,
        )
        return lock_checks.check_acquire(self._limits.apply, command) or command

    def _cancel(
        self, request: locks_pb2.CancelAcquireRequest, session: int
    ) -> CancelAcquire | Refusal:
        lease = lease_of(request.lease_id, session)
        if isinstance(lease, Refusal):
            return lease
        return (
            self._check_name(request.name)
            or check_text("the claimant", request.claimant, self._limits)
            or CancelAcquire(request.name, lease, request.claimant)
        )

    def release(
        self,
        request: locks_pb2.ReleaseLockRequest | txn_pb2.ReleaseLockOp,
        session: int,
    ) -> ReleaseLock | Refusal:
        """Translate a release."""
        name, token = request.name, request.token
        return (
            self._check_name(name)
            or check_id("token", token)
            or ReleaseLock(name, token)
        )

    def _break(
        self, request: locks_pb2.BreakLockRequest, session: int
    ) -> BreakLock | Refusal:
        return self._check_name(request.name) or BreakLock(request.name)

    def _check_name(self, name: str) -> Refusal | None:
        return check_name("lock", name, self._limits.apply.name_bytes_max)

    # --- reads -------------------------------------------------------------------

    def _get(self, request: locks_pb2.GetLockRequest) -> Query | Refusal:
        name = request.name
        refusal = self._check_name(name)
        if refusal is not None:
            return refusal

        def query(machine: Machine) -> locks_pb2.GetLockResponse | Refusal:
            view = machine.modules.locks.inspect(name)
            if view is None:
                return lock_checks.unknown(name)
            response = locks_pb2.GetLockResponse()
            _fill_lock(response.lock, view, machine.context.now_ms)
            return response

        return query

    def _list(self, request: locks_pb2.ListLocksRequest) -> Query:
        prefix, after = request.prefix, request.after_name
        limit = page_items(request.limit, self._limits)

        def query(machine: Machine) -> locks_pb2.ListLocksResponse:
            locks = machine.modules.locks
            response = locks_pb2.ListLocksResponse()
            names = locks.names(prefix, after, limit + 1)
            for name in names[:limit]:
                view = locks.inspect(name)
                assert view is not None, f"lock {name} is in the list"
                _fill_lock(response.locks.add(), view, machine.context.now_ms)
            response.more = len(names) > limit
            return response

        return query


# --- responses -------------------------------------------------------------------


def _fill_granted(
    response: locks_pb2.AcquireLockResponse, result: LockGranted, machine: Machine
) -> None:
    response.token = result.token


def _fill_cancelled(
    response: locks_pb2.CancelAcquireResponse,
    result: AcquireCancelled,
    machine: Machine,
) -> None:
    response.was_waiting = result.was_waiting


def _fill_broken(
    response: locks_pb2.BreakLockResponse, result: LockBroken, machine: Machine
) -> None:
    response.holders = result.holders


def _fill_lock(message: locks_pb2.Lock, view: LockView, now_ms: int) -> None:
    message.name = view.name
    message.mode = _mode(view.mode)
    message.limit = view.limit
    for holder in view.holders:
        _fill_claim(message.holders.add(), holder, now_ms)
    for waiter in view.waiters:
        _fill_claim(message.waiters.add(), waiter, now_ms)
    if view.last_change is not LockChange.NONE:
        message.last_change = view.last_change.name.lower()
    if view.closed_until_ms:
        message.closed_ms = max(0, view.closed_until_ms - now_ms)


def _fill_claim(message: locks_pb2.LockClaim, view: ClaimView, now_ms: int) -> None:
    message.claimant = view.claimant
    message.lease_id = view.lease
    message.token = view.token
    message.mode = _mode(view.mode)
    message.since_ms = max(0, now_ms - view.since_ms)


def _mode(mode: LockMode) -> locks_pb2.LockMode.ValueType:
    return locks_pb2.LockMode.ValueType(mode)
