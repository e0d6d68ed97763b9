"""How long clients wait for a hand-over, or beside a slow disk: bounds in virtual time.

Real processes are given the same faults; what they came to there is printed and not
asserted, as the machine may be busy (docs/adr/0015).

Source: RELIABILITY.md section 5 (transfer under load: gap <= 2 heartbeats + RTT; slow
disk: p99 of others <= 2x).
"""

from __future__ import annotations

import asyncio

from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.kv import KeyPut
from tests.node.trio import ELECTION_MS, Member, Trio
from tests.node.virtual_loop import in_virtual_time

_HEARTBEAT_S = 0.04
_ROUND_TRIP_S = 0.002
_SYNC_S = 0.001
_WRITES = 200


async def _seconds_of_writes(leader: Member) -> list[float]:
    """Write one after the other; return how long each took, rising."""
    loop = asyncio.get_running_loop()
    took_s = []
    for number in range(_WRITES):
        begin_s = loop.time()
        assert isinstance(await leader.put(b"k%d" % number), KeyPut)
        took_s.append(loop.time() - begin_s)
    return sorted(took_s)


@in_virtual_time
async def test_a_hand_over_to_who_is_caught_up_pauses_for_two_heartbeats() -> None:
    loop = asyncio.get_running_loop()
    async with Trio() as trio:
        for member in trio.members:
            member.disk.delay_s = _SYNC_S
        for _ in range(10):
            old = await trio.leader()
            assert isinstance(await old.put(b"before"), KeyPut)
            await trio.caught_up()
            begin_s = loop.time()
            old.driver.hand_over()
            new = await trio.leader(but=old)
            answer = await new.put(b"behind")
            assert not isinstance(answer, Refusal), answer
            assert loop.time() - begin_s <= 2 * _HEARTBEAT_S + _ROUND_TRIP_S


@in_virtual_time
async def test_a_follower_with_a_slow_disk_slows_nobody_down() -> None:
    async with Trio() as trio:
        leader = await trio.leader()
        for member in trio.members:
            member.disk.delay_s = _SYNC_S
        before = await _seconds_of_writes(leader)
        trio.others(leader)[0].disk.delay_s = ELECTION_MS / 1000
        beside = await _seconds_of_writes(leader)
        place = _WRITES * 99 // 100
        assert beside[place] <= 2 * before[place]
        assert leader.leads


@in_virtual_time
async def test_whoever_leads_after_a_slow_leader_is_as_quick_as_it_was() -> None:
    async with Trio() as trio:
        old = await trio.leader()
        for member in trio.members:
            member.disk.delay_s = _SYNC_S
        before = await _seconds_of_writes(old)
        old.disk.delay_s = ELECTION_MS / 5 / 1000
        while isinstance(await old.put(b"slow"), KeyPut):
            pass
        new = await trio.leader(but=old)
        behind = await _seconds_of_writes(new)
        place = _WRITES * 99 // 100
        assert behind[place] <= 2 * before[place]
