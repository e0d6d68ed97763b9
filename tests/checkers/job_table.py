"""All jobs and queues of a judge, and the one place where a job's state changes.

Source: SEMANTICS.md section 6.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from tests.checkers.job_state import WAITING, Group, JobLife, QueueState, is_final

__all__ = ["JobTable"]


class JobTable:
    """Indexes that follow from the jobs."""

    def __init__(self) -> None:
        self.lives: Final[dict[int, JobLife]] = {}
        self.gone: Final[dict[int, JobLife]] = {}
        """Jobs that retention, a purge or a deletion has removed."""
        self.queues: Final[dict[str, QueueState]] = {}
        self.by_lease: Final[defaultdict[int, set[int]]] = defaultdict(set)
        self.by_client_id: Final[dict[str, int]] = {}
        self.children: Final[defaultdict[int, list[int]]] = defaultdict(list)

    def queue(self, name: str) -> QueueState:
        """Return a queue; it is made on first use."""
        found = self.queues.get(name)
        if found is None:
            found = self.queues[name] = QueueState(name)
        return found

    def group(self, job: JobLife) -> Group:
        """Return the group of a job that is in one."""
        return self.queue(job.queue).groups.setdefault(job.group, Group())

    def add(self, job: JobLife) -> None:
        """Take up a new job, which has no state yet."""
        self.lives[job.id] = job
        self.queue(job.queue).enqueued += 1
        client_id = job.spec.get("client_id")
        if client_id:
            self.by_client_id[client_id] = job.id
        for parent in set(job.spec.get("after", ())):
            found = self.lives.get(parent)
            if found is not None and not is_final(found.state):
                job.waits_for.add(parent)
                self.children[parent].append(job.id)
            elif found is None or found.state != "DONE":
                job.is_failed = _cascades(job)
        if job.group:
            self.group(job).limit = job.spec.get("group_limit", 1)

    def move(self, job: JobLife, state: str, now_ms: int) -> None:
        """Put a job in another state; empty = it is gone."""
        queue = self.queue(job.queue)
        before, job.state = job.state, state
        if before == "READY":
            queue.ready.discard(job.order)
        if state == "READY":
            queue.ready.add(job.order)
        was_live = before in WAITING or before == "RESERVED"
        is_live = state in WAITING or state == "RESERVED"
        queue.depth += is_live - was_live
        queue.completed += state == "DONE"
        queue.reserved += (state == "RESERVED") - (before == "RESERVED")
        if before == "RESERVED":
            self.by_lease[job.lease].discard(job.id)
        if state == "RESERVED":
            self.by_lease[job.lease].add(job.id)
        if job.group:
            self._regroup(job, queue, is_live=is_live, was_live=was_live)
        if state != "SCHEDULED":
            job.due = None
        if was_live and not is_live:
            job.ended_ms = now_ms
            job.waits_for.clear()
            self._leave_children(job, state or "CANCELLED")
        if not state:
            self.gone[job.id] = self.lives.pop(job.id)

    def _regroup(
        self, job: JobLife, queue: QueueState, *, is_live: bool, was_live: bool
    ) -> None:
        group = self.group(job)
        if is_live:
            group.members.add(job.id)
        elif was_live:
            group.members.discard(job.id)
        if not group.members:
            del queue.groups[job.group]

    def _leave_children(self, job: JobLife, state: str) -> None:
        for number in self.children.pop(job.id, ()):
            child = self.lives.get(number)
            if child is None or job.id not in child.waits_for:
                continue
            child.waits_for.discard(job.id)
            if state != "DONE" and _cascades(child):
                child.is_failed = True

    def is_open(self, job: JobLife) -> bool:
        """Tell whether a job's group lets it be handed out now."""
        if not job.group:
            return True
        group = self.group(job)
        slots = group.limit
        waiting: list[int] = []
        for number in group.members:
            if self.lives[number].state == "RESERVED":
                slots -= 1
            else:
                waiting.append(number)
        if job.id not in group.members:
            waiting.append(job.id)
        return job.id in waiting[: max(0, slots)]

    def slots(self, queue: QueueState) -> int:
        """Return how many more jobs a queue may hand out now."""
        if queue.is_paused:
            return 0
        limit = queue.options["concurrency_max"]
        ready = len(queue.ready)
        return min(ready, max(0, limit - queue.reserved)) if limit else ready

    def first_ready(self, queue: QueueState, types: list[str]) -> int | None:
        """Return the next job of a queue of some types (empty: of any)."""
        for _, number in queue.ready:
            if not types or self.lives[number].spec.get("type", "") in types:
                return int(number)
        return None


def _cascades(job: JobLife) -> bool:
    return bool(job.spec.get("on_parent_failure", "CASCADE") == "CASCADE")
