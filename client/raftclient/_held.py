"""A claim with a time limit, and the instant from which it must count as lost.

Rules: the limit is local, ``sent + ttl - margin`` of the last renewal that was
granted, on a clock that goes on while the machine sleeps; no answer of the network can
move it back, and what was lost once stays lost. Whoever looks first (a call, the
keeper's watch, an answer of the cluster) decides it for all: listeners run once, on
the thread that noticed.

Source: SEMANTICS.md section 1 (time).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from raftclient._clock import boottime_s, margin_s
from raftclient.errors import LeaseLost, RaftError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Claim", "Held"]

_GIVEN_BACK: Final = LeaseLost("it was given back", reason="NOT_HOLDER")
"""Stands for the error of its own that a claim makes when somebody asks for it."""


class Claim:
    """Something held, with what it hangs on; safe on any thread."""

    def __init__(self, what: str, parent: Claim | None = None) -> None:
        self.what: Final = what
        self.parent: Final = parent
        self._lost: RaftError | None = None
        self._lock: Final = threading.Lock()
        self._listeners: dict[Callable[[], None], None] = {}
        self._is_told_by_parent = False

    @property
    def remaining_s(self) -> float:
        """How long it is safe without another renewal; 0 if lost."""
        if self.is_lost():
            return 0.0
        return float("inf") if self.parent is None else self.parent.remaining_s

    def is_lost(self) -> bool:
        """Tell whether it must count as lost, from now on for ever."""
        if self._lost is not None:
            return True
        parent = self.parent
        if parent is None or not parent.is_lost():
            return False
        self._lose_with_parent()  # nobody may have listened, or not yet been told
        return True

    def check(self) -> None:
        """Raise unless it is safe to go on.

        Raises:
            LeaseLost: Stop the work it protected.
        """
        if self.is_lost():
            raise self.error()

    def error(self, *, may_be_applied: bool = False) -> RaftError:
        """Say why it was lost; a fresh exception each time.

        Args:
            may_be_applied: It ends a call that the cluster may have applied before.
        """
        lost = self._lost
        assert lost is not None, f"{self.what} is not lost"
        if lost is _GIVEN_BACK:
            lost = LeaseLost(f"{self.what} was given back", reason="NOT_HOLDER")
        if not may_be_applied:
            return lost.fresh()
        return type(lost)(
            lost.message, reason=lost.reason, applied="unknown", details=lost.details
        )

    def lose(self, why: RaftError) -> None:
        """Count it as lost, and tell whoever listens; once."""
        with self._lock:
            if self._lost is not None:
                return
            self._lost = why
            listeners, self._listeners = self._listeners, {}
        for listener in listeners:
            listener()

    def give_back(self) -> None:
        """It was given back: nobody is told, and it no longer hangs on anything."""
        with self._lock:
            self._listeners.clear()
            if self._lost is None:
                self._lost = _GIVEN_BACK
            is_told, self._is_told_by_parent = self._is_told_by_parent, False
        if is_told and self.parent is not None:
            self.parent.forget(self._lose_with_parent)

    def on_lost(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` when it is lost, at once if it is; it must not block."""
        with self._lock:
            is_lost = self._lost is not None
            if not is_lost:
                self._listeners[listener] = None
            is_first = not (is_lost or self._is_told_by_parent)
            self._is_told_by_parent = True
        if is_lost:
            listener()
        elif is_first and self.parent is not None:
            self.parent.on_lost(self._lose_with_parent)

    def forget(self, listener: Callable[[], None]) -> None:
        """Take a listener back; one that is gone is no error."""
        with self._lock:
            self._listeners.pop(listener, None)

    def _lose_with_parent(self) -> None:
        assert self.parent is not None
        self.lose(self.parent.error())


class Held(Claim):
    """A lease, session or reservation that is renewed."""

    def __init__(
        self,
        what: str,
        held_id: int,
        ttl_ms: int,
        from_s: float,
        *,
        lost_class: type[RaftError] = LeaseLost,
        parent: Claim | None = None,
    ) -> None:
        super().__init__(what, parent)
        self.id: Final = held_id
        self._lost_class: Final = lost_class
        self.ttl_s = ttl_ms / 1000
        self._deadline_s = from_s + self.ttl_s - margin_s(self.ttl_s)

    @property
    def deadline_s(self) -> float:
        """When it counts as lost unless renewed, on ``boottime_s``."""
        return self._deadline_s

    @property
    def remaining_s(self) -> float:
        """How long it is safe without another renewal; 0 if lost."""
        return min(super().remaining_s, max(0.0, self._deadline_s - boottime_s()))

    def is_lost(self) -> bool:
        """Tell whether it must count as lost, from now on for ever."""
        if self._lost is None:
            if boottime_s() >= self._deadline_s:
                self._expire()
            if self.parent is not None:
                return Claim.is_lost(self)
        return self._lost is not None

    def renew(self, sent_s: float, ttl_ms: int) -> None:
        """Count from the sending of a renewal that was granted."""
        with self._lock:
            self.ttl_s = ttl_ms / 1000
            deadline_s = sent_s + self.ttl_s - margin_s(self.ttl_s)
            self._deadline_s = max(self._deadline_s, deadline_s)

    def _expire(self) -> None:
        with self._lock:  # a renewal may have come in between
            if boottime_s() < self._deadline_s:
                return
        self.lose(
            self._lost_class(
                f"{self.what} was not renewed in time and may have ended",
                details={"id": str(self.id)},
            )
        )
