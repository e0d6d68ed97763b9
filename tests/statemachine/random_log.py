"""Random logs from a seed: what a busy cluster's leader might have proposed.

Run as a program it applies the log of a seed and prints a digest of all that came out,
so that two processes can be compared.
"""

import hashlib
import random
import sys
from collections.abc import Iterator

from raftd.statemachine.answers import AppliedEntry
from raftd.statemachine.limits import Limits
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Fence, FenceKind
from raftd.statemachine.schema.elections import (
    Campaign,
    CampaignWon,
    Proclaim,
    Resign,
    TransferElection,
    WithdrawCampaign,
)
from raftd.statemachine.schema.entry import (
    AnyCommand,
    MarkEntry,
    encode_batch,
    seal,
)
from raftd.statemachine.schema.kv import (
    CompactHistory,
    DeleteKey,
    DeleteRange,
    GetKey,
    IncrementKey,
    PutKey,
)
from raftd.statemachine.schema.leases import GrantLease, RevokeLease
from raftd.statemachine.schema.locks import (
    AcquireLock,
    BreakLock,
    CancelAcquire,
    LockGranted,
    LockMode,
    ReleaseLock,
)
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionOpened,
)
from raftd.statemachine.schema.txn import Compare, CompareTarget, Op, Transact

__all__ = ["LIMITS", "random_log", "run"]

LIMITS = Limits(
    work_rows_max=5,
    window_answers_max=20,
    lease_attachments_max=6,
    dedup_ms=9000,
    history_revisions_min=40,
    history_ms_max=2000,
    range_delete_keys_max=12,
    state_bytes_max=14_000,
)


