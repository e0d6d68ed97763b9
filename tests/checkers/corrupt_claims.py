"""Corruptions of locks, elections and what is outside: for their three checkers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec

from tests.checkers.corruption import change_request, corruption, pick, requests

if TYPE_CHECKING:
    import random

    from tests.checkers.history import History
    from tests.checkers.records import Observed

__all__: list[str] = []


# --- locks -------------------------------------------------------------------------


@corruption("locks", "a grant carries a token below an earlier one")
def _lower_token(history: History, rng: random.Random) -> None:
    """As if tokens were drawn from a counter that a restart had set back."""
    first: dict[str, int] = {}
    found = []
    for request in requests(
        history, lambda _, each: each.name == "acquire" and each.outcome == "ok"
    ):
        applied = history.entries[request[0]].requests[request[1]]
        token = applied.answer["token"]
        if first.setdefault(applied.args["name"], token) < token:
            found.append(request)
    request = pick(rng, found, "lock that was granted twice")
    applied = history.entries[request[0]].requests[request[1]]
    token = first[applied.args["name"]] - 1
    change_request(
        history, request, msgspec.structs.replace(applied, answer={"token": token})
    )


@corruption("locks", "a lock is granted though somebody holds it")
def _second_holder(history: History, rng: random.Random) -> None:
    """As if apply did not look who holds it."""
    found = requests(
        history,
        lambda _, each: (
            each.name == "acquire"
            and (each.error == "LOCK_HELD" or each.outcome == "pending")
        ),
    )
    request = pick(rng, found, "lock that was not granted at once")
    applied = history.entries[request[0]].requests[request[1]]
    change_request(
        history,
        request,
        msgspec.structs.replace(
            applied,
            outcome="ok",
            error="",
            ticket=0,
            answer={"token": applied.revision},
        ),
    )


@corruption("locks", "somebody who is next is not let in")
def _forgotten_waiter(history: History, rng: random.Random) -> None:
    """As if a promotion had been lost with a leader."""
    waits = {
        applied.ticket
        for entry in history.entries
        for applied in entry.requests
        if applied.name == "acquire" and applied.outcome == "pending"
    }
    found = [
        (at, place)
        for at, entry in enumerate(history.entries)
        for place, each in enumerate(entry.decided)
        if each.ticket in waits and each.outcome == "ok"
    ]
    at, place = pick(rng, found, "waiter that was let in")
    decided = list(history.entries[at].decided)
    del decided[place]
    history.entries[at] = msgspec.structs.replace(history.entries[at], decided=decided)


@corruption("locks", "a lease ends before its time")
def _early_expiry(history: History, rng: random.Random) -> None:
    """As if a resumed leader's clock had jumped."""
    found = [at for at, entry in enumerate(history.entries) if entry.ended]
    at = pick(rng, found, "lease that ended")
    lease = history.entries[at].ended[0]
    begun = requests(
        history,
        lambda _, each: lease in {each.answer.get("session"), each.answer.get("lease")},
    )
    if not begun or begun[0][0] + 1 >= at:
        early = at - 1
    else:
        early = rng.randrange(begun[0][0] + 1, at)
    for place, ended in ((at, history.entries[at].ended[1:]), (early, [lease])):
        history.entries[place] = msgspec.structs.replace(
            history.entries[place], ended=ended, now_ms=history.entries[place].now_ms
        )


@corruption("locks", "a token that is not current releases a lock")
def _stale_release(history: History, rng: random.Random) -> None:
    """As if a release did not look at its token."""
    found = requests(
        history, lambda _, each: each.name == "release_lock" and each.outcome == "ok"
    )
    request = pick(rng, found, "release")
    applied = history.entries[request[0]].requests[request[1]]
    args = {**applied.args, "token": applied.args["token"] - 1}
    change_request(history, request, msgspec.structs.replace(applied, args=args))


@corruption("locks", "a write passes a fence whose token is not current")
def _passed_fence(history: History, rng: random.Random) -> None:
    """As if fences were not looked at."""
    found = requests(
        history,
        lambda _, each: (
            each.outcome == "ok" and any(f["kind"] == "LOCK" for f in each.fences)
        ),
    )
    request = pick(rng, found, "fenced write")
    applied = history.entries[request[0]].requests[request[1]]
    fences = [{**each, "token": each["token"] - 1} for each in applied.fences]
    change_request(history, request, msgspec.structs.replace(applied, fences=fences))


@corruption("locks", "in the end somebody holds a lock that the log has free")
def _held_in_the_end(history: History, rng: random.Random) -> None:
    """As if a replica had missed the end of a lease."""
    found = [place for place, each in enumerate(history.finals) if each.locks]
    place = pick(rng, found, "lock in the end")
    holders = [{"claimant": "a stranger", "lease": 1, "token": 1, "mode": "exclusive"}]
    locks = [*(history.finals[place].locks or [])]
    locks.append({"name": "a lock of nobody", "holders": holders, "waiters": 0})
    history.finals[place] = msgspec.structs.replace(history.finals[place], locks=locks)


