"""Sessions worked out a second time: who lives, what was answered first, who waits.

There is one lock, which gives numbers something to wait for. Tokens and tickets are
told to the model as the machine draws them; who gets which answer is not.

Source: SEMANTICS.md section 1; RELIABILITY.md rule 47.
"""

from __future__ import annotations

import dataclasses
from typing import Final, Literal

from raftd.statemachine.schema.base import Reason

__all__ = ["GRANTED", "WAITS", "Outcome", "SessionsModel"]

GRANTED: Final = "granted"
WAITS: Final = "waits"
Outcome = Reason | Literal["granted", "waits", "done", "nothing"]
"""Of a write: refused, a lock granted, waiting, done, or nothing to take."""


@dataclasses.dataclass
class _Session:
    key: bytes
    ttl_ms: int
    deadline_ms: int
    closed_ms: int | None = None
    acknowledged: int = 0
    answers: dict[int, tuple[object, Outcome]] = dataclasses.field(default_factory=dict)
    """Number -> the request and its first answer."""


@dataclasses.dataclass
class _Claim:
    session: int
    number: int


class SessionsModel:
    """All sessions, and one lock."""

    def __init__(self, *, answers_max: int, dedup_ms: int, sessions_max: int) -> None:
        self.now_ms = 0
        self.sessions: dict[int, _Session] = {}
        self.holder: _Claim | None = None
        self.line: list[_Claim] = []
        self.decided: dict[tuple[int, int], Outcome] = {}
        """Waits that the running entry must end, by session and number."""
        self._answers_max: Final = answers_max
        self._dedup_ms: Final = dedup_ms
        self._sessions_max: Final = sessions_max

    # --- reads -----------------------------------------------------------------------

    def is_alive(self, session: int) -> bool:
        """Tell whether claims may hang on a session."""
        found = self.sessions.get(session)
        return found is not None and found.closed_ms is None

    # --- life ------------------------------------------------------------------------

    def find(self, key: bytes) -> int | None:
        """Return the session of a key."""
        keys = {found.key: session for session, found in self.sessions.items()}
        return keys.get(key)

    def judge_open(self, key: bytes) -> Reason | int | None:
        """Return why not, the session there is already, or None for a new one."""
        known = self.find(key)
        if known is None:
            is_full = len(self.sessions) >= self._sessions_max
            return Reason.TOO_MANY if is_full else None
        if not self.is_alive(known):
            return Reason.SESSION_EXPIRED
        self.renew(known)
        return known

    def open(self, session: int, key: bytes, ttl_ms: int) -> None:
        """Take up a new session."""
        self.sessions[session] = _Session(key, ttl_ms, self.now_ms + ttl_ms)

    def renew(self, session: int) -> bool:
        """Renew a session; tell whether it lives."""
        if not self.is_alive(session):
            return False
        found = self.sessions[session]
        found.deadline_ms = self.now_ms + found.ttl_ms
        return True

    def close(self, session: int) -> None:
        """End a session cleanly, and forget it."""
        if self.is_alive(session):
            self._drop_claims(session)
        self.sessions.pop(session, None)

    def revoke(self, session: int) -> None:
        """End a session's claims; its window stays."""
        self._drop_claims(session)
        self.sessions[session].closed_ms = self.now_ms

    def fire_due(self) -> None:
        """End and forget what is due, in the order of (deadline, rank, id)."""
        while True:
            due = [
                (found.closed_ms + self._dedup_ms, 1, session)
                if found.closed_ms is not None
                else (found.deadline_ms, 2, session)
                for session, found in self.sessions.items()
            ]
            first = min(due, default=(self.now_ms + 1, 0, 0))
            if first[0] > self.now_ms:
                return
            if first[1] == 1:
                del self.sessions[first[2]]
            else:
                self.revoke(first[2])

    # --- numbers ---------------------------------------------------------------------

    def send(
        self, session: int, number: int, acknowledged: int, request: object
    ) -> Outcome | None:
        """Judge a numbered write; None = it is to be applied, and kept."""
        found = self.sessions.get(session)
        if found is None:
            return Reason.SESSION_UNKNOWN
        if acknowledged > found.acknowledged:
            found.acknowledged = acknowledged
            found.answers = {
                n: kept for n, kept in found.answers.items() if n > acknowledged
            }
        if number <= found.acknowledged:
            return Reason.STALE_NUMBER
        if number in found.answers:
            first, answer = found.answers[number]
            return answer if first == request else Reason.NUMBER_REUSED
        if found.closed_ms is not None:
            return Reason.SESSION_EXPIRED
        if len(found.answers) >= self._answers_max:
            return Reason.TOO_MANY
        return None

    def keep(
        self, session: int, number: int, request: object, outcome: Outcome
    ) -> None:
        """Keep a first answer; that nothing was taken is none."""
        if outcome != "nothing":
            self.sessions[session].answers[number] = request, outcome

    # --- the lock --------------------------------------------------------------------

    def acquire(self, session: int, number: int, *, is_try: bool) -> Outcome:
        """Ask for the lock on the account of a live session."""
        claim = _Claim(session, number)
        if self.holder is None:
            self.holder = claim
            return GRANTED
        if is_try:
            return Reason.LOCK_HELD
        self.line.append(claim)
        return WAITS

    def release(self, *, is_held: bool, is_current: bool) -> Outcome:
        """Give the lock back, with a token that is current or not."""
        if not is_held:
            return Reason.NOT_FOUND
        if not is_current:
            return Reason.FENCED
        self.holder = None
        self._promote()
        return "done"

    def _drop_claims(self, session: int) -> None:
        for claim in [claim for claim in self.line if claim.session == session]:
            self.line.remove(claim)
            self._decide(claim, Reason.LEASE_EXPIRED)
        if self.holder is not None and self.holder.session == session:
            self.holder = None
        self._promote()

    def _promote(self) -> None:
        if self.holder is None and self.line:
            self.holder = self.line.pop(0)
            self._decide(self.holder, GRANTED)

    def _decide(self, claim: _Claim, outcome: Outcome) -> None:
        self.decided[claim.session, claim.number] = outcome
        answers = self.sessions[claim.session].answers
        if claim.number in answers:
            answers[claim.number] = answers[claim.number][0], outcome
