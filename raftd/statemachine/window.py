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

__all__ = ["ANSWER_BYTES", "Window"]

ANSWER_BYTES: Final = 24
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
    }
)


class Window:
    """First answers by number."""

    __slots__ = ("_answers", "_bulky", "_bulky_bytes", "acknowledged")

    def __init__(self) -> None:
        self.acknowledged = 0
        """The client has all answers up to this number."""
        self._answers: dict[int, tuple[int, Answer]] = {}
        self._bulky: dict[int, int] = {}
        """Number -> bytes beyond the fixed price, of the answers that are not of the
        fixed kinds (a pending one: 0)."""
        self._bulky_bytes = 0

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self._answers)

    def __contains__(self, number: int) -> bool:
        """Tell whether a first answer is kept."""
        return number in self._answers

    @property
    def number_max(self) -> int:
        """Return the highest number that was ever answered, 0 = none."""
        return max(self._answers, default=self.acknowledged)

    @property
    def size_bytes(self) -> int:
        """Return what the answers count against ``window_bytes_max``."""
        return len(self._answers) * ANSWER_BYTES + self._bulky_bytes

    @property
    def bulky_bytes(self) -> int:
        """Return the part of the size beyond the fixed price of each answer."""
        return self._bulky_bytes

    def find(self, number: int) -> tuple[int, Answer] | None:
        """Return the checksum of the number's request and its first answer."""
        return self._answers.get(number)

    def put(self, number: int, checksum: int, answer: Answer) -> None:
        """Keep a first answer, without its payload."""
        if type(answer) in _FIXED:
            answer = answer.kept()  # type: ignore[union-attr]  # they are results
        else:
            answer = self._put_bulky(number, answer)
        self._answers[number] = (checksum, answer)

    def replace(self, number: int, answer: Result | Refusal) -> None:
        """Put the decided answer in the place of a pending one."""
        checksum, _ = self._answers[number]
        del self._bulky[number]
        self.put(number, checksum, answer)

    def acknowledge(self, up_to: int) -> list[int]:
        """Forget the answers up to a number; return the tickets still waiting."""
        answers = self._answers
        begin = self.acknowledged + 1
        self.acknowledged = up_to
        numbers: Iterable[int] = range(begin, up_to + 1)
        if up_to - begin > len(answers):  # numbers may jump; the work may not
            numbers = [number for number in answers if number <= up_to]
        if self._bulky:
            return self._forget_bulky(numbers)
        for number in numbers:
            answers.pop(number, None)
        return []

    def _forget_bulky(self, numbers: Iterable[int]) -> list[int]:
        tickets = []
        for number in numbers:
            kept = self._answers.pop(number, None)
            if kept is None or number not in self._bulky:
                continue
            self._bulky_bytes -= self._bulky.pop(number)
            if isinstance(kept[1], Pending):
                tickets.append(kept[1].ticket)
        return tickets

    def _put_bulky(self, number: int, answer: Answer) -> Answer:
        assert not isinstance(answer, Marked), "a mark is no numbered write"
        if isinstance(answer, Result):
            answer = answer.kept()
        more_bytes = 0 if isinstance(answer, Pending) else len(encode_answer(answer))
        self._bulky[number] = more_bytes
        self._bulky_bytes += more_bytes
        return answer

    def tickets(self) -> Iterator[int]:
        """Yield the tickets still waiting."""
        for number in self._bulky:
            _, answer = self._answers[number]
            if isinstance(answer, Pending):
                yield answer.ticket

    def stored(self) -> list[tuple[int, int, Answer]]:
        """Return (number, checksum, answer) by rising number, for the row."""
        return [
            (number, checksum, answer)
            for number, (checksum, answer) in sorted(
                self._answers.items(), key=lambda item: item[0]
            )
        ]
