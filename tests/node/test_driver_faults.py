"""What three members do when the disk of one hangs, is slow, is full, or fails.

Every acknowledged put is on all members at the end, and is there once.

Source: RELIABILITY.md rules 12, 14, 49 and 51; section 5 (slow, hung, full disk, EIO).
"""

from __future__ import annotations

import asyncio
import logging

import pytest

from raftd.consensus.messages import Heartbeat
from raftd.consensus.types import (
    ChangeKind,
    ConfigChange,
    ConfigStep,
    Index,
    Proposal,
    Role,
)
from raftd.node.refusals import DISK_FULL, HANDING_OVER
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.kv import IncrementKey, KeyIncremented, KeyPut
from tests.node.trio import BALLAST, ELECTION_MS, MARGIN, Member, Trio, sync_failed
from tests.node.virtual_loop import in_virtual_time


async def count(member: Member) -> int:
    """Count one up, and say to what: here, or who leads when this one leads no more."""
    while True:
        answer = await member.do(IncrementKey(b"n", 1))
        if isinstance(answer, KeyIncremented):
            return answer.value
        assert isinstance(answer, Refusal), answer
        assert answer.reason in {Reason.NOT_LEADER, Reason.NO_LEADER}, "not applied"
        await member.trio.turn()
        member = await member.trio.leader()


# --- a disk that hangs ------------------------------------------------------------


@in_virtual_time
async def test_a_leader_whose_disk_hangs_hands_over_before_it_steps_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with Trio() as trio:
        old = await trio.leader()
        assert await count(old) == 1
        old.disk.hang()
        assert await count(old) == 2, "the followers are a majority"
        new = await trio.leader(but=old)
        assert f"hand_over to={new.node_id}" in caplog.text
        assert "step_down" not in caplog.text
        assert old.core.unfit
        assert await count(new) == 3
        assert old.core.durable_index < new.core.durable_index
        old.disk.go_on()
        await trio.caught_up()
        await trio.until(lambda: not old.core.unfit)


@in_virtual_time
async def test_a_leader_whose_disk_hangs_steps_down_if_nobody_takes_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Trio() as trio:
        old = await trio.leader()
        assert await count(old) == 1
        for member in trio.members:
            member.disk.hang()
        lost = asyncio.create_task(count(old))
        await trio.until(lambda: old.core.role is not Role.LEADER)
        assert "step_down" in caplog.text
        sent = old.sent
        begin = old.core.role_ticks
        await trio.until(lambda: old.core.role_ticks > begin + 5)
        assert old.sent == sent, "no heartbeat, no campaign"
        for member in trio.members:
            member.disk.go_on()
        new = await trio.leader()
        await trio.caught_up()
        assert await count(new) in {2, 3}, "it was in the log, or it was not"
        lost.cancel()


@in_virtual_time
async def test_a_follower_whose_disk_hangs_does_not_campaign_and_holds_nobody_up() -> (
    None
):
    async with Trio() as trio:
        leader = await trio.leader()
        hung, sound = trio.others(leader)
        hung.disk.hang()
        for number in range(1, 4):
            assert await count(leader) == number
        await trio.until(lambda: hung.core.unfit)
        assert await count(leader) == 4
        leader.is_cut_off = True
        await trio.until(lambda: sound.core.role is Role.CANDIDATE)
        assert hung.core.role is Role.FOLLOWER
        assert hung.core.vote != sound.node_id or hung.core.durable_index == 1
        hung.disk.go_on()
        assert await trio.leader(but=leader) is sound
        leader.is_cut_off = False
        await trio.caught_up()


@in_virtual_time
async def test_proposals_during_a_hand_over_are_refused_by_its_name() -> None:
    async with Trio() as trio:
        leader = await trio.leader()
        await count(leader)
        await trio.caught_up()
        for other in trio.others(leader):
            other.core.unfit = True
            other.driver.caretaker.on_tick = lambda *_: None  # type: ignore[method-assign]  # stays unfit
        leader.driver.hand_over()
        assert await leader.put(b"k") == HANDING_OVER
        await trio.until(lambda: leader.core.transfer_target is None)
        assert isinstance(await leader.put(b"k"), KeyPut), "it was given up"


