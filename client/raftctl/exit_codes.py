"""How raftctl ends: exit codes, and errors as one sentence that says what to do.

Source: ERRORS.md (the table), CLI.md (the codes).
"""

from __future__ import annotations

import enum
from typing import IO, TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftclient.errors import RaftError

__all__ = ["ExitCode", "Failure", "ReaderGone", "failure_of", "sentence"]


class ExitCode(enum.IntEnum):
    """What a script may rely on."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_FOUND = 3
    PRECONDITION = 4
    LOST = 5
    UNAVAILABLE = 6
    UNKNOWN = 7
    DENIED = 8
    COMPACTED = 9
    LIMIT = 10
    NOT_EXECUTABLE = 126
    NO_COMMAND = 127
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


class Failure(click.ClickException):
    """The end of a command, with its sentence and code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]  # what click itself documents

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the sentence."""
        click.echo(f"error: {sentence(self.message)}", file=file, err=file is None)


class ReaderGone(Exception):
    """Nobody reads what the command writes; no ``OSError``, which click would take."""


_ADVICE: Final[Mapping[str, str]] = {
    "LOCK_HELD": "wait longer with --wait, or look who holds it with its info",
    "FENCED": "stop the work it protected",
    "NOT_HOLDER": "stop the work it protected",
    "LEASE_EXPIRED": "stop the work it protected, and begin anew",
    "SESSION_EXPIRED": "stop the work it protected, and begin anew",
    "RESERVATION_EXPIRED": "stop the work on it; it will be handed out again",
    "RESERVATION_LOST": "stop the work on it; another worker may have it",
    "COMPACTED": "read the present state, or a newer revision",
    "INTERNAL": "this is a bug; please report it with the node's log",
    "STALE_NUMBER": "this is a bug; please report it",
}
_ADVICE_BY_CODE: Final[Mapping[int, str]] = {
    ExitCode.PRECONDITION: "read again, then decide",
    ExitCode.UNAVAILABLE: (
        "nothing was applied; check raftctl status and --endpoints ({endpoints}),"
        " then try again"
    ),
    ExitCode.UNKNOWN: "it may have been applied; read the state, then decide",
    ExitCode.DENIED: "ask whoever runs the cluster for access",
    ExitCode.LIMIT: "slow down, make room, or raise the limit",
}
_NO_CONNECTION: Final = "UNAVAILABLE"
"""What gRPC says by itself when a connection cannot be made."""

_ENDS: Final = ".!?"


def sentence(text: str) -> str:
    """Return a text on one line, with a full stop."""
    line = " ".join(text.split())
    return line if line.endswith(tuple(_ENDS)) else f"{line}."


def failure_of(error: RaftError, endpoints: str) -> Failure:
    """Turn an error of the client library into the end of this command.

    Args:
        error: What the library raised.
        endpoints: Where the cluster was looked for.
    """
    advice = _ADVICE.get(error.reason) or _ADVICE_BY_CODE.get(error.exit_code, "")
    advice = advice.format(endpoints=endpoints)
    text = sentence(error.message)[:-1] if advice else error.message
    if error.reason == _NO_CONNECTION:
        text = "no member of the cluster could be reached"
    return Failure(f"{text}; {advice}" if advice else text, error.exit_code)
