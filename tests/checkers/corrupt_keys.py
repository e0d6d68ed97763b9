"""Corruptions of keys, answers and the log: for `evidence`, `witness` and `linear`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.checkers.corruption import change_request, corruption, pick, requests
from tests.checkers.linear import sole_keys, sole_locks

if TYPE_CHECKING:
    import random

    from tests.checkers.history import History
    from tests.checkers.records import Op

__all__: list[str] = []

_SINGLE = frozenset({"put", "cas", "incr"})


def _acknowledged(history: History, names: frozenset[str]) -> list[int]:
    """Return the places of numbered writes that were acknowledged."""
    return [
        place
        for place, op in enumerate(history.ops)
        if op.outcome == "ok" and op.number and op.name in names
    ]


def _of(history: History, op: Op) -> tuple[int, int]:
    """Return the place of the request that an operation became."""
    (found, *_) = requests(
        history,
        lambda _, applied: (
            (applied.session, applied.number) == (op.session, op.number)
            and applied.outcome != "repeat"
        ),
    )
    return found


# --- evidence ----------------------------------------------------------------------


@corruption("evidence", "an acknowledged write is gone from the log")
def _lost_write(history: History, rng: random.Random) -> None:
    """As if a leader had answered before it was committed."""
    place = pick(rng, _acknowledged(history, _SINGLE), "acknowledged write")
    change_request(history, _of(history, history.ops[place]), None)


@corruption("evidence", "an entry is gone from the log")
def _missing_entry(history: History, rng: random.Random) -> None:
    """As if the log had been cut in the middle."""
    at = rng.randrange(1, len(history.entries) - 1)
    del history.entries[at]


@corruption("evidence", "a write that took effect was refused")
def _refused_and_done(history: History, rng: random.Random) -> None:
    """As if an error that may have happened were called a definite one."""
    place = pick(rng, _acknowledged(history, _SINGLE), "acknowledged write")
    history.ops[place] = msgspec.structs.replace(
        history.ops[place], outcome="refused", error="NOT_LEADER", answer={}
    )


@corruption("evidence", "a write was answered with another's revision")
def _foreign_answer(history: History, rng: random.Random) -> None:
    """As if a waiter were keyed by the index alone."""
    found = [
        place
        for place in _acknowledged(history, _SINGLE)
        if "mod_rev" in history.ops[place].answer
    ]
    place = pick(rng, found, "acknowledged write")
    op = history.ops[place]
    answer = {**op.answer, "mod_rev": op.answer["mod_rev"] + 1}
    history.ops[place] = msgspec.structs.replace(op, answer=answer)


@corruption("evidence", "a number was used for another request")
def _other_request(history: History, rng: random.Random) -> None:
    """As if a request had been changed on its way."""
    place = pick(
        rng, _acknowledged(history, frozenset({"put", "cas"})), "acknowledged put"
    )
    request = _of(history, history.ops[place])
    applied = history.entries[request[0]].requests[request[1]]
    args = {**applied.args, "value": "something else"}
    change_request(history, request, msgspec.structs.replace(applied, args=args))


@corruption("evidence", "a write that came again was done again")
def _done_twice(history: History, rng: random.Random) -> None:
    """As if a window had forgotten its first answer."""
    found = requests(
        history,
        lambda _, applied: applied.outcome == "repeat" and "mod_rev" in applied.answer,
    )
    request = pick(rng, found, "write that came again")
    applied = history.entries[request[0]].requests[request[1]]
    answer = {**applied.answer, "mod_rev": applied.revision + 1}
    change_request(history, request, msgspec.structs.replace(applied, answer=answer))


@corruption("evidence", "a write is in the log that nobody asked for")
def _nobody_asked(history: History, rng: random.Random) -> None:
    """As if the service had made up a write, or done one again under a new number."""
    names = _SINGLE | {"enqueue", "acquire", "complete", "txn"}
    del history.ops[pick(rng, _acknowledged(history, names), "acknowledged write")]


@corruption("evidence", "nobody read what was there in the end")
def _no_end(history: History, rng: random.Random) -> None:
    """As if a run had broken off, and nobody had noticed."""
    pick(rng, history.finals, "final state")
    history.finals.clear()


@corruption("evidence", "the lease clock goes back")
def _clock_back(history: History, rng: random.Random) -> None:
    """As if a new leader had begun its clock anew."""
    found = [at for at, entry in enumerate(history.entries) if at and entry.now_ms]
    at = pick(rng, found[len(found) // 2 :], "stamped entry")
    entry = history.entries[at]
    history.entries[at] = msgspec.structs.replace(entry, now_ms=1)


@corruption("evidence", "one member differs from the others in the end")
def _diverged(history: History, rng: random.Random) -> None:
    """As if one member had applied something else."""
    final = pick(rng, history.finals, "final state")
    digests = {"1": "00", **final.digests, "another": "ff"}
    place = history.finals.index(final)
    history.finals[place] = msgspec.structs.replace(final, digests=digests)


# --- witness -----------------------------------------------------------------------


def _found(history: History) -> list[int]:
    return [
        place
        for place, op in enumerate(history.ops)
        if op.name == "get"
        and op.outcome == "ok"
        and op.revision
        and (op.answer.get("found") or {}).get("value")
    ]


@corruption("witness", "a read shows a value that was never there")
def _wrong_read(history: History, rng: random.Random) -> None:
    """As if a read had met half a write."""
    place = pick(rng, _found(history), "read that found a key")
    op = history.ops[place]
    found = {**op.answer["found"], "value": "never written"}
    history.ops[place] = msgspec.structs.replace(op, answer={"found": found})


@corruption(
    "witness", "a read shows an older state than one shown before it was called"
)
def _old_revision(history: History, rng: random.Random) -> None:
    """As if a deposed leader had answered."""
    writes = sorted(
        (op.return_us or 0, op.answer["mod_rev"])
        for op in history.ops
        if op.outcome == "ok" and "mod_rev" in op.answer
    )
    reads = [
        place
        for place in _found(history)
        if any(return_us < history.ops[place].call_us for return_us, _ in writes)
    ]
    place = pick(rng, reads, "read after a write")
    op = history.ops[place]
    before = [rev for return_us, rev in writes if return_us < op.call_us]
    history.ops[place] = msgspec.structs.replace(op, revision=max(before) - 1)


@corruption("witness", "a counter answers a wrong sum, in the log as to the client")
def _wrong_sum(history: History, rng: random.Random) -> None:
    """As if the state machine had counted wrongly."""
    place = pick(rng, _acknowledged(history, frozenset({"incr"})), "increment")
    op = history.ops[place]
    answer = {**op.answer, "value": op.answer["value"] + 1}
    history.ops[place] = msgspec.structs.replace(op, answer=answer)
    request = _of(history, op)
    applied = history.entries[request[0]].requests[request[1]]
    change_request(history, request, msgspec.structs.replace(applied, answer=answer))


@corruption("witness", "a condition that did not hold was taken to hold")
def _wrong_condition(history: History, rng: random.Random) -> None:
    """As if a compare-and-set did not compare."""
    found = requests(
        history,
        lambda _, applied: applied.name == "cas" and applied.error == "PRECONDITION",
    )
    request = pick(rng, found, "condition that did not hold")
    applied = history.entries[request[0]].requests[request[1]]
    change_request(
        history,
        request,
        msgspec.structs.replace(
            applied, outcome="ok", error="", answer={"mod_rev": applied.revision}
        ),
    )


@corruption("witness", "an acknowledged key is gone in the end")
def _lost_key(history: History, rng: random.Random) -> None:
    """As if a checkpoint had left out a row."""
    found = [place for place, each in enumerate(history.finals) if each.keys]
    place = pick(rng, found, "key in the end")
    keys = list(history.finals[place].keys or [])
    del keys[rng.randrange(len(keys))]
    history.finals[place] = msgspec.structs.replace(history.finals[place], keys=keys)


# --- linear ------------------------------------------------------------------------


@corruption("linear", "a read shows a value that had been overwritten before it began")
def _stale_read(history: History, rng: random.Random) -> None:
    """As if a follower had answered from what it had; no revision tells on it."""
    alone = sole_keys(history)
    versions: dict[str, dict[int, str]] = {}
    written: dict[int, Op] = {}
    for op in history.ops:
        if op.outcome == "ok" and op.name in {"put", "cas"}:
            rev = op.answer["mod_rev"]
            versions.setdefault(op.args["key"], {})[rev] = op.args["value"]
            written[rev] = op
    found: list[tuple[int, int]] = []
    for place in _found(history):
        op = history.ops[place]
        shown = op.answer["found"]["mod_rev"]
        writer = written.get(shown)
        older = [rev for rev in versions.get(op.args["key"], {}) if rev < shown]
        if (
            op.args["key"] in alone
            and older
            and writer is not None
            and (writer.return_us or 0) < op.call_us
        ):
            found.append((place, max(older)))
    place, rev = pick(rng, found, "read of a key that was written twice")
    op = history.ops[place]
    value = versions[op.args["key"]][rev]
    history.ops[place] = msgspec.structs.replace(
        op, revision=0, answer={"found": {"value": value, "mod_rev": rev}}
    )


@corruption("linear", "a compare-and-set succeeds on a value that was gone before")
def _double_cas(history: History, rng: random.Random) -> None:
    """As if two clients had both won."""
    alone = sole_keys(history)
    wins = {
        op.args["if_mod_rev"]: op
        for op in history.ops
        if op.name == "cas" and op.outcome == "ok" and op.args["if_mod_rev"]
    }
    found = [
        place
        for place, op in enumerate(history.ops)
        if op.name == "cas"
        and op.error == "PRECONDITION"
        and op.args["key"] in alone
        and (winner := wins.get(op.args["if_mod_rev"])) is not None
        and (winner.return_us or 0) < op.call_us
    ]
    place = pick(rng, found, "compare-and-set that was late")
    op = history.ops[place]
    history.ops[place] = msgspec.structs.replace(
        op, outcome="ok", error="", revision=0, answer={"mod_rev": 1 << 60}
    )


@corruption("linear", "a lock is granted to a second client while the first holds it")
def _double_grant(history: History, rng: random.Random) -> None:
    """As if two leaders had each let somebody in."""
    released = {op.args["token"]: op for op in history.ops if op.name == "release_lock"}
    alone = sole_locks(history)
    found = [
        place
        for place, op in enumerate(history.ops)
        if op.name == "acquire"
        and op.outcome == "ok"
        and op.args["name"] in alone
        and op.return_us is not None
        and (back := released.get(op.answer["token"])) is not None
        and back.outcome == "ok"
        and back.session == op.args.get("lease")  # so it was alive all the while
        and op.return_us + 2 < back.call_us
    ]
    place = pick(rng, found, "lock that was held for a while")
    op = history.ops[place]
    assert op.return_us is not None
    history.ops.append(
        msgspec.structs.replace(
            op,
            id=max(each.id for each in history.ops) + 1,
            client="another",
            call_us=op.return_us + 1,
            return_us=op.return_us + 2,
            args={**op.args, "claimant": "another", "lease": 1 << 60},
            answer={"token": 1 << 60},
            session=0,
            number=0,
        )
    )
