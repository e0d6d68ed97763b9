"""Real nodes, each in a network, on a disk and at a time of its own.

A world is what faults happen to. The nodes are processes of raftd as they are
installed; clients live in the machine's own namespace and reach every node by its
address in a network that exists only while the world does.

Rules: methods block, call them from a thread where a loop runs. A node that a fault has
taken is left alone by the others until it is given back; a node that ends without
anybody expecting it is told by ``check``. Nothing outlives the world, also if its
process is killed: see ``leftovers``.

Source: RELIABILITY.md section 5 (set-up).
"""

from __future__ import annotations

import contextlib
import operator
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Literal

from raftpb.v1 import cluster_pb2
from tests.chaos.disks import fill, free, undo_unsynced
from tests.chaos.fault import Broken, Want
from tests.chaos.stage import Stage
from tests.e2e.tools import status_of

__all__ = ["Who", "World"]

_END_S: Final = 30.0
_POLL_S: Final = 0.02
_FREEZE_S: Final = 60.0

_Role = cluster_pb2.MemberStatus
_second = operator.itemgetter(1)

Who = Literal["leader", "follower", "any"]


class World(Stage):
    """Nodes of one cluster, and what faults do to them."""

    def __init__(
        self,
        folder: Path | None = None,
        size: int = 3,
        flags: Sequence[str] = (),
        *,
        seed: str = "0",
        wants: Collection[Want] = (),
    ) -> None:
        """Make network and disks: see ``Stage``."""
        self._taken: dict[int, str] = {}
        self._frozen: set[int] = set()
        super().__init__(folder, size, flags, seed=seed, wants=wants)

    # --- Looking ---------------------------------------------------------------------

    def files(self, node_id: int) -> Path:
        """The data directory of a node, as this process reaches it."""
        return self.ground.seen(self.data_dir(node_id))

    def said(self, node_id: int) -> str:
        """What a node has logged since it was last started."""
        path = self.folder / f"n{node_id}.log"
        with path.open("rb") as file:
            file.seek(self._log_offsets.get(node_id, 0))
            return file.read().decode(errors="replace")

    def is_running(self, node_id: int) -> bool:
        """Tell whether a node was started and has not ended."""
        process = self._running.get(node_id)
        return process is not None and process.poll() is None

    def statuses(
        self, nodes: Collection[int] = ()
    ) -> dict[int, cluster_pb2.MemberStatus]:
        """Ask these nodes, or all members, about themselves; who answers is there."""
        wanted = [n for n in nodes or self.members if self.is_running(n)]
        with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
            found = pool.map(lambda n: (n, status_of(self, n)), wanted)
            return {n: status for n, status in found if status is not None}

    def leader(self) -> int:
        """Return who leads with the highest term of those that answer; 0 = nobody."""
        leading = [
            (status.term, number)
            for number, status in self.statuses().items()
            if status.role == _Role.ROLE_LEADER
        ]
        return max(leading, default=(0, 0))[1]

    def wait_for_leader(self, deadline_s: float = _END_S) -> int:
        """Wait until somebody leads; returns who, 0 if nobody comes to."""
        end_s = time.monotonic() + deadline_s
        while not (leader := self.leader()) and time.monotonic() < end_s:
            time.sleep(_POLL_S)
        return leader

    def has_leader_within(self, nodes: Collection[int], deadline_s: float) -> bool:
        """Wait until most members, among these, follow one of these."""
        needed = len(self.members) // 2 + 1
        end_s = time.monotonic() + deadline_s
        while True:
            found = self.statuses(nodes)
            led_by = Counter(status.leader for status in found.values())
            leader, followers = max(
                ((n, led_by[n]) for n in found), key=_second, default=(0, 0)
            )
            is_leader = leader and found[leader].role == _Role.ROLE_LEADER
            if is_leader and followers >= needed:
                return True
            if time.monotonic() >= end_s:
                return False
            time.sleep(_POLL_S)

    def others_have_all(self, node_id: int, deadline_s: float) -> bool:
        """Wait until everybody else has whatever this member has at present.

        Returns:
            False if that did not come about.
        """
        found = self.statuses([node_id]).get(node_id)
        if found is None:
            return False
        others = [number for number in self.members if number != node_id]
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            indexes = [s.commit_index for s in self.statuses(others).values()]
            if len(indexes) == len(others) and min(indexes) >= found.last_index:
                return True
            time.sleep(_POLL_S)
        return False

    def wait_until_answers(self, node_id: int, deadline_s: float = _END_S) -> bool:
        """Wait until a node answers and knows a leader; tell whether it came to that.

        One that has ended answers no more.
        """
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s and self.is_running(node_id):
            status = self.statuses([node_id]).get(node_id)
            if status is not None and status.leader:
                return True
            time.sleep(_POLL_S)
        return False

    def check(self) -> None:
        """See that every node runs that should.

        Raises:
            Broken: One ended although no fault was to make it end.
        """
        for number, process in [*self._running.items()]:
            if process.poll() is not None and number not in self.ends_expected:
                last = "".join(self.said(number).splitlines()[-1:])
                raise Broken(f"node {number} ended ({process.returncode}): {last}")

    # --- Whom a fault is for ---------------------------------------------------------

    def take(self, rng: random.Random, who: Who, fault: str) -> int | None:
        """Choose a running member that no fault has taken, and take it.

        Args:
            rng: Draws it.
            who: What it should be; if nobody is, anybody.
            fault: Who takes it.

        Returns:
            None if no member is free.
        """
        free_ones = [
            n for n in self.members if n not in self._taken and self.is_running(n)
        ]
        if not free_ones:
            return None
        leader = self.leader() if who != "any" else 0
        wanted = [n for n in free_ones if (n == leader) == (who == "leader")]
        chosen = rng.choice(wanted if leader and wanted else free_ones)
        self._taken[chosen] = fault
        return chosen

    def take_this(self, node_id: int, fault: str) -> int:
        """Take a certain node, which must be free."""
        assert node_id not in self._taken, f"{self._taken[node_id]} has it"
        self._taken[node_id] = fault
        return node_id

    def take_all(self, fault: str) -> list[int]:
        """Take all members that are free, and return them."""
        found = [n for n in self.members if n not in self._taken]
        self._taken.update(dict.fromkeys(found, fault))
        return found

    def give_back(self, node_id: int | None) -> None:
        """Leave a node to other faults again."""
        if node_id is not None:
            self._taken.pop(node_id, None)

    def taken_by_others(self, fault: str) -> list[int]:
        """Return whom other faults have taken."""
        return [number for number, by in self._taken.items() if by != fault]

    def taken_but(self, node_id: int) -> list[int]:
        """Return who else has been taken."""
        return [number for number in self._taken if number != node_id]

    @property
    def taken(self) -> dict[int, str]:
        """Who has been taken by which fault."""
        return dict(self._taken)

    # --- Processes -------------------------------------------------------------------

    def expect_end(self, node_id: int) -> None:
        """Take note that a node may end by itself, until it is started again."""
        self.ends_expected.add(node_id)

    def wait_for_end(self, node_id: int, deadline_s: float = _END_S) -> int | None:
        """Wait until a node ends by itself; its exit code, None if it goes on."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._running[node_id].wait(deadline_s)
            del self._running[node_id]
            return code
        return None

    def see_one_sentence(self, node_id: int, code: int) -> str:
        """See that a node has ended as one does that knows why.

        Returns:
            What it said.

        Raises:
            Broken: It was another code than 1, a traceback, or not one sentence.
        """
        said = self.said(node_id)
        errors = [x for x in said.splitlines() if x.lower().startswith("error: ")]
        if code != 1 or len(errors) != 1 or "Traceback" in said:
            raise Broken(f"node {node_id} ended ({code}) with {said[-2000:]!r}")
        return errors[0]

    def end(self, *nodes: int) -> None:
        """Kill these nodes with kill -9, all at once; whoever has ended has ended."""
        found = [self._running[n] for n in nodes if n in self._running]
        for process in found:
            process.kill()
        self.resume_disks(*nodes)
        for process in found:
            process.wait()
        for node_id in nodes:
            self._running.pop(node_id, None)

    def ensure_running(self, node_id: int) -> None:
        """Start a node if it is a member and does not run."""
        if node_id in self.members and not self.is_running(node_id):
            self.end(node_id)
            self.start(node_id)

    def upgrade(self, node_id: int) -> None:
        """Stop a node of the release before, and start it as one of today."""
        self.expect_end(node_id)
        self.stop(node_id)
        self.previous.discard(node_id)
        self.start(node_id)

    def pause(self, node_id: int) -> None:
        """Stop a node where it is (SIGSTOP)."""
        self.signal(node_id, signal.SIGSTOP)

    def resume(self, node_id: int) -> None:
        """Let a stopped node go on."""
        if self.is_running(node_id):
            self.signal(node_id, signal.SIGCONT)

    # --- Disks -----------------------------------------------------------------------

    def freeze(self, node_id: int) -> None:
        """Freeze a node's file system: whoever writes there waits."""
        self._frozen.add(node_id)
        self._fsfreeze(node_id, "-f")

    def thaw(self, node_id: int) -> None:
        """Let them go on; nothing happens if it is not frozen."""
        if node_id in self._frozen:
            self._fsfreeze(node_id, "-u")
            self._frozen.discard(node_id)

    def fill(self, node_id: int) -> None:
        """Take all the room that is left on a node's disk."""
        fill(self.files(node_id))

    def free(self, node_id: int) -> None:
        """Give it back."""
        free(self.files(node_id))

    def resume_disks(self, *nodes: int) -> None:
        """Let the disks of these nodes, or all, work as they should."""
        for node_id in nodes or self.ids:
            self.pages[node_id].mend_disk()
            self.pages[node_id].crash_nowhere()
            self.thaw(node_id)
            self.free(node_id)

    def lose_power(self, rng: random.Random, *nodes: int) -> int:
        """Kill nodes, and take away what their disks had not been told to keep.

        Returns:
            How many writes were lost, whole or in part.
        """
        assert Want.UNSYNCED in self.wants, "else it is not known"
        self.end(*nodes)
        root = self.ground.seen(Path("/"))
        return sum(undo_unsynced(self._unsynced(n), root, rng) for n in nodes)

    # --- Clocks ----------------------------------------------------------------------

    def bend_clock(
        self, node_id: int, *, wall_shift_ms: int | None = None, rate_ppm: int = 0
    ) -> None:
        """Show a node another time: see ``Page.bend_clock``."""
        now_ns = time.monotonic_ns() + self._clocks_ahead_s[node_id] * 1_000_000_000
        self.pages[node_id].bend_clock(
            now_ns, wall_shift_ms=wall_shift_ms, rate_ppm=rate_ppm
        )

    def close(self) -> None:
        """Let every disk work, so that its writers can end; then end everything."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.resume_disks()
        super().close()

    def heal(self) -> None:
        """Take back everything, and start every member that does not run."""
        self.ground.clear_all()
        self.resume_disks()
        for node_id in self.ids:
            self.resume(node_id)
            if self.pages[node_id]["version"]:
                self.bend_clock(node_id, wall_shift_ms=0)
        self._taken.clear()
        for node_id in self.members:
            self.ensure_running(node_id)

    def _fsfreeze(self, node_id: int, flag: str) -> None:
        enter = self.ground.enter(node_id)[:2]
        command = [*enter, "fsfreeze", flag, str(self.data_dir(node_id))]
        subprocess.run(command, check=True, capture_output=True, timeout=_FREEZE_S)
