"""What every peer offers: a system that is measured beside ours.

Rules: a peer runs with its defaults, its data in the folder it is given, its servers
on loopback, and is loaded by its own best client in a process of its own. A run is a
closed loop, warmed up and measured as ``measure`` does ours; operations that end
within the warm-up are proved, not measured. Each run proves what it did before it
tells a figure. Nothing of a peer survives the process that started it.

Source: PERFORMANCE.md; ``peers.known`` lists the peers there are.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

__all__ = ["HOLD_S", "FailoverPeer", "Peer", "PeerFailed", "PeerMissing", "Run"]

#: How long a contended lock is held, so that another waits when it is released. A watch
#: of etcd takes up to 100 ms until it tells of things at once: held for less, its locks
#: are handed over that much later.
HOLD_S: Final = 0.15


class PeerMissing(Exception):
    """The peer is not on this machine; the sentence says what to install."""


class PeerFailed(Exception):
    """The peer did not come up, or did not do what it acknowledged."""


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """One run of one workload; the same fields as ``measure.Measured``.

    Attributes:
        operations: That ended within the measured time.
        rate: Operations per second.
        p50_us: Of an operation, as its task saw it; of ``handover``, from the call
            that releases to the next holder's return from its acquire.
        p99_us: Of the slowest hundredth.
        cpu_us: Processor time per operation, by process: "client", and "leader",
            "follower 1", ... or "server".
    """

    operations: int
    rate: float
    p50_us: float
    p99_us: float
    cpu_us: dict[str, float]


class Peer(Protocol):
    """One system beside ours, with its servers and its load program."""

    @property
    def name(self) -> str:
        """What to call it in a table, with the settings that are not its defaults."""

    @property
    def version(self) -> str:
        """Of the installed server; empty before ``start``."""

    @property
    def measures(self) -> frozenset[str]:
        """The workloads it can run, by our names.

        put-1 put-64 put-1000 get-64 get-1000 lock-64 handover job-64
        job-64-connections. In ``handover`` each task contends for the same lock,
        keeps it for ``HOLD_S``, and releases it; its operations are hand-overs.
        """

    async def start(self, folder: Path) -> None:
        """Build the load program if needed, start the servers, wait until they serve.

        Args:
            folder: For data and logs, on the disk that is to be measured.

        Raises:
            PeerMissing: It is not installed: leave it out and tell the sentence.
            PeerFailed: It did not come up: tell the sentence and the log's end.
        """

    async def run(
        self, measure: str, tasks: int, *, warm_up_s: float, measured_s: float
    ) -> Run:
        """Run a workload with so many tasks; wakes the servers if they rest.

        Raises:
            PeerFailed: It did not do what it acknowledged; there is no figure.
        """

    def rest(self) -> None:
        """Stop the processes where they are (SIGSTOP) until the next run."""

    async def stop(self) -> None:
        """End all processes; may be called twice, or before ``start``."""


@runtime_checkable
class FailoverPeer(Peer, Protocol):
    """A peer whose pause without a leader is compared with ours."""

    async def kill_leader(self) -> float:
        """Kill the leader (kill -9) under a writer, then bring it back.

        Returns:
            Seconds from the kill to the acknowledgement of a write begun after it.

        Raises:
            PeerFailed: No write was acknowledged, or one was lost.
        """
