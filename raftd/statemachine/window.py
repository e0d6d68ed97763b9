"""The window of a session: the first answers to its unacknowledged numbers.

Answers hold ids and tokens, never payloads. Their size is counted in encoded bytes;
answers of the commonest kinds have a fixed price, so that a put encodes nothing.

Source: SEMANTICS.md section 1 (numbers).
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from raftd.statemachine.answers import Answer, Marked, Pending
from raftd.statemachine.schema.base import Refusal, Result
from raftd.statemachine.schema.elections import CampaignWon
from raftd.statemachine.schema.jobs import JobCompleted, JobExtended
from raftd.statemachine.schema.kv import KeyDeleted, KeyIncremented, KeyPut
from raftd.statemachine.schema.locks import LockGranted, LockReleased

__all__ = ["ANSWER_BYTES", "Window"]

_encode: Final = msgspec.msgpack.Encoder().encode

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
"""Results that cost no more than the fixed price."""


class Window:
    """First answers by number.

    Attributes:
        acknowledged: The client has all answers up to this number.
        answers: Checksum of the request and first answer, by number; others only look.
        bulky_bytes: The part of the size beyond the fixed price of each answer.
    """

    __slots__ = ("_bulky", "acknowledged", "answers", "bulky_bytes")

    def __init__(self) -> None:
        self.acknowledged = 0
        self.answers: dict[int, tuple[int, Answer]] = {}
        self._bulky: dict[int, int] = {}
        """Number -> bytes beyond the fixed price, of the answers that are not of the
        fixed kinds (a pending one: 0)."""
        self.bulky_bytes = 0

    def __len__(self) -> int:
        """Return how many answers are kept."""
        return len(self.answers)

    @property
    def number_max(self) -> int:
        """Return the highest number that was ever answered, 0 = none."""
        return max(self.answers, default=self.acknowledged)

    @property
    def size_bytes(self) -> int:
        """Return what the answers count against ``window_bytes_max``."""
        return len(self.answers) * ANSWER_BYTES + self.bulky_bytes

    def find(self, number: int) -> tuple[int, Answer] | None:
        """Return the checksum of the number's request and its first answer."""
        return self.answers.get(number)

    def put(self, number: int, checksum: int, answer: Answer) -> None:
        """Keep a first answer, without its payload."""
        if type(answer) in _FIXED:
            answer = answer.kept()  # type: ignore[union-attr]  # they are results
        else:
            answer = self._count_bulky(number, answer)
        self.answers[number] = (checksum, answer)

    def replace(self, number: int, answer: Result | Refusal) -> None:
        """Put the decided answer in the place of a pending one."""
        checksum, _ = self.answers[number]
        del self._bulky[number]
        self.put(number, checksum, answer)

    def acknowledge(self, up_to: int) -> list[int]:
        """Forget the answers up to a number; return the tickets still waiting."""
        answers = self.answers
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
        forget, forget_size = self.answers.pop, self._bulky.pop
        freed_bytes = 0
        for number in numbers:
            kept = forget(number, None)
            size_bytes = forget_size(number, None)
            if size_bytes:
                freed_bytes += size_bytes
            elif size_bytes is not None and kept is not None:
                answer = kept[1]
                if isinstance(answer, Pending):
                    tickets.append(answer.ticket)
        self.bulky_bytes -= freed_bytes
        return tickets

    def _count_bulky(self, number: int, answer: Answer) -> Answer:
        more_bytes = 0
        if not isinstance(answer, Pending):
            assert not isinstance(answer, Marked), "a mark is no numbered write"
            if not isinstance(answer, Refusal):
                answer = answer.kept()
            more_bytes = len(_encode(answer))
        self._bulky[number] = more_bytes
        self.bulky_bytes += more_bytes
        return answer

    def tickets(self) -> Iterator[int]:
        """Yield the tickets still waiting."""
        for number in self._bulky:
            _, answer = self.answers[number]
            if isinstance(answer, Pending):
                yield answer.ticket

    def stored(self) -> list[tuple[int, int, Answer]]:
        """Return (number, checksum, answer) by rising number, for the row."""
        return [
            (number, checksum, answer)
            for number, (checksum, answer) in sorted(
                self.answers.items(), key=lambda item: item[0]
            )
        ]
