"""Members that come and go, and the world's nodes kept in step with them.

A node's number is its id, as none is ever used twice. What an operator asks for may get
lost, or be refused for good reasons while other faults last: then the list of members
tells what became of it.

Rules: nothing here asserts that a change succeeds; it tells whether it did.

Source: SEMANTICS.md section 7; RELIABILITY.md rules 39-46.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from raftclient import MemberKind, RaftError, aio
from tests.chaos.fault import OWN_PREFIX, Broken

if TYPE_CHECKING:
    from tests.chaos.world import World

__all__ = [
    "add_member",
    "operator",
    "remove_member",
    "replace_member",
    "settle_members",
]

_CALL_S: Final = 10.0
_CHANGE_S: Final = 45.0
_POLL_S: Final = 0.2
_TOLD_S: Final = 20.0

_Ask = Callable[[aio.Client], Awaitable[None]]
_Look = Callable[[], Awaitable[bool]]


def operator(world: World) -> aio.Client:
    """Connect as somebody who knows where the members are at present."""
    return aio.connect(world.endpoints.split(","), timeout_s=_CALL_S)


async def settle_members(world: World) -> bool:
    """Run exactly those nodes that the cluster counts among its members.

    Returns:
        False if nobody could say who they are.
    """
    kinds = await _kinds(world)
    if not kinds:
        return False
    numbers = sorted(kinds)
    for gone in set(world.members) - set(numbers):
        world.members.remove(gone)
        await asyncio.to_thread(world.end, gone)
        world.give_back(gone)
    for number in numbers:
        if number not in world.members:
            world.members.append(number)
        if number not in world.taken and not world.is_running(number):
            await asyncio.to_thread(world.ensure_running, number)
    return True


async def add_member(world: World) -> int | None:
    """Add a node, and wait until it votes; its number, None if it came to nothing."""
    number = await asyncio.to_thread(world.add)

    async def ask(client: aio.Client) -> None:
        address = world.peer_address(number)
        await client.cluster.add(f"n{number}", address, node_id=number)

    return await _join(world, number, ask)


async def replace_member(world: World, old: int) -> int | None:
    """Put a new node in an old one's place; its number, None if it came to nothing.

    The old one has been killed before, and does not come back.
    """
    number = await asyncio.to_thread(world.add)

    async def ask(client: aio.Client) -> None:
        address = world.peer_address(number)
        await client.cluster.replace(old, f"n{number}", address, node_id=number)

    async def is_gone() -> bool:
        return old not in await _kinds(world)

    joined = await _join(world, number, ask)
    if joined:
        await _eventually(is_gone)
    await settle_members(world)
    return joined if old not in world.members else None


async def remove_member(world: World, number: int, *, is_alone: bool) -> bool:
    """Remove a member for good; tells whether it came to that.

    Args:
        world: Where it is.
        number: Of the member.
        is_alone: Nothing else is wrong: it is told, and ends with a sentence.

    Raises:
        Broken: It was removed, and goes on or ends otherwise.
    """
    world.expect_end(number)

    async def ask(client: aio.Client) -> None:
        await client.cluster.remove(number)

    async def is_done() -> bool:
        kinds = await _kinds(world)
        return bool(kinds) and number not in kinds

    if not await _change(world, ask, is_done):
        return False
    with contextlib.suppress(ValueError):
        world.members.remove(number)
    code = await asyncio.to_thread(world.wait_for_end, number, _TOLD_S)
    if code is not None:
        sentence = world.see_one_sentence(number, code)
        if "removed from the cluster" not in sentence:
            raise Broken(f"node {number} was removed and says: {sentence}")
    elif is_alone:
        raise Broken(f"node {number} was removed and goes on")
    await asyncio.to_thread(world.end, number)
    return True


async def _join(world: World, number: int, ask: _Ask) -> int | None:
    async def is_member() -> bool:
        return number in await _kinds(world)

    if not await _change(world, ask, is_member):
        return None
    world.members.append(number)
    world.take_this(number, "joining")
    await asyncio.to_thread(world.start_joining, number, number)

    async def votes() -> bool:
        return (await _kinds(world)).get(number) is MemberKind.VOTER

    await _eventually(votes)
    world.give_back(number)
    return number


async def _eventually(look: _Look) -> bool:
    """Look again and again; tells whether it came about."""
    end_s = time.monotonic() + _CHANGE_S
    while time.monotonic() < end_s:
        if await look():
            return True
        await asyncio.sleep(_POLL_S)
    return False


async def _change(world: World, ask: _Ask, is_done: _Look) -> bool:
    async def ask_and_look() -> bool:
        with contextlib.suppress(RaftError):
            async with operator(world) as client:
                await ask(client)
        return await is_done()

    return await _eventually(ask_and_look)


async def _kinds(world: World) -> dict[int, MemberKind]:
    """Return the members as the leader knows them; empty if nobody says it."""
    leader = await asyncio.to_thread(world.leader)
    if not leader:
        return {}
    try:
        async with aio.connect(world.endpoint(leader), timeout_s=_CALL_S) as client:
            # Who only believes to lead cannot confirm a read.
            await client.count(prefix=OWN_PREFIX)
            members = await client.cluster.members()
    except RaftError:
        return {}
    return {member.node_id: member.kind for member in members}