@in_virtual_time
async def test_who_did_not_take_over_is_not_the_next_to_be_asked(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with Trio() as trio:
        leader = await trio.leader()
        await count(leader)
        await trio.caught_up()
        for other in trio.others(leader):
            other.core.unfit = True
            other.driver.caretaker.on_tick = lambda *_: None  # type: ignore[method-assign]  # stays unfit
        for _ in range(2):
            leader.driver.hand_over()
            await trio.until(lambda: leader.core.transfer_target is None)
    asked = [x for x in caplog.messages if x.startswith("hand_over to=")]
    assert len(set(asked)) == 2


# --- a disk that is slow ----------------------------------------------------------


@in_virtual_time
async def test_a_leader_whose_disk_is_far_slower_hands_over_for_good() -> None:
    async with Trio() as trio:
        old = await trio.leader()
        old.disk.delay_s = ELECTION_MS / 5 / 1000
        number = 0
        while old.leads:
            answer = await old.do(IncrementKey(b"n", 1))
            if not isinstance(answer, KeyIncremented):
                break
            assert answer.value == number + 1
            number = answer.value
        new = await trio.leader(but=old)
        assert not old.core.unfit, "slow, but better than nobody"
        terms = new.core.term
        for _ in range(50):
            number += 1
            assert await count(new) == number
        assert new.core.term == terms, "the quick one keeps it"
        old.disk.delay_s = 0
        await trio.caught_up()


# --- a disk that is full ----------------------------------------------------------


@in_virtual_time
async def test_a_leader_whose_disk_fills_up_hands_over_and_loses_nothing() -> None:
    async with Trio() as trio:
        old = await trio.leader()
        assert await count(old) == 1
        old.disk.fill_up()
        assert await count(old) == 2, "what was taken in is carried out"
        new = await trio.leader(but=old)
        full_at = old.core.last_index
        for number in range(3, 13):
            assert await count(new) == number
        assert old.core.last_index <= full_at + 1, "no entries, but for the no-op"
        assert old.driver.guard.is_full
        await trio.until(lambda: old.core.leader == new.node_id)
        refusal = await old.read(b"n")
        assert isinstance(refusal, Refusal), "it never saw the newest state"
        assert refusal.details == {"leader": str(new.node_id)}
        assert await new.read(b"n") == b"12"
        old.disk.free_bytes = BALLAST + MARGIN + 1_000_000
        await trio.caught_up()
        assert await old.read(b"n") == b"12"


@in_virtual_time
async def test_a_full_follower_takes_no_entries_and_goes_on_when_there_is_room() -> (
    None
):
    async with Trio() as trio:
        leader = await trio.leader()
        full = trio.others(leader)[0]
        await count(leader)
        await trio.caught_up()
        full.disk.fill_up()
        assert await count(leader) == 2
        await trio.until(lambda: full.driver.guard.is_full)
        assert full.disk.refused == 1, "then the ballast made room"
        full_at = full.core.last_index
        big = b"x" * 100_000
        for number in range(20):
            assert isinstance(await leader.put(b"%d" % number, big), KeyPut)
        assert full.core.last_index == full_at
        assert leader.core.match_indexes()[full.node_id] <= full_at
        full.disk.free_bytes = BALLAST + MARGIN - 1
        await full.driver.guard.look()
        assert full.driver.guard.is_full, "not yet"
        full.disk.free_bytes = BALLAST + MARGIN + 3_000_000
        await trio.caught_up()
        assert full.disk.has_ballast
        assert full.key(b"19") == big


@in_virtual_time
async def test_a_full_follower_still_votes() -> None:
    async with Trio() as trio:
        leader = await trio.leader()
        full, sound = trio.others(leader)
        full.disk.fill_up()
        await count(leader)
        await trio.until(lambda: full.driver.guard.is_full)
        await trio.until(lambda: sound.core.applied_index == leader.core.last_index)
        leader.is_cut_off = True
        new = sound
        await trio.until(lambda: new.core.role is Role.LEADER)
        assert full.core.vote == new.node_id
        assert full.core.unfit


def settled(trio: Trio) -> list[Member]:
    """Find who leads, and is not handing over."""
    return [m for m in trio.members if m.leads and m.core.transfer_target is None]


@in_virtual_time
async def test_all_full_refuse_writes_in_words_and_go_on_together() -> None:
    async with Trio() as trio:
        leader = await trio.leader()
        assert await count(leader) == 1
        await trio.caught_up()
        for member in trio.members:
            member.disk.fill_up()
            await member.driver.guard.note_full(sync_failed())
        await trio.until(lambda: bool(settled(trio)))
        (leader,) = settled(trio)
        assert await leader.put(b"k") == DISK_FULL
        assert await leader.read(b"n") == b"1"
        for member in trio.members:
            member.disk.free_bytes = BALLAST + MARGIN + 1_000_000
        await trio.until(lambda: not any(m.driver.guard.is_full for m in trio.members))
        leader = await trio.leader()
        assert await count(leader) == 2
        await trio.caught_up()


@in_virtual_time
async def test_a_lone_member_refuses_keeps_what_it_took_and_goes_on() -> None:
    async with Trio(size=1) as trio:
        member = await trio.leader()
        assert await count(member) == 1
        member.disk.fill_up()
        assert await count(member) == 2, "with the ballast's room"
        assert await member.do(IncrementKey(b"n", 1)) == DISK_FULL
        assert await member.read(b"n") == b"2"
        assert member.core.role is Role.LEADER
        member.disk.free_bytes = BALLAST + MARGIN + 1000
        await trio.until(lambda: not member.driver.guard.is_full)
        assert await count(member) == 3


@in_virtual_time
async def test_a_lone_member_without_room_even_for_what_it_took_waits() -> None:
    async with Trio(size=1) as trio:
        member = await trio.leader()
        member.disk.release_ballast()
        member.disk.fill_up()
        taken = asyncio.create_task(count(member))
        await trio.until(lambda: member.disk.refused >= 3)
        assert not taken.done()
        assert await member.put(b"k") == DISK_FULL
        member.disk.free_bytes = BALLAST + MARGIN + 1000
        assert await taken == 1
        await trio.until(lambda: not member.driver.guard.is_full)
        assert await count(member) == 2


# --- a disk that fails ------------------------------------------------------------


@in_virtual_time
async def test_a_sync_that_fails_ends_the_member_and_stops_its_heartbeats() -> None:
    async with Trio() as trio:
        old = await trio.leader()
        assert await count(old) == 1
        old.disk.error = sync_failed()
        lost = asyncio.create_task(count(old))
        failure = await old.driver.failed
        assert str(failure) == (
            "the log cannot be written: Cannot write log.db: disk I/O error."
        )
        sent = old.sent
        new = await trio.leader(but=old)
        assert old.sent == sent, "it is silent from the failure on"
        assert await count(new) in {2, 3}
        lost.cancel()


@in_virtual_time
async def test_a_disk_that_lost_acknowledged_entries_ends_the_member_in_a_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The leader counts on entries that a removed file held."""
    async with Trio() as trio:
        leader = await trio.leader()
        assert await count(leader) == 1
        await trio.caught_up()
        poor, _ = trio.others(leader)
        last, term = poor.core.last_index, poor.core.term
        told = Heartbeat(leader.node_id, poor.node_id, term, Index(last + 7))
        poor.driver.receive([told])
        assert str(await poor.driver.failed) == (
            "log.db has lost entries that this node had acknowledged (the leader knows"
            f" entries up to {last + 7} to be here, and the log ends at {last})."
            " Put the node in again as a new one: raftctl member replace."
        )
    assert "Traceback" not in caplog.text


# --- a member that was removed ------------------------------------------------------


def remove(member: Member) -> ConfigChange:
    return ConfigChange((ConfigStep(ChangeKind.REMOVE, member.node_id),))


@in_virtual_time
async def test_a_removed_leader_hands_over_and_stays_to_answer() -> None:
    async with Trio() as trio:
        old = await trio.leader()
        assert await count(old) == 1
        term = old.core.term
        assert isinstance(old.core.change(remove(old)), Proposal)
        old.driver.wake()
        new = await trio.leader(but=old)
        assert new.core.term == term + 1, "no silence before it, one election"
        assert await count(new) == 2
        assert old.core.is_removed
        assert not old.driver.failed.done(), "nobody has told it yet"
