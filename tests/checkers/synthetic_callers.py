"""What the clients of a synthetic history do, each as a generator.

A script yields an `Ask` and is sent the `Reply`, or yields a `Pause`.

Source: RELIABILITY.md section 4 (many small names, unique values, few unknowns each).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from raftd.statemachine.schema.base import Fence, FenceKind
from raftd.statemachine.schema.elections import Campaign, Proclaim, Resign
from raftd.statemachine.schema.jobs import (
    CompleteJob,
    EnqueueJobs,
    ExtendJob,
    FailJob,
    JobSpec,
    ReleaseJob,
    ReserveJobs,
    SnoozeJob,
)
from raftd.statemachine.schema.kv import DeleteKey, DeleteRange, IncrementKey, PutKey
from raftd.statemachine.schema.locks import AcquireLock, LockMode, ReleaseLock
from raftd.statemachine.schema.txn import Compare, CompareTarget, Transact
from tests.checkers.history import as_text
from tests.checkers.logbook import args_of, name_of, plain

if TYPE_CHECKING:
    from raftd.statemachine.machine import Machine
    from raftd.statemachine.schema.entry import AnyCommand
    from tests.checkers.parts import Fields
    from tests.checkers.synthetic import Client, Synthetic

__all__ = ["ROLES", "Ask", "Pause", "Read", "Reply", "Script"]

_MARGIN_US: Final = 200_000
_KEYS: Final = 8
_PER_KEY: Final = 150


class Reply(msgspec.Struct):
    """How a call ended."""

    outcome: str
    answer: Fields = {}
    error: str = ""
    revision: int = 0

    @property
    def is_ok(self) -> bool:
        """Whether it happened and was answered."""
        return self.outcome == "ok"


class Ask(msgspec.Struct):
    """A write; a complete with operations is a transaction, and not told as one."""

    command: AnyCommand
    fences: tuple[Fence, ...] = ()
    is_complete: bool = False

    @property
    def told(self) -> tuple[str, Fields]:
        """What the history says was asked: a name and args."""
        if not self.is_complete:
            return name_of(self.command), args_of(self.command)
        completion, *ops = args_of(self.command)["then"]
        del completion["op"]
        return "complete", {**completion, "ops": ops}

    def answered(self, reply: Reply) -> Reply:
        """Return what the history says was answered."""
        if not self.is_complete or not reply.is_ok:
            return reply
        answer = reply.answer
        if not answer["has_succeeded"]:
            return Reply("refused", {}, "RESERVATION_LOST", reply.revision)
        return msgspec.structs.replace(reply, answer={"results": answer["results"][1:]})


class Read(msgspec.Struct):
    """A read, done when it arrives."""

    name: str
    args: Fields
    read: Callable[[Machine], Fields]


class Pause(msgspec.Struct):
    """Do nothing for a while."""

    us: int


Script = Generator[Ask | Read | Pause, Reply | None, None]
_Role = tuple[int, Callable[["Synthetic", "Client"], Script]]


def _get(key: bytes) -> Read:
    def read(machine: Machine) -> Fields:
        found: Any = machine.kv.get(key)
        return {"found": None if found is None else plain(found)}

    return Read("get", {"key": as_text(key)}, read)


def _range(start: bytes, end: bytes) -> Read:
    def read(machine: Machine) -> Fields:
        page: Any = machine.kv.range(start, end, 1000)
        return {"found": [plain(item) for item in page.items]}

    args: Fields = {"start": as_text(start), "end": as_text(end)}
    return Read("range", args, read)


# --- keys --------------------------------------------------------------------------


def _keys(world: Synthetic, client: Client) -> Script:
    """Read and write single keys, whose names change before they have too many."""
    rng = world.rng
    known: dict[bytes, int] = {}
    for turn in range(1_000_000):
        key = b"k/%d/%d" % (world.calls // (_PER_KEY * _KEYS), rng.randrange(_KEYS))
        value = f"{client.name}-{turn}".encode()
        world.calls += 1
        draw = rng.random()
        reply: Reply
        if draw < 0.4:
            reply = _sent((yield _get(key)))
            found = reply.answer.get("found") or {}
            known[key] = found.get("mod_rev", 0)
        elif draw < 0.7:
            reply = _sent((yield Ask(PutKey(key, value))))
            known[key] = reply.answer.get("mod_rev", 0)
        elif draw < 0.9:
            put = PutKey(key, value, if_mod_rev=known.get(key, 0))
            reply = _sent((yield Ask(put)))
        else:
            reply = _sent((yield Ask(DeleteKey(key, want_previous=True))))
        yield Pause(rng.randrange(1000, 20_000))


def _counters(world: Synthetic, client: Client) -> Script:
    """Count, list, delete ranges, and write several keys at once."""
    rng = world.rng
    for turn in range(1_000_000):
        key = b"n/%d" % (turn // 40)
        yield Ask(IncrementKey(key, rng.randrange(1, 5)))
        mine = b"t/%s/%d" % (client.name.encode(), turn % 3)
        value = b"%d" % turn
        draw = rng.random()
        if draw < 0.2:
            yield _range(b"t/", b"t0")
        elif draw < 0.25:
            yield Ask(DeleteRange(mine, mine + b"\xff"))
        elif draw < 0.6:
            exists = Compare(CompareTarget.EXISTS, key=mine, number=turn % 2)
            both = (PutKey(mine, value), IncrementKey(mine + b"#", 1))
            yield Ask(Transact((exists,), both, (DeleteKey(mine),)))
        else:
            yield Ask(PutKey(mine + b"!", value, client.session, want_previous=True))
        yield Pause(rng.randrange(3000, 30_000))


# --- claims ------------------------------------------------------------------------


def _locks(world: Synthetic, client: Client) -> Script:
    """Take locks, write to what they guard, and sleep too long now and then."""
    rng = world.rng
    for turn in range(1_000_000):
        what = rng.choice(["ex", "ex", "sh", "sem"])
        mode = {"ex": LockMode.EXCLUSIVE, "sh": LockMode.SHARED}.get(
            what, LockMode.SEMAPHORE
        )
        name = f"{what}/{turn // 30}"
        limit = 2 if mode is LockMode.SEMAPHORE else 1
        claimant = f"{client.name}-{turn}"
        wait_ms = rng.choice([0, 300, None])
        acquire = AcquireLock(
            name, client.session, claimant, mode, limit, wait_ms, rng.choice([0, 50])
        )
        reply = _sent((yield Ask(acquire)))
        if not reply.is_ok:
            if reply.error in {"LEASE_EXPIRED", "SESSION_EXPIRED"}:
                return
            yield Pause(rng.randrange(1000, 30_000))
            continue
        token = reply.answer["token"]
        yield from _hold(world, client, name, claimant, token, mode, limit)
        yield Ask(ReleaseLock(name, token))
        yield Pause(rng.randrange(1000, 30_000))


def _hold(
    world: Synthetic,
    client: Client,
    name: str,
    claimant: str,
    token: int,
    mode: LockMode,
    limit: int,
) -> Script:
    rng = world.rng
    recorder = world.recorder
    end_us = client.renewed_us + 2_000_000 - _MARGIN_US
    if world.now_us >= end_us:
        return
    belief = recorder.believe(
        "lock", name, client.who, claimant, token, mode=int(mode), limit=limit
    )
    fence = Fence(FenceKind.LOCK, name, token)
    yield Ask(PutKey(b"g/" + name.encode(), claimant.encode()), (fence,))
    if mode is LockMode.EXCLUSIVE:
        world.guard(name, client.who, token)
    if rng.random() < 0.04:
        client.is_awake = False
        end_us = client.renewed_us + 2_000_000 - _MARGIN_US
        recorder.doubt(belief, until_us=max(world.now_us, end_us))
        yield Pause(3_000_000)
        world.guard(name, client.who, token)
        world.renew_session(client)
        return
    yield Pause(rng.randrange(1000, 60_000))
    if mode is LockMode.EXCLUSIVE:
        world.guard(name, client.who, token)
    recorder.doubt(belief)


def _candidates(world: Synthetic, client: Client) -> Script:
    """Stand, say something, give up."""
    rng = world.rng
    for turn in range(1_000_000):
        name = f"e/{turn // 40}"
        claimant = f"{client.name}-{turn}"
        wait_ms = rng.choice([0, 500, None])
        campaign = Campaign(name, client.session, claimant, b"begin", wait_ms)
        reply = _sent((yield Ask(campaign)))
        if reply.is_ok:
            epoch = reply.answer["epoch"]
            belief = world.recorder.believe(
                "election", name, client.who, claimant, epoch
            )
            yield Ask(Proclaim(name, epoch, b"at work"))
            yield Pause(rng.randrange(1000, 60_000))
            world.recorder.doubt(belief)
            yield Ask(Resign(name, epoch))
        yield Pause(rng.randrange(1000, 40_000))


# --- jobs --------------------------------------------------------------------------


def _producers(world: Synthetic, client: Client) -> Script:
    """Enqueue jobs of every kind."""
    rng = world.rng
    parents: list[int] = []
    for turn in range(1_000_000):
        spec = JobSpec(
            "q",
            f"{client.name}-{turn}".encode(),
            type=rng.choice(["a", "b"]),
            priority=rng.choice([3, 5, 5]),
            delay_ms=rng.choice([None, None, 50, 400]),
            max_attempts=rng.choice([None, 2]),
            reservation_ms=rng.choice([None, 150]),
            backoff_base_ms=100,
            client_id=f"{client.name}/{turn}",
            group=rng.choice(["", "", "g1", "g2"]),
            after=tuple(parents) if rng.random() < 0.1 else (),
        )
        reply = _sent((yield Ask(EnqueueJobs((spec,)))))
        parents = list(reply.answer.get("ids", parents))
        yield Pause(rng.randrange(10_000, 60_000))


def _workers(world: Synthetic, client: Client) -> Script:
    """Reserve, and do with the jobs whatever one may do."""
    rng = world.rng
    while True:
        types = rng.choice([(), (), ("a",)])
        most = rng.choice([1, 1, 3])
        queues = (("q", 1),)
        reserve = ReserveJobs(client.session, queues, client.name, most, types=types)
        reply = _sent((yield Ask(reserve)))
        for job in reply.answer.get("jobs", []):
            if rng.random() < 0.3:
                yield Ask(ExtendJob(job["id"], job["token"]))
            yield Pause(rng.randrange(1000, 80_000))
            command = _end_of(world, job["id"], job["token"])
            if command is not None:
                is_complete = isinstance(command, Transact) and job["id"] % 4 > 0
                yield Ask(command, is_complete=is_complete)
        yield Pause(rng.randrange(5000, 40_000))


def _end_of(world: Synthetic, job: int, token: int) -> AnyCommand | None:
    draw = world.rng.random()
    if draw < 0.5:
        done = (CompleteJob(job, token, b"done"), IncrementKey(b"done/q", 1))
        held = Compare(CompareTarget.RESERVATION_HELD, job=job, number=token)
        return Transact((held,), done)
    if draw < 0.6:
        return CompleteJob(job, token)
    if draw < 0.75:
        return FailJob(job, token, "no luck")
    if draw < 0.82:
        return SnoozeJob(job, token, 100)
    return ReleaseJob(job, token) if draw < 0.9 else None


def _sent(reply: Reply | None) -> Reply:
    assert reply is not None
    return reply


ROLES: Final[dict[str, _Role]] = {
    "keys": (4, _keys),
    "counters": (2, _counters),
    "locks": (4, _locks),
    "candidates": (3, _candidates),
    "producers": (2, _producers),
    "workers": (3, _workers),
}
"""How many clients do what."""
