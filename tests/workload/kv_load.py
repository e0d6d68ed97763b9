"""Callers of the key-value store: reads, writes, conditions, sums, transactions.

Every value is written once in a run. Plain keys, counters and the keys of transactions
are apart, so that each kind can be judged by itself.

Source: RELIABILITY.md section 4 (models: KV).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftclient import txn
from tests.workload.setting import Names

if TYPE_CHECKING:
    from tests.workload.caller import Caller
    from tests.workload.setting import Setting

__all__ = ["KvLoad"]

_MIX: Final = {
    "get": 30,
    "put": 25,
    "cas": 14,
    "incr": 12,
    "txn": 9,
    "delete": 6,
    "range": 4,
}
_KNOWN_MAX: Final = 64


class KvLoad:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        self._setting: Final = setting
        rng = setting.rng
        self._plain: Final = Names(rng, f"k/{setting.name}/", 6)
        self._sums: Final = Names(rng, f"n/{setting.name}/", 3)
        self._joint: Final = Names(rng, f"t/{setting.name}/", 4)
        self.prefix: Final = f"k/{setting.name}/"

    async def run(self, caller: Caller, pause_s: float) -> None:
        """Call until the end."""
        known: dict[str, int] = {}
        while not self._setting.is_over:
            (kind,) = self._setting.rng.choices(
                list(_MIX), weights=list(_MIX.values()), k=1
            )
            match kind:
                case "incr":
                    await self._sum(caller)
                case "txn":
                    await self._transact(caller)
                case "range":
                    await self._range(caller)
                case _:
                    await self._plain_call(caller, kind, known)
            await self._setting.pause(pause_s)

    async def _plain_call(
        self, caller: Caller, kind: str, known: dict[str, int]
    ) -> None:
        key = self._plain.pick()
        match kind:
            case "get":
                read = await caller.get(key)
                if read.is_ok:
                    known[key] = 0 if read.value is None else read.value.mod_rev
                self._plain.count(key, is_unknown=False)
                return
            case "put":
                wrote = await caller.put(key, caller.fresh())
                if wrote.value is not None:
                    known[key] = wrote.value.revision
                is_unknown = wrote.outcome == "unknown"
            case "cas":
                changed = await caller.put(
                    key, caller.fresh(), if_mod_rev=known.get(key, 0)
                )
                if changed.value is not None:
                    known[key] = changed.value.revision
                is_unknown = changed.outcome == "unknown"
            case _:
                gone = await caller.delete(key, if_mod_rev=self._condition(key, known))
                known[key] = 0
                is_unknown = gone.outcome == "unknown"
        self._plain.count(key, is_unknown=is_unknown)
        while len(known) > _KNOWN_MAX:
            del known[next(iter(known))]

    def _condition(self, key: str, known: dict[str, int]) -> int | None:
        return known.get(key) or None if self._setting.rng.random() < 0.3 else None

    async def _sum(self, caller: Caller) -> None:
        key = self._sums.pick()
        if self._setting.rng.random() < 0.3:
            await caller.get(key)
            return
        ended = await caller.incr(key, self._setting.rng.randint(-3, 9))
        self._sums.count(key, is_unknown=ended.outcome == "unknown")

    async def _range(self, caller: Caller) -> None:
        key = self._plain.pick() if self._setting.rng.random() < 0.7 else ""
        # All that share all but the last two digits: some old keys, some in use.
        await caller.range(key[:-1] or f"t/{self._setting.name}/00")

    async def _transact(self, caller: Caller) -> None:
        first, second = self._joint.pick(), self._joint.pick()
        match self._setting.rng.randrange(3):
            case 0:
                ended = await caller.transact(
                    [txn.exists(first)],
                    [txn.get(first), txn.put(second, caller.fresh())],
                    [txn.put(first, caller.fresh()), txn.get(second)],
                )
            case 1:
                ended = await caller.transact(
                    [txn.mod_rev(first, 0, txn.Operator.GREATER)],
                    [
                        txn.delete(first, want_previous=True),
                        txn.increment(f"{second}/sum", 1),
                    ],
                    [txn.put(first, caller.fresh(), want_previous=True)],
                )
            case _:
                read = await caller.get(first)
                value = b"" if read.value is None else read.value.value
                ended = await caller.transact(
                    [txn.value(first, value)],
                    [txn.put(first, caller.fresh()), txn.put(second, caller.fresh())],
                    [txn.get(first), txn.get(second)],
                )
        for key in (first, second):
            self._joint.count(key, is_unknown=ended.outcome == "unknown")
