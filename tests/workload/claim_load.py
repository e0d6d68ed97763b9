"""Callers that take locks, stand in elections, and hold leases of their own.

What they hold they use: a resource outside the cluster is shown the token, and a key is
written under the fence. Some hold for longer than they may, and write all the same:
that is what tokens are for.

Source: RELIABILITY.md section 4 (models: lock, election); SEMANTICS.md sections 1, 4.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from raftclient import _clock
from raftclient._held import Held
from raftclient.errors import RaftError
from raftclient.locks import LockMode
from tests.workload.setting import Names

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftclient._held import Claim
    from tests.workload.caller import Caller
    from tests.workload.setting import Setting

__all__ = ["ClaimLoad"]

_MODES: Final = (LockMode.EXCLUSIVE, LockMode.SHARED, LockMode.SEMAPHORE)
_SEATS: Final = 2
_COMMON: Final = 0.2
_COMMON_US: Final = 20_000_000


class ClaimLoad:
    """See the module; ``on_election`` is told each name before it is used."""

    def __init__(self, setting: Setting, on_election: Callable[[str], None]) -> None:
        self._setting: Final = setting
        rng, name = setting.rng, setting.name
        self._locks: Final = {
            mode: Names(rng, f"l/{mode}/{name}/", 1 if mode is not _MODES[0] else 2)
            for mode in _MODES
        }
        self._elections: Final = Names(rng, f"e/{name}/", 2, on_election)

    # --- locks -------------------------------------------------------------------

    async def run_locks(self, caller: Caller, pause_s: float) -> None:
        """Take turns until the end."""
        while not self._setting.is_over:
            if self._setting.rng.random() < 0.15:
                await self._under_lease(caller)
            else:
                await self._under_session(caller)
            await self._setting.pause(pause_s)

    def _draw(self) -> tuple[str, LockMode, LockMode]:
        """Choose a lock: its name, its kind, and how to ask for it."""
        rng = self._setting.rng
        (kind,) = rng.choices(_MODES, weights=(6, 3, 2), k=1)
        mode = kind
        if kind is LockMode.SHARED and rng.random() < 0.4:
            mode = LockMode.EXCLUSIVE
        if kind is LockMode.EXCLUSIVE and rng.random() < _COMMON:
            # All loads draw this one, until it has been used enough.
            return f"l/common/{self._setting.now_us() // _COMMON_US}", kind, mode
        return self._locks[kind].pick(), kind, mode

    async def _under_session(self, caller: Caller) -> None:
        setting = self._setting
        name, kind, mode = self._draw()
        wait_s = setting.rng.choice((0.0, 0.5, 3.0))
        ended = await caller.acquire(name, mode=mode, limit=_SEATS, wait_s=wait_s)
        self._locks[kind].count(name, is_unknown=ended.outcome == "unknown", ops=2)
        grant = ended.value
        if grant is None:
            return
        belief = setting.recorder.believe(
            "lock",
            name,
            caller.who,
            caller.claimant_of(ended),
            grant.token,
            mode=_MODES.index(mode) + 1,
            limit=_SEATS if mode is LockMode.SEMAPHORE else 1,
        )
        self._listen(grant.claim, belief)
        is_exclusive = mode is LockMode.EXCLUSIVE
        for _ in range(setting.rng.randint(1, 3)):
            if is_exclusive:
                setting.guard.write(name, caller.who, grant.token)
            await setting.pause(0.03 if setting.rng.random() < 0.95 else 0.5)
            if grant.is_lost:
                break
        with contextlib.suppress(RaftError):  # lost just now
            fence = grant.fence()
            await caller.put(f"f/{name}", caller.fresh(), fences=[fence])
        if grant.is_lost:
            # It was told in time; this is what a holder that sleeps would do.
            if is_exclusive:
                setting.guard.write(name, caller.who, grant.token)
            return
        setting.recorder.doubt(belief)
        ended_release = await caller.release(grant)
        self._locks[kind].count(
            name, is_unknown=ended_release.outcome == "unknown", ops=0
        )

    async def _under_lease(self, caller: Caller) -> None:
        """Hold a lock under a lease that is renewed by hand, or not."""
        setting = self._setting
        rng, now_us = setting.rng, setting.now_us
        ttl_s = rng.choice((1.0, 2.0))
        margin_us = int(1_000_000 * _clock.margin_s(ttl_s))
        ttl_us = int(1_000_000 * ttl_s)
        sent_us = now_us()
        lease = await caller.grant(ttl_s)
        if lease.value is None:
            return
        until_us = sent_us + ttl_us - margin_us
        name, kind, mode = self._draw()
        taken = await caller.acquire(
            name, mode=mode, limit=_SEATS, lease=lease.value, wait_s=0.0
        )
        self._locks[kind].count(name, is_unknown=taken.outcome == "unknown", ops=1)
        grant = taken.value
        if grant is None or now_us() >= until_us:
            await caller.revoke(lease.value)
            return
        belief = setting.recorder.believe(
            "lock",
            name,
            caller.who,
            caller.claimant_of(taken),
            grant.token,
            mode=_MODES.index(mode) + 1,
            limit=_SEATS if mode is LockMode.SEMAPHORE else 1,
        )
        await caller.put(f"s/{name}", caller.fresh(), lease=lease.value)
        while rng.random() < 0.5:
            await setting.rest(ttl_s / 4)
            renewed_us = now_us()
            if renewed_us >= until_us:
                break
            if (await caller.keep_alive(lease.value)).is_ok and now_us() < until_us:
                until_us = renewed_us + ttl_us - margin_us
        match rng.randrange(3):
            case 0:
                setting.recorder.doubt(belief, until_us=min(now_us(), until_us))
                await caller.revoke(lease.value)
            case 1:
                setting.recorder.doubt(belief, until_us=min(now_us(), until_us))
                await caller.release_token(name, grant.token)
            case _:
                await setting.rest(max(0.0, (until_us - now_us()) / 1_000_000))
                setting.recorder.doubt(belief, until_us=min(now_us(), until_us))
                await setting.rest(ttl_s / 2)
                if mode is LockMode.EXCLUSIVE:
                    setting.guard.write(name, caller.who, grant.token)

    def _listen(self, claim: Claim, belief: int) -> None:
        """End a belief when the client's own clock does, whoever notices it when."""
        loop = asyncio.get_running_loop()
        recorder, now_us = self._setting.recorder, self._setting.now_us
        parent = claim.parent

        def lost() -> None:
            late_s = 0.0
            if isinstance(parent, Held):
                late_s = max(0.0, _clock.boottime_s() - parent.deadline_s)
            until_us = now_us() - int(1_000_000 * late_s)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(
                    lambda: recorder.doubt(belief, until_us=until_us)
                )

        claim.on_lost(lost)

    # --- elections ---------------------------------------------------------------

    async def run_elections(self, caller: Caller, pause_s: float) -> None:
        """Stand, lead for a while, resign, until the end."""
        setting = self._setting
        while not setting.is_over:
            name = self._elections.pick()
            if setting.rng.random() < 0.1:
                await caller.election_info(name)
            await self._stand(caller, name)
            await setting.pause(pause_s)

    async def _stand(self, caller: Caller, name: str) -> None:
        setting = self._setting
        wait_s = setting.rng.choice((0.0, 0.5, 3.0))
        ended = await caller.campaign(name, caller.fresh(), wait_s=wait_s)
        self._elections.count(name, is_unknown=ended.outcome == "unknown", ops=2)
        leadership = ended.value
        if leadership is None:
            return
        belief = setting.recorder.believe(
            "election", name, caller.who, caller.claimant_of(ended), leadership.epoch
        )
        self._listen(leadership.claim, belief)
        setting.guard.write(name, caller.who, leadership.epoch)
        await setting.pause(0.05)
        if not leadership.is_lost and setting.rng.random() < 0.5:
            with contextlib.suppress(RaftError):  # lost just now
                await caller.proclaim(leadership, caller.fresh())
        if leadership.is_lost:
            setting.guard.write(name, caller.who, leadership.epoch)
            return
        setting.recorder.doubt(belief)
        resigned = await caller.resign(leadership)
        self._elections.count(name, is_unknown=resigned.outcome == "unknown")
