"""What the lines of a history hold: events, filters, requests of the log.

Source: RELIABILITY.md section 4; `records` for the names of operations.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["Applied", "Decided", "Event", "Fields", "Filter"]

Fields = dict[str, Any]
"""JSON values by name; see `records`."""


class _Part(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """Something inside a line."""


class Filter(_Part, frozen=True):
    """What a watcher asked for: keys, or the jobs of a queue, or one job.

    Attributes:
        what: Of keys, or of jobs.
        start: First key.
        end: Up to, not with, this key; empty = only the key ``start``.
        to_last: To the very last key; ``end`` is empty.
        no_puts: Deletions only.
        no_deletes: Puts only.
        previous: What each key was before is wanted.
        queue: Of jobs: of this queue.
        job: Of jobs: this one only; 0 = all of the queue.
    """

    what: Literal["keys", "jobs"] = "keys"
    start: str = ""
    end: str = ""
    to_last: bool = False
    no_puts: bool = False
    no_deletes: bool = False
    previous: bool = False
    queue: str = ""
    job: int = 0


class Event(_Part, frozen=True):
    """One change, as a watcher is told, or as the log's history has it.

    Attributes:
        what: ``put`` or ``delete`` of a key, ``election``, ``job``, ``lock_lost``.
        revision: At which it happened.
        key: Of a put or a delete; the fields of a key follow, of a delete only mod_rev.
        previous: The key before it, if that was asked for and there was one; never in
            the evidence.
        name: Election or lock.
        claimant: Leader, or who lost the lock; empty = nobody leads.
        epoch: Of the leader, or the lost token; 0 = nobody.
        queue: Of a job; job, state and previous_state follow (state empty = it is gone,
            previous_state empty = it is new).
    """

    what: Literal["put", "delete", "election", "job", "lock_lost"]
    revision: int
    key: str = ""
    value: str = ""
    create_rev: int = 0
    mod_rev: int = 0
    version: int = 0
    lease: int = 0
    previous: Fields | None = None
    name: str = ""
    claimant: str = ""
    epoch: int = 0
    queue: str = ""
    job: int = 0
    state: str = ""
    previous_state: str = ""


class Applied(_Part, frozen=True):
    """One request of an entry, with what came of it.

    Attributes:
        name: See `records`; a put with ``if_mod_rev`` is a ``cas``.
        args: Of the command.
        session: Whose numbered write it is; 0 = none.
        number: Its number; 0 = none.
        outcome: ``pending``: it waits, and an entry's `Decided` ends it; ``repeat``:
            the number was applied before, nothing is done, and what it was answered
            again is in ``error``, ``answer`` or ``ticket``.
        error: Code of a refusal.
        answer: Of an ok one.
        ticket: Of a pending one.
        revision: The state's, after it.
        fences: Claims it depends on: kind, name, token, job.
    """

    name: str
    args: Fields = {}
    session: int = 0
    number: int = 0
    outcome: Literal["ok", "refused", "pending", "repeat"] = "ok"
    error: str = ""
    answer: Fields = {}
    ticket: int = 0
    revision: int = 0
    fences: list[Fields] = []


class Decided(_Part, frozen=True):
    """The end of a wait; session and number are 0 where nobody asks any more."""

    ticket: int
    session: int = 0
    number: int = 0
    outcome: Literal["ok", "refused"] = "ok"
    error: str = ""
    answer: Fields = {}
