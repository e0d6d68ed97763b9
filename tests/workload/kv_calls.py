"""Recorded calls about keys and transactions.

Source: SEMANTICS.md sections 2 and 3; `tests.checkers.records` for names and fields.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raftclient import txn
from raftclient.keys import KeyValue
from raftclient.results import Enqueued, Put, Removed, Sum
from tests.checkers.history import as_text
from tests.workload.recorded import Recorded
from tests.workload.wire import compares_of, ops_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from raftclient.fences import Fence
    from raftclient.kv import DeleteResult, PutResult
    from raftclient.results import OpResult, TxnResult
    from tests.checkers.parts import Fields
    from tests.workload.recorded import Ended

__all__ = ["KvCalls", "end_of", "found_of", "result_of"]


class KvCalls(Recorded):
    """The calls about keys of one caller."""

    async def put(
        self,
        key: str,
        value: str,
        *,
        lease: int = 0,
        if_mod_rev: int | None = None,
        fences: Sequence[Fence] = (),
    ) -> Ended[PutResult]:
        """Set a key; with ``if_mod_rev`` the history calls it ``cas``."""
        args: Fields = {"key": key, "value": value}
        if lease:
            args["lease"] = lease
        if if_mod_rev is not None:
            args["if_mod_rev"] = if_mod_rev
        if fences:
            args["fences"] = len(fences)
        return await self.call(
            "put" if if_mod_rev is None else "cas",
            args,
            lambda: self.client.put(
                key, value, lease=lease or None, if_mod_rev=if_mod_rev, fences=fences
            ),
            lambda done: {"mod_rev": done.revision},
        )

    async def get(self, key: str) -> Ended[KeyValue | None]:
        """Read a key."""
        return await self.call(
            "get",
            {"key": key},
            lambda: self.client.get(key),
            lambda found: {"found": found_of(found)},
            is_write=False,
        )

    async def delete(
        self, key: str, *, if_mod_rev: int | None = None
    ) -> Ended[DeleteResult]:
        """Delete a key, and ask what it was."""
        args: Fields = {"key": key, "want_previous": True}
        if if_mod_rev is not None:
            args["if_mod_rev"] = if_mod_rev
        return await self.call(
            "delete",
            args,
            lambda: self.client.delete(key, if_mod_rev=if_mod_rev, want_previous=True),
            lambda done: {
                "deleted": done.deleted,
                "previous": found_of(done.previous),
            },
        )

    async def incr(self, key: str, by: int = 1) -> Ended[int]:
        """Add to a key."""
        return await self.call(
            "incr",
            {"key": key, "by": by},
            lambda: self.client.incr(key, by),
            lambda value: {"value": value},
        )

    async def range(self, prefix: str) -> Ended[list[KeyValue]]:
        """Read all keys that begin so, at one revision."""

        async def read() -> list[KeyValue]:
            return [found async for found in self.client.range(prefix=prefix)]

        return await self.call(
            "range",
            {"start": prefix, "end": end_of(prefix)},
            read,
            lambda found: {"found": [found_of(each) for each in found]},
            is_write=False,
        )

    async def transact(
        self,
        compares: Sequence[txn.Compare],
        then: Sequence[txn.Op],
        orelse: Sequence[txn.Op] = (),
    ) -> Ended[TxnResult]:
        """Run a transaction."""
        args: Fields = {
            "compares": compares_of(compares),
            "then": ops_of(then),
            "orelse": ops_of(orelse),
        }

        def answer(done: TxnResult) -> Fields:
            return {
                "has_succeeded": done.succeeded,
                "results": [result_of(each) for each in done.results],
            }

        return await self.call(
            "txn",
            args,
            self.client.txn().when(*compares).then(*then).otherwise(*orelse).commit,
            answer,
        )


def end_of(prefix: str) -> str:
    """Return the first key after all that begin so; the prefix is plain ASCII."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def found_of(found: KeyValue | None) -> Fields | None:
    """Turn a key into what the history has."""
    if found is None:
        return None
    return {
        "key": as_text(found.key),
        "value": as_text(found.value),
        "create_rev": found.create_rev,
        "mod_rev": found.mod_rev,
        "version": found.version,
        "lease": found.lease_id,
    }


def result_of(result: OpResult) -> Fields:
    """Turn the result of one operation of a transaction into what the history has."""
    match result:
        case None:
            return {"found": None}
        case KeyValue():
            return {"found": found_of(result)}
        case Put(mod_rev, previous):
            return {"mod_rev": mod_rev, "previous": found_of(previous)}
        case Removed(deleted, previous):
            return {"deleted": deleted, "previous": found_of(previous)}
        case Sum(value, mod_rev):
            return {"value": value, "mod_rev": mod_rev}
        case Enqueued(job_ids, existed):
            return {"ids": list(job_ids), "existed": list(existed)}
        case _:
            return {}
