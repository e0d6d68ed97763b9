"""Whole nodes in one process: what they promise together, with real files and links."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from raftd.node.errors import NodeFailed
from raftd.node.service import WatchKind, WatchSpec, WriteCall
from raftd.node.writes import hash_key
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.jobs import (
    EnqueueJobs,
    JobSpec,
    JobsReserved,
    ReserveJobs,
)
from raftd.statemachine.schema.kv import IncrementKey, KeyIncremented, KeyPut, PutKey
from raftd.statemachine.schema.leases import (
    GrantLease,
    LeaseGranted,
    LeaseRevoked,
    RevokeLease,
)
from raftd.statemachine.schema.sessions import OpenSession, SessionOpened
from tests.node.cluster import IMPATIENT, Cluster
from tests.node.snapshot_tools import put

_KEY = b"k" * 16


def _put(key: bytes, value: bytes = b"v") -> WriteCall:
    return WriteCall(command=PutKey(key, value))


def _value(machine: Machine, key: bytes) -> bytes | None:
    found = machine.kv.find(key)
    return found.value if found is not None else None


async def test_any_member_takes_writes_and_linearizable_reads(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        for node in (leader, follower):
            answered = await node.write(_put(b"%d" % node.node_id), 10)
            assert isinstance(answered.answer, KeyPut)
            for reader in (leader, follower):
                key = b"%d" % node.node_id
                read = await reader.read(partial(_value, key=key), timeout_s=10)
                assert read.value == b"v"


async def test_a_stopped_leader_hands_over_and_comes_back(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        old = await cluster.leader()
        await old.write(_put(b"a", b"1"), 10)
        await cluster.stop(old.node_id)
        new = await cluster.leader()
        assert new.node_id != old.node_id
        await new.write(_put(b"a", b"2"), 10)
        await cluster.start(old.node_id)
        await cluster.applied_everywhere()
        again = cluster.node(old.node_id)
        assert _value(again.machine, b"a") == b"2"
        assert again.machine.revision == new.machine.revision


async def test_all_restart_from_disk_with_everything_acknowledged(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        revision = 0
        for index in range(50):
            revision = (await leader.write(_put(b"%d" % index), 10)).revision
        await cluster.stop()
        await cluster.start()
        await cluster.leader()
        await cluster.applied_everywhere()
        for node_id in (1, 2, 3):
            machine = cluster.node(node_id).machine
            assert machine.revision == revision
            assert machine.kv.count_all == 50


async def test_a_numbered_write_sent_twice_is_applied_once(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        opened = await leader.write(
            WriteCall(command=OpenSession(hash_key(_KEY), 10_000, "me")), 10
        )
        assert isinstance(opened.answer, SessionOpened)
        call = WriteCall(
            command=IncrementKey(b"n", 1),
            session=opened.answer.session,
            session_key=_KEY,
            number=1,
        )
        first = await leader.write(call, 10)
        second = await follower.write(call, 10)
        assert first.answer == second.answer
        assert isinstance(first.answer, KeyIncremented)
        assert first.answer.value == 1


async def test_a_wrong_session_key_is_denied_on_any_member(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        opened = await leader.write(
            WriteCall(command=OpenSession(hash_key(_KEY), 10_000, "me")), 10
        )
        assert isinstance(opened.answer, SessionOpened)
        session = opened.answer.session
        for node in (leader, follower):
            answered = await node.write(
                WriteCall(
                    command=PutKey(b"a", b""),
                    session=session,
                    session_key=b"x" * 16,
                    number=1,
                ),
                10,
            )
            assert isinstance(answered.answer, Refusal)
            assert answered.answer.reason is Reason.DENIED
            told = await node.keep_alive(session, b"x" * 16)
            assert isinstance(told, Refusal)
            assert told.reason is Reason.DENIED
            assert await node.keep_alive(session, _KEY) == 10_000


async def test_a_renewal_overtaken_by_a_revocation_is_refused(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        for node in (leader, follower) * 20:
            granted = await leader.write(WriteCall(command=GrantLease(5000, "")), 10)
            assert isinstance(granted.answer, LeaseGranted)
            lease = granted.answer.lease
            told, revoked, late = await asyncio.gather(
                node.keep_alive(lease, b""),
                leader.write(WriteCall(command=RevokeLease(lease)), 10),
                node.keep_alive(lease, b""),
            )
            assert isinstance(revoked.answer, LeaseRevoked)
            for each in (told, late):
                assert each == 5000 or (
                    isinstance(each, Refusal) and each.reason is Reason.LEASE_EXPIRED
                )


async def test_without_a_majority_writes_end_at_their_deadline_and_say_how(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, **IMPATIENT) as cluster:
        leader = await cluster.leader()
        await leader.write(_put(b"a", b"1"), 10)
        others = [n for n in (1, 2, 3) if n != leader.node_id]
        await cluster.stop(*others)
        proposed = await leader.write(_put(b"a", b"2"), 0.1)
        assert isinstance(proposed.answer, Refusal)
        assert proposed.answer.reason is Reason.DEADLINE
        assert proposed.answer.details["applied"] in {"unknown", "no"}
        while leader.leader:
            await leader.leader_changed()
        never = await leader.write(_put(b"a", b"3"), 0.1)
        assert isinstance(never.answer, Refusal)
        assert never.answer.details["applied"] == "no"
        stale = await leader.read(lambda m: _value(m, b"a"), is_stale=True)
        assert stale.value == b"1"
        assert stale.age_ms > 0
        await cluster.start(*others)
        assert await put(await cluster.leader(), b"b")


async def test_at_a_mark_all_store_checkpoints_agree_and_cut_their_logs(
    tmp_path: Path,
) -> None:
    async with Cluster(
        tmp_path, checkpoint_log_bytes=65_536, checkpoint_interval_ms=600_000
    ) as cluster:
        leader = await cluster.leader()
        for index in range(150):
            await leader.write(_put(b"%d" % (index % 10), b"v" * 2000), 10)
        while True:
            states = await leader.status(is_for_all=True)
            if all(state.compared_index and state.first_index > 1 for state in states):
                break
            await leader.write(_put(b"more", b"v" * 2000), 10)
        assert all(not state.trouble for state in states)
        await leader.write(_put(b"last"), 10)
        keys = (await leader.read(lambda m: m.kv.count_all, timeout_s=10)).value
        await cluster.stop()
        await cluster.start()
        await cluster.leader()
        await cluster.applied_everywhere()
        rows = {cluster.node(n).machine.kv.count_all for n in (1, 2, 3)}
        assert rows == {keys}


async def test_a_watch_on_a_follower_sees_every_change_once_and_in_order(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        leader, follower = await cluster.leader(), await cluster.follower()
        watch = follower.watch(
            WatchSpec(keep=lambda _: True, snapshot=lambda _: [], from_rev=1)
        )
        assert not isinstance(watch, Refusal)
        revisions = [
            (await leader.write(_put(b"%d" % index), 10)).revision
            for index in range(20)
        ]
        seen: list[int] = []
        while len(seen) < 20:
            batch = await watch.next()
            if batch.kind is WatchKind.EVENTS:
                seen += [event.mod_rev for event in batch.items]
        watch.close()
        assert seen == revisions


async def test_a_blank_disk_under_a_known_name_stops_with_one_sentence(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path) as cluster:
        follower = await cluster.follower()
        node_id = follower.node_id
        await cluster.stop(node_id)
        data = tmp_path / f"n{node_id}"
        for path in data.iterdir():
            path.unlink()
        with pytest.raises(NodeFailed, match="another incarnation"):
            async with asyncio.timeout(20):
                await cluster.start(node_id)


async def test_a_lease_outlives_a_leader_change_and_then_ends(tmp_path: Path) -> None:
    async with Cluster(tmp_path) as cluster:
        leader = await cluster.leader()
        # Long beside a leader's stop and the election, on a machine that is busy.
        opened = await leader.write(
            WriteCall(command=OpenSession(hash_key(_KEY), 4000, "me")), 10
        )
        assert isinstance(opened.answer, SessionOpened)
        session = opened.answer.session
        await leader.write(WriteCall(command=PutKey(b"mine", b"", lease=session)), 10)
        await cluster.stop(leader.node_id)
        new = await cluster.leader()
        assert new.machine.leases.is_alive(session)
        watch = new.watch(
            WatchSpec(keep=lambda _: True, snapshot=lambda _: [], from_rev=0)
        )
        assert not isinstance(watch, Refusal)
        while new.machine.leases.is_alive(session):
            await watch.next()
        assert _value(new.machine, b"mine") is None


@pytest.mark.parametrize("is_forwarded", [False, True])
async def test_a_waiting_reserve_sent_again_gets_its_first_answer(
    tmp_path: Path, is_forwarded: bool
) -> None:
    async with Cluster(tmp_path, size=3 if is_forwarded else 1) as cluster:
        node = await (cluster.follower() if is_forwarded else cluster.leader())
        opened = await node.write(
            WriteCall(command=OpenSession(hash_key(_KEY), 10_000, "me")), 10
        )
        assert isinstance(opened.answer, SessionOpened)
        session = opened.answer.session
        call = WriteCall(
            command=ReserveJobs(session, (("q", 1),), "me"),
            session=session,
            session_key=_KEY,
            number=1,
            wait_ms=None,
        )
        waiting = asyncio.create_task(node.write(call, 10))
        await node.write(WriteCall(command=EnqueueJobs((JobSpec("q", b"p"),))), 10)
        first = await waiting
        again = await node.write(call, 10)
        assert isinstance(first.answer, JobsReserved)
        assert isinstance(again.answer, JobsReserved)
        assert [(job.id, job.token) for job in first.answer.jobs] == [
            (job.id, job.token) for job in again.answer.jobs
        ]


async def test_a_reserve_of_a_dead_session_is_refused_and_does_not_wait(
    tmp_path: Path,
) -> None:
    async with Cluster(tmp_path, size=1) as cluster:
        node = await cluster.leader()
        answered = await node.write(
            WriteCall(command=ReserveJobs(99, (("q", 1),), "me"), wait_ms=None), 10
        )
        assert isinstance(answered.answer, Refusal)
        assert answered.answer.reason is Reason.LEASE_EXPIRED
