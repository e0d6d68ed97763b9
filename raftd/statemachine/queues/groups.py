"""Groups: jobs of one queue handed out strictly in order, at most k at a time.

Rules:
* Members are a group's jobs that have not ended, in the order of their ids. The first
  k of them that can run are open; a member that waits for its time or for a parent
  keeps its place, and so keeps the group closed.
* A member in a worker's hands uses up a place wherever it stands.
* k is what the newest enqueue into the group said; a group without members forgets it.

Source: SEMANTICS.md section 6 (group).
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Final

from sortedcontainers import SortedList

from raftd.statemachine.context import Context
from raftd.statemachine.queues.jobs import Job
from raftd.statemachine.schema.jobs import JobState
from raftd.statemachine.tables import Table

__all__ = ["Groups", "group_key"]

_SHORT_MAX: Final = 1000
"""Up to so many members a plain list is faster and smaller than a sorted one."""


class _Group:
    __slots__ = ("counts", "members")

    def __init__(self) -> None:
        self.members: list[int] | SortedList = []
        self.counts = [0] * (JobState.RESERVED + 1)

    def add(self, job: int) -> None:
        members = self.members
        if isinstance(members, list):
            if len(members) < _SHORT_MAX:
                insort(members, job)
                return
            members = self.members = SortedList(members)
        members.add(job)

    def remove(self, job: int) -> None:
        members = self.members
        if isinstance(members, list):
            del members[bisect_left(members, job)]
        else:
            members.remove(job)

    def place_of(self, job: int) -> int:
        members = self.members
        if isinstance(members, list):
            return bisect_left(members, job)
        place: int = members.bisect_left(job)
        return place

    def first(self, count: int) -> Iterator[int]:
        for place in range(min(count, len(self.members))):
            yield self.members[place]


class Groups:
    """All groups with members, and the k of those where it is not 1."""

    def __init__(self, context: Context, jobs: dict[int, Job]) -> None:
        self._context: Final = context
        self._jobs: Final = jobs
        self._groups: dict[str, _Group] = {}
        self._limits: dict[str, int] = {}

    def add(self, job: Job) -> None:
        """Count a job in that has not ended; undone by ``remove``."""
        key = group_key(job)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group()
        group.add(job.id)
        group.counts[job.state] += 1

    def remove(self, job: Job) -> None:
        """Count a job out; undone by ``add``."""
        key = group_key(job)
        group = self._groups[key]
        group.remove(job.id)
        group.counts[job.state] -= 1
        if not group.members:
            del self._groups[key]

    def members(self, key: str) -> list[int]:
        """Return a group's members in order."""
        group = self._groups.get(key)
        return [] if group is None else list(group.members)

    def limit(self, key: str) -> int:
        """Return k."""
        return self._limits.get(key, 1)

    def set_limit(self, key: str, limit: int) -> bool:
        """Take over k from an enqueue; True if it changed."""
        if self.limit(key) == limit:
            return False
        self._context.mark(Table.JOB_GROUPS, key.encode())
        self._context.journal.item(self._limits, key)
        if limit == 1:
            del self._limits[key]
        else:
            self._limits[key] = limit
        return True

    def forget_if_empty(self, key: str) -> None:
        """Forget k when the last member is gone."""
        if key not in self._groups:
            self.set_limit(key, 1)

    def is_open(self, job: Job) -> bool:
        """Tell whether a job may be READY now: a new one, or one just given back."""
        key = group_key(job)
        group = self._groups.get(key)
        if group is None:
            return True
        limit = self.limit(key)
        place = group.place_of(job.id)
        if place >= limit:
            return False
        reserved = group.counts[JobState.RESERVED]
        known = self._jobs.get(job.id)
        if known is not None and known.state is JobState.RESERVED:
            reserved -= 1
        if not reserved:
            return True
        waiting = sum(
            self._jobs[member].state is not JobState.RESERVED
            for member in group.first(place)
        )
        return waiting + reserved < limit

    def misplaced(self, key: str) -> tuple[list[Job], list[Job]]:
        """Return which members should become READY, and which BLOCKED."""
        group = self._groups.get(key)
        if group is None:
            return [], []
        counts = group.counts
        slots = self.limit(key) - counts[JobState.RESERVED]
        ready_left = counts[JobState.READY]
        opened: list[Job] = []
        closed: list[Job] = []
        for member in group.first(len(group.members)):
            if slots <= 0 and ready_left <= 0:
                break
            job = self._jobs[member]
            state = job.state
            if state is JobState.RESERVED:
                continue
            if state is JobState.READY:
                ready_left -= 1
            if slots > 0:
                slots -= 1
                if state is JobState.BLOCKED and not job.waits_for:
                    opened.append(job)
            elif state is JobState.READY:
                closed.append(job)
        return opened, closed

    def encode_row(self, key: bytes) -> bytes | None:
        """Encode k; there is no row for the usual 1."""
        limit = self._limits.get(key.decode())
        return None if limit is None else limit.to_bytes(4, "big")

    def load_row(self, key: bytes, value: bytes) -> None:
        """Take up a k."""
        self._limits[key.decode()] = int.from_bytes(value, "big")


def group_key(job: Job) -> str:
    """Return queue and group as one text; a queue's name holds no control character."""
    return f"{job.queue}\0{job.group}"