# --- elections ---------------------------------------------------------------------


def _line(history: History, rng: random.Random) -> list[int]:
    """Return the places of what one observer was told, at least three things."""
    lines: dict[str, list[int]] = {}
    for place, each in enumerate(history.observed):
        lines.setdefault(each.observer, []).append(place)
    long = [line for line in lines.values() if len(line) > 2]
    return pick(rng, long, "observer that was told three things")


def _change(history: History, place: int, **changes: object) -> None:
    before: Observed = history.observed[place]
    history.observed[place] = msgspec.structs.replace(before, **changes)


@corruption("elections", "an observer is not told of one transition")
def _skipped_epoch(history: History, rng: random.Random) -> None:
    """As if a reconnect had lost an event."""
    line = _line(history, rng)
    inner = [
        place
        for place in line[1:-1]
        if not history.observed[line[line.index(place) + 1]].is_state
    ]
    del history.observed[pick(rng, inner, "transition between two others")]


@corruption("elections", "an observer is told of one transition twice")
def _repeated_transition(history: History, rng: random.Random) -> None:
    """As if a reconnect had begun one event too early."""
    line = _line(history, rng)
    inner = [place for place in line[1:] if not history.observed[place].is_state]
    place = pick(rng, inner, "transition")
    history.observed.insert(place + 1, history.observed[place])


@corruption("elections", "an observer is told of two transitions in the wrong order")
def _swapped_transitions(history: History, rng: random.Random) -> None:
    """As if two streams had been mixed."""
    line = _line(history, rng)
    told = history.observed
    pairs = [
        (one, other)
        for one, other in pairwise(line[1:])
        if not told[one].is_state and not told[other].is_state
    ]
    one, other = pick(rng, pairs, "pair of transitions")
    told[one], told[other] = told[other], told[one]


@corruption("elections", "two claimants lead with one epoch")
def _two_leaders(history: History, rng: random.Random) -> None:
    """As if two candidates had won the same election."""
    found = [place for place, each in enumerate(history.observed) if each.epoch]
    place = pick(rng, found, "leader that was observed")
    _change(history, place, claimant="another")


@corruption("elections", "a transition is missing in the log's events")
def _silent_transition(history: History, rng: random.Random) -> None:
    """As if nobody had been told that nobody leads."""
    found = [
        (at, place)
        for at, entry in enumerate(history.entries)
        for place, event in enumerate(entry.events)
        if event.what == "election"
    ]
    at, place = pick(rng, found, "transition")
    events = list(history.entries[at].events)
    del events[place]
    history.entries[at] = msgspec.structs.replace(history.entries[at], events=events)


@corruption("elections", "in the end somebody leads whom the log never elected")
def _led_in_the_end(history: History, rng: random.Random) -> None:
    """As if a replica had missed a resignation."""
    found = [place for place, each in enumerate(history.finals) if each.elections]
    place = pick(rng, found, "election in the end")
    told = [*(history.finals[place].elections or [])]
    told.append({"name": "a vote of nobody", "epoch": 1, "claimant": "a stranger"})
    history.finals[place] = msgspec.structs.replace(
        history.finals[place], elections=told
    )


# --- outside -----------------------------------------------------------------------


@corruption("outside", "a guarded resource takes an old token")
def _old_token_taken(history: History, rng: random.Random) -> None:
    """As if the resource did not compare tokens."""
    newest: dict[str, int] = {}
    found = []
    for place, each in enumerate(history.guarded):
        if newest.get(each.resource, 0) > 1 and each.accepted:
            found.append(place)
        newest[each.resource] = max(newest.get(each.resource, 0), each.token)
    place = pick(rng, found, "second write to a guarded resource")
    history.guarded[place] = msgspec.structs.replace(history.guarded[place], token=1)


@corruption("outside", "a client believes too long that a lock is its own")
def _long_belief(history: History, rng: random.Random) -> None:
    """As if a client counted from the answer, and not from its sending."""
    lines: dict[tuple[str, str], list[int]] = {}
    for place, each in enumerate(history.beliefs):
        if each.mode == 1:
            lines.setdefault((each.what, each.name), []).append(place)
    pairs = []
    for line in lines.values():
        line.sort(key=lambda place: history.beliefs[place].from_us)
        pairs += [
            (one, other)
            for one, other in pairwise(line)
            if history.beliefs[one].token != history.beliefs[other].token
        ]
    one, other = pick(rng, pairs, "lock that two clients had")
    begin_us = history.beliefs[other].from_us
    history.beliefs[one] = msgspec.structs.replace(
        history.beliefs[one], until_us=begin_us + 1
    )
    if history.beliefs[other].until_us <= begin_us:
        history.beliefs[other] = msgspec.structs.replace(
            history.beliefs[other], until_us=begin_us + 1
        )
