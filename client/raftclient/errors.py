"""What can go wrong, as a caller sees it.

The tree::

    RaftError
      InvalidRequest       mend the call
      NotFound             there is no such thing
      PreconditionFailed   read again, decide
        LockHeld           wait, or do without
      Fenced               stop the work the claim protected
      LeaseLost            stop the work the claim protected
      ReservationLost      stop the work on the job
      JobFinal             the job has ended otherwise
      Unavailable          nothing happened; try again later
      OutcomeUnknown       it may have happened; read, then decide
      Denied               you may not
      Compacted            the history asked for is gone; read the present
      LimitExceeded        slow down, or raise the limit
      InternalError        a bug; report it

Rules: every error says which of three it was, in ``applied``: "no" (nothing happened),
"yes" or "unknown". Refusals and gRPC's own errors become these classes in one place,
``raftclient._status``.

Source: ERRORS.md, one row per reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Compacted",
    "Denied",
    "Fenced",
    "InternalError",
    "InvalidRequest",
    "JobFinal",
    "LeaseLost",
    "LimitExceeded",
    "LockHeld",
    "NotFound",
    "OutcomeUnknown",
    "PreconditionFailed",
    "RaftError",
    "ReservationLost",
    "Unavailable",
    "error_class",
]


class RaftError(Exception):
    """Any error of this library.

    Attributes:
        reason: The row of the error table, as text (``LOCK_HELD`` ...).
        applied: ``no``, ``yes`` or ``unknown``: whether the request took effect.
        details: What helps a program: limit, size, current token, state ...
        exit_code: What a command line ends with.
    """

    exit_code: ClassVar[int] = 1
    default_reason: ClassVar[str] = "INTERNAL"
    default_applied: ClassVar[str] = "no"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        applied: str | None = None,
        details: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason: Final = reason or self.default_reason
        self.applied: Final = applied or self.default_applied
        self.details: Final[Mapping[str, str]] = dict(details or {})

    @property
    def message(self) -> str:
        """One sentence for a person."""
        return str(self.args[0])

    def fresh(self) -> Self:
        """Return an equal error without this one's traceback, to raise elsewhere."""
        return type(self)(
            self.message,
            reason=self.reason,
            applied=self.applied,
            details=self.details,
        )


class InvalidRequest(RaftError):
    """The call is wrong as it stands: mend it."""

    exit_code = 2
    default_reason = "INVALID_REQUEST"


class NotFound(RaftError):
    """There is no such key, lease, lock, election, queue, job or member."""

    exit_code = 3
    default_reason = "NOT_FOUND"


class PreconditionFailed(RaftError):
    """A condition of the call does not hold: read again, decide."""

    exit_code = 4
    default_reason = "PRECONDITION"


class LockHeld(PreconditionFailed):
    """Somebody else holds it, and the wait is over: wait longer, or do without."""

    default_reason = "LOCK_HELD"


class Fenced(RaftError):
    """The token is not, or no longer, current: stop the work it protected."""

    exit_code = 5
    default_reason = "FENCED"


class LeaseLost(RaftError):
    """The lease or session has ended, or may have: stop the work it protected.

    Raised before anybody else can hold the claim (see ``raftclient.leases``).
    """

    exit_code = 5
    default_reason = "LEASE_EXPIRED"


class ReservationLost(RaftError):
    """The job is no longer in this worker's hands: stop the work on it."""

    exit_code = 5
    default_reason = "RESERVATION_LOST"


class JobFinal(RaftError):
    """The job has ended already, another way than this call wanted."""

    exit_code = 4
    default_reason = "JOB_FINAL"

    @property
    def state(self) -> str:
        """How it ended: DONE, DEAD, CANCELLED or EXPIRED."""
        return self.details.get("state", "")


class Unavailable(RaftError):
    """Nothing happened, because nobody could serve the call in time: try again."""

    exit_code = 6
    default_reason = "NO_LEADER"


class OutcomeUnknown(RaftError):
    """The call may have taken effect or not: read, then decide."""

    exit_code = 7
    default_reason = "DEADLINE"
    default_applied = "unknown"


class Denied(RaftError):
    """Who you are may not do this."""

    exit_code = 8
    default_reason = "DENIED"


class Compacted(RaftError):
    """The revision asked for is no longer kept: read the present state."""

    exit_code = 9
    default_reason = "COMPACTED"

    @property
    def compacted_revision(self) -> int:
        """The oldest revision that can still be read; 0 if the server did not say."""
        return int(self.details.get("compacted_revision", "0"))


class LimitExceeded(RaftError):
    """A limit is reached: slow down, or raise it."""

    exit_code = 10
    default_reason = "TOO_MANY"


class InternalError(RaftError):
    """A bug, in the cluster or here: report it."""

    default_applied = "unknown"


_CLASSES: Final[Mapping[str, type[RaftError]]] = {
    "INVALID_NAME": InvalidRequest,
    "INVALID_REQUEST": InvalidRequest,
    "TOO_LARGE": InvalidRequest,
    "NUMBER_REUSED": InvalidRequest,
    "NOT_FOUND": NotFound,
    "PRECONDITION": PreconditionFailed,
    "LOCK_HELD": LockHeld,
    "FENCED": Fenced,
    "NOT_HOLDER": Fenced,
    "LEASE_EXPIRED": LeaseLost,
    "SESSION_EXPIRED": LeaseLost,
    "RESERVATION_EXPIRED": ReservationLost,
    "RESERVATION_LOST": ReservationLost,
    "JOB_FINAL": JobFinal,
    "NOT_LEADER": Unavailable,
    "NO_LEADER": Unavailable,
    "SHUTTING_DOWN": Unavailable,
    "OVERLOADED": Unavailable,
    "CORRUPT": Unavailable,
    "DIVERGED": Unavailable,
    "SESSION_UNKNOWN": OutcomeUnknown,
    "LEADERSHIP_LOST": OutcomeUnknown,
    "DEADLINE": OutcomeUnknown,
    "STALE_NUMBER": OutcomeUnknown,
    "UNAUTHENTICATED": Denied,
    "DENIED": Denied,
    "COMPACTED": Compacted,
    "QUOTA": LimitExceeded,
    "QUEUE_FULL": LimitExceeded,
    "TOO_MANY": LimitExceeded,
    "DISK_FULL": LimitExceeded,
    "INTERNAL": InternalError,
}


def error_class(reason: str, applied: str) -> type[RaftError]:
    """Return the class of a row of the error table.

    A deadline that passed before anything was proposed is ``Unavailable``; a reason
    that this version does not know is judged by ``applied`` alone.
    """
    found = _CLASSES.get(reason)
    if found is OutcomeUnknown and applied == "no":
        return Unavailable
    if found is None:
        return InternalError if applied == "no" else OutcomeUnknown
    return found