class _Source:
    """Draws commands whose ids are often, not always, such as exist."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.revision = 1
        self.live: list[int] = []
        self.sessions: list[int] = []
        self.numbers: dict[int, int] = {}
        self.tokens: list[int] = [0]

    def learn(self, machine: Machine, applied: AppliedEntry) -> None:
        """Note what exists now."""
        self.revision = machine.revision
        self.live = machine.leases.ids()
        ends = [decision.answer for decision in applied.decided]
        for answer in (*applied.answers, *ends):
            if isinstance(answer, LockGranted):
                self.tokens = [*self.tokens[-3:], answer.token]
            if isinstance(answer, CampaignWon):
                self.tokens = [*self.tokens[-3:], answer.epoch]
            if isinstance(answer, SessionOpened) and answer.is_new:
                self.sessions = [*self.sessions[-4:], answer.session]

    def key(self) -> bytes:
        return b"k%02d" % self.random.randrange(24)

    def lease(self) -> int:
        if self.live and self.random.random() < 0.8:
            return self.random.choice(self.live)
        return self.random.randrange(1, self.revision + 2)

    def session(self) -> int:
        if self.sessions and self.random.random() < 0.95:
            return self.random.choice(self.sessions)
        return self.lease()

    def some_lease(self) -> int:
        return self.lease() if self.random.random() < 0.3 else 0

    def key_op(self) -> PutKey | DeleteKey | DeleteRange | IncrementKey:
        draw = self.random.random()
        if draw < 0.5:
            value = b"v" * self.random.randrange(60)
            expected = self.lease() if self.random.random() < 0.1 else None
            return PutKey(self.key(), value, self.some_lease(), expected)
        if draw < 0.7:
            return DeleteKey(self.key())
        if draw < 0.8:
            return DeleteRange(self.key(), self.key())
        return IncrementKey(self.key(), self.random.randrange(9), self.some_lease())

    def lock_command(self) -> AnyCommand:
        name = self.random.choice(["x", "y"])
        lease, claimant = self.lease(), self.random.choice("abc")
        wait_ms = self.random.choice([0, 50, 1500, None])
        draw = self.random.random()
        if draw < 0.55:
            mode = self.random.choice([LockMode.EXCLUSIVE, LockMode.SHARED])
            delay_ms = self.random.choice([0, 0, 700])
            return AcquireLock(name, lease, claimant, mode, 1, wait_ms, delay_ms)
        if draw < 0.65:
            return CancelAcquire(name, lease, claimant)
        if draw < 0.93:
            return ReleaseLock(name, self.random.choice(self.tokens))
        return BreakLock(name)

    def election_command(self) -> AnyCommand:
        lease, claimant = self.lease(), self.random.choice("abc")
        epoch = self.random.choice(self.tokens)
        draw = self.random.random()
        if draw < 0.5:
            wait_ms = self.random.choice([0, 50, 1500, None])
            return Campaign("e", lease, claimant, b"value", wait_ms)
        if draw < 0.6:
            return WithdrawCampaign("e", lease, claimant)
        if draw < 0.75:
            return Proclaim("e", epoch, b"other")
        if draw < 0.9:
            return Resign("e", epoch)
        return TransferElection("e", claimant)

    def transaction(self) -> Transact:
        ops: list[Op] = [self.key_op() for _ in range(self.random.randrange(5))]
        ops.append(GetKey(self.key()))
        if self.random.random() < 0.2:
            ops.append(ReleaseLock("x", self.random.choice(self.tokens)))
        if self.random.random() < 0.1:
            ops.append(Resign("e", self.random.choice(self.tokens)))
        target = self.random.choice([CompareTarget.EXISTS, CompareTarget.LEASE_ALIVE])
        compare = Compare(target, key=self.key(), number=self.random.randrange(9))
        return Transact((compare,), tuple(ops), tuple(reversed(ops)))

    def command(self) -> AnyCommand:
        draw = self.random.random()
        if draw < 0.2:
            return self.lock_command()
        if draw < 0.3:
            return self.election_command()
        if draw < 0.55:
            return self.key_op()
        if draw < 0.7:
            return self.transaction()
        if draw < 0.8:
            return GrantLease(self.random.randrange(900, 6000), "random")
        if draw < 0.82:
            return RevokeLease(self.lease())
        if draw < 0.92:
            key_hash = bytes([self.random.randrange(6)]) * 16
            return OpenSession(key_hash, self.random.randrange(1000, 5000), "random")
        if draw < 0.94:
            return CloseSession(self.session())
        if draw < 0.95:
            return DeleteRange(b"", b"")
        return CompactHistory(self.random.randrange(self.revision + 2))

    def fences(self) -> tuple[Fence, ...]:
        if self.random.random() < 0.9:
            return ()
        kind = self.random.choice(list(FenceKind))
        return (Fence(kind, "name", self.lease()),)


def random_log(seed: int, entries: int) -> Iterator[tuple[bytes, bool]]:
    """Yield payloads, and whether each is a mark.

    The source applies them to a machine of its own, to know ids that exist.
    """
    source = _Source(seed)
    draw = source.random
    machine = Machine(LIMITS)
    now_ms = 0
    for index in range(1, entries + 1):
        now_ms += draw.choice([0, 0, 0, 1, 20, 100, 900])
        if draw.random() < 0.03:
            payload, is_mark = b"", False
        else:
            requests = []
            is_mark = draw.random() < 0.1
            for _ in range(draw.randrange(6)):
                session = number = acknowledged = 0
                if draw.random() < 0.5:
                    session = source.session()
                    number = source.numbers.get(session, 0) + draw.randrange(3)
                    source.numbers[session] = number
                    acknowledged = max(0, number - draw.randrange(30))
                requests.append(
                    seal(
                        session, number, acknowledged, source.command(), source.fences()
                    )
                )
            if is_mark:
                requests.append(seal(0, 0, 0, MarkEntry(0, b"", 0)))
            renewals = tuple(source.lease() for _ in range(draw.randrange(4)))
            payload = encode_batch(now_ms, now_ms * 2, renewals, requests)
        source.learn(machine, machine.apply(index, payload))
        if is_mark:
            machine.take_checkpoint().finish()
        yield payload, is_mark


def run(seed: int, entries: int) -> str:
    """Apply a random log and return a digest of its answers, events and rows."""
    machine = Machine(LIMITS)
    digest = hashlib.blake2b()
    for index, (payload, is_mark) in enumerate(random_log(seed, entries), start=1):
        applied: AppliedEntry = machine.apply(index, payload)
        digest.update(repr(applied).encode())
        if is_mark:
            checkpoint = machine.take_checkpoint()
            for row in checkpoint.rows():
                digest.update(repr(row).encode())
            digest.update(checkpoint.digest)
    return digest.hexdigest()


if __name__ == "__main__":
    sys.stdout.write(run(int(sys.argv[1]), int(sys.argv[2])))
