"""What apply hands back to the node.

Source: DESIGN.md section 5; SEMANTICS.md section 1 (a waiting answer is "pending").
"""

import msgspec

from raftd.statemachine.events import HistoryRecord
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.schema.entry import MarkEntry

__all__ = ["Answer", "AppliedEntry", "Decision", "Marked", "Pending"]


class Pending(
    msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2, tag_field="tag"
):
    """The command waits; a later entry (or this one) decides its ticket.

    Attributes:
        ticket: Minted by the command, so the same on every member.
    """

    ticket: int


class Marked(msgspec.Struct, frozen=True, gc=False):
    """The answer to a mark; never stored."""


Answer = Result | Refusal | Pending | Marked


class Decision(msgspec.Struct, frozen=True, gc=False):
    """The end of a wait.

    Attributes:
        session: Whose numbered write waited; 0 = not numbered.
        number: Its number; 0 = not numbered.
    """

    ticket: int
    session: int
    number: int
    answer: Result | Refusal


class AppliedEntry(msgspec.Struct, frozen=True, gc=False):
    """What one entry did.

    Attributes:
        answers: Aligned with the batch's requests.
        revisions: The state's revision after each of them.
        decided: Waits that ended in this entry, in the order of their decisions.
        record: The entry's events, None without any.
        lost: Renewed ids that were no live lease.
        closed: Sessions and leases that ended in this entry.
        mark: Set if the entry is a mark: a checkpoint must be taken before the next
            entry is applied.
    """

    answers: list[Answer]
    revisions: list[int]
    decided: list[Decision]
    record: HistoryRecord | None
    lost: tuple[int, ...]
    closed: tuple[int, ...]
    mark: MarkEntry | None
