"""Leases and sessions worked out a second time, and the order of an entry.

An entry: its stamp, its renewals, what is due (by deadline), its requests. A lease ends
exactly when the log says, or the log is wrong: never before its last renewal and its
ttl, and in the first entry whose stamp is beyond.

Source: SEMANTICS.md section 1; RELIABILITY.md section 4 (LSE).
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from tests.checkers.verdict import Illegal

if TYPE_CHECKING:
    from tests.checkers.parts import Applied
    from tests.checkers.places import Places
    from tests.checkers.records import Entry

__all__ = ["LeaseReplay", "Timer"]

Timer = tuple[int, int, int, int | str]
"""When, rank of what it is about (leases 2), kind, subject."""

_LEASES: Final = 2
_WORK_MAX: Final = 900
"""An entry with more to do may put some of it off."""


class LeaseReplay:
    """What every replay of claims begins with.

    Args:
        places: Names operations in sentences.
    """

    def __init__(self, places: Places) -> None:
        self.places: Final = places
        self.now_ms = 0
        self.leases: Final[dict[int, tuple[int, int]]] = {}
        """Live leases and sessions: ttl and deadline."""
        self._timers: Final[list[Timer]] = []

    def entry(self, entry: Entry) -> None:
        """Take in the next entry of the log."""
        if not (entry.now_ms or entry.requests or entry.renewals):
            return  # of Raft's own
        self.now_ms = max(self.now_ms, entry.now_ms)
        self.opening(entry)
        lost = set(entry.lost)
        for lease in entry.renewals:
            self._renew(entry, lease, is_lost=lease in lost)
        ended = dict.fromkeys(entry.ended)
        self._fire_due(entry, ended)
        for applied in entry.requests:
            if applied.outcome == "repeat":
                continue
            self._lease_request(entry, applied, ended)
            self.request(entry, applied)
            self.settle(entry)
        self.closing(entry)
        if ended:
            raise Illegal(
                f"lease {next(iter(ended))} ended in entry {entry.index} for no reason"
            )

    # --- what a replay of claims adds ----------------------------------------------

    def opening(self, entry: Entry) -> None:
        """Look at what the entry says before it is replayed."""

    def fire(self, entry: Entry, timer: Timer) -> None:
        """Do what a timer of ``arm`` says, if it still counts."""
        raise NotImplementedError

    def request(self, entry: Entry, applied: Applied) -> None:
        """Take in a request."""
        raise NotImplementedError

    def lease_ended(self, entry: Entry, lease: int, *, is_loss: bool) -> None:
        """Take a lease's claims away; ``is_loss``: not by a clean goodbye."""
        raise NotImplementedError

    def settle(self, entry: Entry) -> None:
        """Do what follows at the end of a command or a timer."""

    def closing(self, entry: Entry) -> None:
        """Look at what is left to compare when the entry is done."""

    def arm(self, timer: Timer) -> None:
        """Have ``fire`` called when it is due."""
        heappush(self._timers, timer)

    # --- leases --------------------------------------------------------------------

    def _renew(self, entry: Entry, lease: int, *, is_lost: bool) -> None:
        known = self.leases.get(lease)
        if is_lost == (known is not None):
            alive = "alive" if known is not None else "not alive"
            raise Illegal(
                f"entry {entry.index} renews lease {lease}, which is {alive}, but says"
                " otherwise"
            )
        if known is not None:
            self.leases[lease] = known[0], self.now_ms + known[0]

    def _fire_due(self, entry: Entry, ended: dict[int, None]) -> None:
        done = 0
        while self._timers and self._timers[0][0] <= self.now_ms:
            timer = heappop(self._timers)
            if timer[1] != _LEASES:
                self.fire(entry, timer)
            elif self._is_early(timer):
                continue
            else:
                lease = int(timer[3])
                if lease not in ended:
                    if done > _WORK_MAX:
                        self.arm(timer)
                        return
                    raise Illegal(
                        f"lease {lease} was due at {timer[0]} ms, and is not ended by"
                        f" entry {entry.index} at {self.now_ms} ms"
                    )
                self._end(entry, lease, ended)
            done += 1
            self.settle(entry)

    def _is_early(self, timer: Timer) -> bool:
        """Tell whether a lease has gone or was renewed; then its timer comes later."""
        lease = int(timer[3])
        if lease not in self.leases:
            return True
        deadline_ms = self.leases[lease][1]
        if deadline_ms > timer[0]:
            self.arm((deadline_ms, _LEASES, 0, lease))
            return True
        return False

    def _lease_request(
        self, entry: Entry, applied: Applied, ended: dict[int, None]
    ) -> None:
        if applied.outcome != "ok":
            return
        match applied.name:
            case "grant":
                self._begin(applied.answer["lease"], applied.answer["ttl_ms"])
            case "open_session":
                session = applied.answer["session"]
                if session in self.leases:
                    ttl_ms = self.leases[session][0]
                    self.leases[session] = ttl_ms, self.now_ms + ttl_ms
                else:
                    self._begin(session, applied.answer["ttl_ms"])
            case "revoke" | "close_session":
                self._give_up(entry, applied, ended)
            case _:
                pass

    def _give_up(self, entry: Entry, applied: Applied, ended: dict[int, None]) -> None:
        field = "lease" if applied.name == "revoke" else "session"
        lease = applied.args[field]
        if lease in self.leases:
            self._end(entry, lease, ended, by=applied)
        elif applied.name == "revoke":
            name = self.places.name(entry, applied)
            raise Illegal(
                f"{name} revoked lease {lease}, which is not alive",
                self.places.op_of(applied),
            )

    def _begin(self, lease: int, ttl_ms: int) -> None:
        deadline_ms = self.now_ms + ttl_ms
        self.leases[lease] = ttl_ms, deadline_ms
        self.arm((deadline_ms, _LEASES, 0, lease))

    def _end(
        self,
        entry: Entry,
        lease: int,
        ended: dict[int, None],
        by: Applied | None = None,
    ) -> None:
        if lease not in ended:
            name = self.places.name(entry, by) if by is not None else "its deadline"
            raise Illegal(f"lease {lease} did not end by {name} in entry {entry.index}")
        del ended[lease]
        del self.leases[lease]
        self.lease_ended(entry, lease, is_loss=by is None or by.name == "revoke")
