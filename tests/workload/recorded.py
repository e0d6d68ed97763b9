"""A client of the public API that writes each call and its outcome into a history.

Rules:
* A call is noted just before it begins and just after it ended, by the recorder's
  clock. Refused is only what says ``applied=no``; any other error leaves the outcome
  unknown, and so does a call that the run cut short.
* Whoever got an unknown outcome calls no more: the next call has a new client's name.
* One call at a time: a caller is a task's own; several may share a connection.
* An `InternalError` is a bug and never a part of the load: it ends the caller.

Source: ERRORS.md; RELIABILITY.md section 4 (unknown outcomes).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from raftclient.errors import InternalError, LeaseLost, RaftError
from tests.workload.tap import noting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.checkers.parts import Fields
    from tests.checkers.recorder import Recorder
    from tests.checkers.records import Outcome
    from tests.workload.tap import Note, TappedClient

__all__ = ["Ended", "Recorded", "Tally"]

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Ended(Generic[T]):
    """How a call ended.

    Attributes:
        outcome: As the history has it.
        value: What the client library returned; None unless ok (or if that is None).
        error: The error that was raised, if one was.
        note: What the engine knew of it.
    """

    outcome: Outcome
    value: T | None
    error: RaftError | None
    note: Note

    @property
    def is_ok(self) -> bool:
        """Whether it happened and was answered."""
        return self.outcome == "ok"


@dataclasses.dataclass(slots=True)
class Tally:
    """What all callers of a run did so far.

    Attributes:
        now_us: The true clock.
        last_ack_us: When a write was last acknowledged; 0 = never.
        pause_us: The longest time without an acknowledged write, since it was reset.
    """

    now_us: Callable[[], int]
    calls: int = 0
    ok: int = 0
    refused: int = 0
    unknown: int = 0
    writes: int = 0
    last_ack_us: int = 0
    pause_us: int = 0

    def count(self, outcome: Outcome, *, is_write: bool) -> None:
        """Take note of the end of a call, now."""
        self.calls += 1
        match outcome:
            case "ok":
                self.ok += 1
            case "refused":
                self.refused += 1
            case "unknown":
                self.unknown += 1
        if is_write and outcome == "ok":
            self.writes += 1
            at_us = self.now_us()
            if self.last_ack_us:
                self.pause_us = max(self.pause_us, at_us - self.last_ack_us)
            self.last_ack_us = at_us


class Recorded:
    """One caller; see the module.

    Args:
        client: What carries its calls.
        recorder: Gets the records.
        name: Of the caller, unique in the run.
        tally: Shared by all callers of the run.
    """

    def __init__(
        self, client: TappedClient, recorder: Recorder, name: str, tally: Tally
    ) -> None:
        self.client: Final = client
        self.recorder: Final = recorder
        self.tally: Final = tally
        self._name: Final = name
        self._lives = 0
        self._serial = 0

    @property
    def who(self) -> str:
        """The name that the history has for it now."""
        return f"{self._name}.{self._lives}"

    def fresh(self) -> str:
        """Return a text that nobody else ever writes."""
        self._serial += 1
        return f"{self._name}-{self._serial}"

    async def call(
        self,
        name: str,
        args: Fields,
        work: Callable[[], Awaitable[T]],
        answer: Callable[[T], Fields],
        *,
        more: Callable[[Note], Fields] | None = None,
        is_write: bool = True,
        is_noted: bool = True,
    ) -> Ended[T]:
        """Make a call and record it.

        Args:
            name: As `tests.checkers.records` lists them.
            args: What is asked.
            work: Makes the call.
            answer: Turns what it returned into what the history has.
            more: What of the request was the library's choice.
            is_write: Whether it changes something when it is ok.
            is_noted: Whether the engine notes it; else it is a plain call. What is
                noted and sent nothing was lost before, which is no error of the
                library's, and did nothing.

        Raises:
            InternalError: A bug was met.
        """
        recorder = self.recorder
        op = recorder.begin(self.who, name, args)
        outcome: Outcome = "unknown"
        error: RaftError | None = None
        got: Fields = {}
        value: T | None = None
        with noting() as note:
            try:
                value = await work()
                if is_noted and note.request is None:
                    raise LeaseLost("it was lost before the call was made")
                outcome, got = "ok", answer(value)
            except RaftError as raised:
                error = raised
                outcome = "refused" if raised.applied == "no" else "unknown"
            finally:
                number = note.number if is_write else 0
                session = note.session if is_write else 0
                recorder.sent(op, session, number, {} if more is None else more(note))
                is_exact = outcome == "ok" and not (is_write and note.was_sent_again)
                recorder.end(
                    op,
                    outcome,
                    error="" if error is None else error.reason,
                    revision=note.revision if is_exact else 0,
                    answer=got,
                )
                self.tally.count(outcome, is_write=is_write)
                if outcome == "unknown":
                    self._lives += 1
        if isinstance(error, InternalError):
            raise error
        return Ended(outcome, value if outcome == "ok" else None, error, note)
