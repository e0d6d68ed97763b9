"""Drives one machine as a leader would: stamps, numbers, marks, and a disk of rows."""

from raftd.statemachine.answers import Answer, AppliedEntry
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.rows import Checkpoint
from raftd.statemachine.schema.base import Fence, Reason, Refusal
from raftd.statemachine.schema.entry import AnyCommand, MarkEntry, encode_batch, seal
from raftd.statemachine.schema.kv import KeyValue
from raftd.statemachine.schema.leases import GrantLease, LeaseGranted
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened

__all__ = ["Disk", "Harness", "refusal"]

Disk = dict[tuple[int, bytes], bytes]


class Harness:
    """A machine, its log, and what its checkpoints wrote."""

    def __init__(
        self, limits: Limits = DEFAULT_LIMITS, machine: Machine | None = None
    ) -> None:
        self.machine = machine if machine is not None else Machine(limits)
        self.now_ms = 1000
        self.wall_ms = 5000
        self.payloads: list[bytes] = []
        self.disk: Disk = {}

    def apply(self, payload: bytes) -> AppliedEntry:
        self.payloads.append(payload)
        return self.machine.apply(self.machine.applied_index + 1, payload)

    def entry(
        self,
        *commands: AnyCommand,
        renewals: tuple[int, ...] = (),
        after_ms: int = 0,
        fences: tuple[Fence, ...] = (),
    ) -> AppliedEntry:
        """Apply unnumbered commands as one entry, ``after_ms`` later."""
        self.now_ms += after_ms
        self.wall_ms += after_ms
        requests = [seal(0, 0, 0, command, fences) for command in commands]
        return self.apply(encode_batch(self.now_ms, self.wall_ms, renewals, requests))

    def do(self, command: AnyCommand, *fences: Fence) -> Answer:
        """Apply one unnumbered command as one entry."""
        return self.entry(command, fences=fences).answers[0]

    def send(
        self, session: int, number: int, command: AnyCommand, acknowledged: int = 0
    ) -> Answer:
        """Apply one numbered write as one entry."""
        request = seal(session, number, acknowledged, command)
        return self.apply(
            encode_batch(self.now_ms, self.wall_ms, (), [request])
        ).answers[0]

    def open(self, key_hash: bytes = b"k" * 16, ttl_ms: int = 10_000) -> int:
        """Open a session."""
        answer = self.do(OpenSession(key_hash, ttl_ms, "test"))
        assert isinstance(answer, SessionOpened)
        return answer.session

    def grant(self, ttl_ms: int = 10_000) -> int:
        """Grant a lease."""
        answer = self.do(GrantLease(ttl_ms, "test"))
        assert isinstance(answer, LeaseGranted)
        return answer.lease

    def value(self, key: bytes) -> bytes | None:
        """Read the present value of a key."""
        found = self.machine.kv.get(key)
        assert not isinstance(found, Refusal)
        return found.value if found is not None else None

    def record(self, key: bytes) -> KeyValue:
        """Read a present key."""
        found = self.machine.kv.get(key)
        assert isinstance(found, KeyValue)
        return found

    def mark(self) -> Checkpoint:
        """Apply a mark and begin its checkpoint."""
        machine = self.machine
        applied = self.entry(MarkEntry(machine.digest_index, machine.digest, 0))
        assert applied.mark is not None
        return machine.take_checkpoint()

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint's rows to the disk."""
        for table, key, value in checkpoint.rows():
            if value is None:
                self.disk.pop((table, key), None)
            else:
                self.disk[table, key] = value
        self.machine.checkpoint_written()

    def save(self) -> Disk:
        """Mark, write, and return a copy of all rows."""
        self.write(self.mark())
        return dict(self.disk)

    def reload(self, limits: Limits = DEFAULT_LIMITS) -> "Harness":
        """Return a harness around a machine loaded from the disk as it is."""
        machine = Machine.load(
            limits,
            [(table, key, value) for (table, key), value in self.disk.items()],
            index=self.machine.digest_index,
            digest=self.machine.digest,
        )
        other = Harness(machine=machine)
        other.now_ms, other.wall_ms = self.now_ms, self.wall_ms
        other.disk = dict(self.disk)
        return other


def refusal(answer: object) -> Reason:
    """Return the reason of an answer that must be a refusal."""
    assert isinstance(answer, Refusal), answer
    return answer.reason
