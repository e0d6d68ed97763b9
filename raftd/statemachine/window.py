"""The window of a session: the first answers to its unacknowledged numbers.

Answers hold ids and tokens, never payloads. Their size is counted in encoded bytes;
answers of the commonest kinds have a fixed price, so that a put encodes nothing.

Source: SEMANTICS.md section 1 (numbers).
"""

from collections.abc import Iterable, Iterator
from typing import Final

from raftd.statemachine.answers import Answer, Marked, Pending
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.schema.elections import CampaignWon
from raftd.statemachine.schema.entry import encode_answer
from raftd.statemachine.schema.jobs import JobCompleted, JobExtended
from raftd.statemachine.schema.kv import KeyDeleted, KeyIncremented, KeyPut
from raftd.statemachine.schema.locks import LockGranted, LockReleased

__all__ = ["Window"]

_ANSWER_BYTES: Final = 24
"""Number, checksum and a small answer; what the fixed kinds cost at the most."""
_FIXED: Final[frozenset[type]] = frozenset(
    {
        CampaignWon,
        JobCompleted,
        JobExtended,
        KeyDeleted,
        KeyIncremented,
        KeyPut,
        LockGranted,
        LockReleased,
        Pending,
    }
)


class Window:
    """First answers by number."""

    __slots__ = ("_answers", "acknowledged", "size_bytes")

    def __init__(self) -> None:
        self.acknowledged = 0
        """The client has all answers up to this number."""
        self.size_bytes = 0
        self._answers: dict[int, tuple[int, Answer]] = {}

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self._answers)

    def find(self, number: int) -> tuple[int, Answer] | None:
        """Return the checksum of the number's request and its first answer."""
        return self._answers.get(number)

    def put(self, number: int, checksum: int, answer: Answer) -> None:
        """Keep a first answer."""
        self._answers[number] = (checksum, answer)
        self.size_bytes += _cost(answer)

    def replace(self, number: int, answer: Answer) -> None:
        """Put the decided answer in the place of a pending one."""
        checksum, pending = self._answers[number]
        self.size_bytes += _cost(answer) - _cost(pending)
        self._answers[number] = (checksum, answer)

    def acknowledge(self, up_to: int) -> Iterable[Answer]:
        """Forget the answers up to a number, and return them."""
        answers = self._answers
        gap = up_to - self.acknowledged
        numbers: Iterable[int] = range(self.acknowledged + 1, up_to + 1)
        if gap > len(answers):  # numbers may jump; the work may not
            numbers = [number for number in answers if number <= up_to]
        self.acknowledged = up_to
        gone = []
        for number in numbers:
            kept = answers.pop(number, None)
            if kept is not None:
                self.size_bytes -= _cost(kept[1])
                gone.append(kept[1])
        return gone

    def answers(self) -> Iterator[Answer]:
        """Yield the answers kept."""
        return (answer for _, answer in self._answers.values())

    def stored(self) -> list[tuple[int, int, Answer]]:
        """Return (number, checksum, answer) by rising number, for the row."""
        return [
            (number, checksum, answer)
            for number, (checksum, answer) in sorted(
                self._answers.items(), key=lambda item: item[0]
            )
        ]


def _cost(answer: Answer) -> int:
    if type(answer) in _FIXED:
        return _ANSWER_BYTES
    assert not isinstance(answer, Pending | Marked)
    return _ANSWER_BYTES + len(_encoded(answer))


def _encoded(answer: Result | Refusal) -> bytes:
    return encode_answer(answer)  # type: ignore[arg-type]  # every Result is of the union
