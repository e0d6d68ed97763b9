"""Corruptions of jobs: for `jobs`, and of what a Complete did: for `evidence`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tests.checkers.corruption import (
    Request,
    change_request,
    corruption,
    pick,
    requests,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from tests.checkers.history import History
    from tests.checkers.parts import Applied, Event, Fields

__all__: list[str] = []


def _jobs_in_the_end(history: History, rng: random.Random) -> tuple[int, list[Fields]]:
    found = [place for place, each in enumerate(history.finals) if each.jobs]
    place = pick(rng, found, "job in the end")
    return place, list(history.finals[place].jobs or [])


def _set_jobs(history: History, place: int, jobs: list[Fields]) -> None:
    history.finals[place] = msgspec.structs.replace(history.finals[place], jobs=jobs)


@corruption("jobs", "an acknowledged job is not there in the end")
def _lost_job(history: History, rng: random.Random) -> None:
    """As if an enqueue had been acknowledged too early."""
    place, jobs = _jobs_in_the_end(history, rng)
    del jobs[rng.randrange(len(jobs))]
    _set_jobs(history, place, jobs)


@corruption("jobs", "there is a job in the end that nobody enqueued")
def _foreign_job(history: History, rng: random.Random) -> None:
    """As if a refused enqueue had left something."""
    place, jobs = _jobs_in_the_end(history, rng)
    jobs.append({**rng.choice(jobs), "job": 1 << 60})
    _set_jobs(history, place, jobs)


@corruption("jobs", "a job counts one failed attempt too many")
def _miscounted(history: History, rng: random.Random) -> None:
    """As if a repeated call had been counted twice."""
    place, jobs = _jobs_in_the_end(history, rng)
    at = rng.randrange(len(jobs))
    jobs[at] = {**jobs[at], "attempt": jobs[at].get("attempt", 0) + 1}
    _set_jobs(history, place, jobs)


def _change_queue(
    history: History, rng: random.Random, change: Callable[[Fields], Fields]
) -> None:
    found = [place for place, each in enumerate(history.finals) if each.queues]
    place = pick(rng, found, "queue in the end")
    queues = list(history.finals[place].queues or [])
    at = rng.randrange(len(queues))
    queues[at] = {**queues[at], **change(queues[at])}
    changed = msgspec.structs.replace(history.finals[place], queues=queues)
    history.finals[place] = changed


@corruption("jobs", "a queue says that it has one job more in a state than there are")
def _miscounted_queue(history: History, rng: random.Random) -> None:
    """As if a count had not gone with its job's state."""
    state = rng.choice(["ready", "reserved", "done", "dead"])
    _change_queue(history, rng, lambda queue: {state: queue[state] + 1})


@corruption("jobs", "a queue says that it took in one job less than were enqueued")
def _miscounted_total(history: History, rng: random.Random) -> None:
    """As if a total had been lost in a restart."""
    _change_queue(
        history, rng, lambda queue: {"enqueued_total": queue["enqueued_total"] - 1}
    )


# --- what a complete did beside ---------------------------------------------------


def _completes(history: History) -> list[int]:
    """Return the places of completes with operations that were acknowledged."""
    return [
        place
        for place, op in enumerate(history.ops)
        if op.name == "complete" and op.outcome == "ok" and op.args.get("ops")
    ]


@corruption("evidence", "a complete did another thing than was asked")
def _other_effects(history: History, rng: random.Random) -> None:
    """As if operations had been mixed up on their way."""
    place = pick(rng, _completes(history), "complete with operations")
    op = history.ops[place]
    ops = [{"op": "put", "key": "never", "value": "was"}, *op.args["ops"][1:]]
    args = {**op.args, "ops": ops}
    history.ops[place] = msgspec.structs.replace(op, args=args)


@corruption("evidence", "a complete lost one of its operations")
def _dropped_effect(history: History, rng: random.Random) -> None:
    """As if the last operation had been left out, and acknowledged."""
    place = pick(rng, _completes(history), "complete with operations")
    op = history.ops[place]
    (request,) = requests(
        history,
        lambda _, each: (
            (each.session, each.number) == (op.session, op.number)
            and each.outcome != "repeat"
        ),
    )
    applied = history.entries[request[0]].requests[request[1]]
    args = {**applied.args, "then": applied.args["then"][:-1]}
    answer = {**applied.answer, "results": applied.answer["results"][:-1]}
    change_request(
        history, request, msgspec.structs.replace(applied, args=args, answer=answer)
    )


@corruption("evidence", "a complete was answered what its operations did not come to")
def _other_results(history: History, rng: random.Random) -> None:
    """As if a waiter had got another's results."""
    place = pick(rng, _completes(history), "complete with operations")
    op = history.ops[place]
    results = [{"value": 99}, *op.answer["results"][1:]]
    answer = {**op.answer, "results": results}
    history.ops[place] = msgspec.structs.replace(op, answer=answer)


# --- in the log --------------------------------------------------------------------


def _moves(
    history: History, wanted: Callable[[Event], bool]
) -> list[tuple[int, Event]]:
    return [
        (at, event)
        for at, entry in enumerate(history.entries[:-1])
        for event in entry.events
        if event.what == "job" and wanted(event)
    ]


def _again(history: History, at: int, event: Event) -> None:
    """Have an event happen once more at the end of a later entry."""
    later = history.entries[at + 1]
    copy = msgspec.structs.replace(event, revision=later.revision)
    history.entries[at + 1] = msgspec.structs.replace(
        later, events=[*later.events, copy], now_ms=later.now_ms or 1
    )


@corruption("jobs", "a job is handed out while another worker has it")
def _reserved_twice(history: History, rng: random.Random) -> None:
    """As if a reserve that was sent again took the job again."""
    found = _moves(history, lambda event: event.state == "RESERVED")
    _again(history, *pick(rng, found, "reservation"))


@corruption("jobs", "a job ends twice")
def _ended_twice(history: History, rng: random.Random) -> None:
    """As if a complete and an expiry had both counted."""
    found = _moves(history, lambda event: event.state == "DONE")
    _again(history, *pick(rng, found, "job that was done"))


@corruption("jobs", "a complete was acknowledged, and its job is not done")
def _silent_complete(history: History, rng: random.Random) -> None:
    """As if the end of a job had been lost."""
    found = _moves(history, lambda event: event.state == "DONE")
    at, event = pick(rng, found, "job that was done")
    entry = history.entries[at]
    events = [each for each in entry.events if each is not event]
    history.entries[at] = msgspec.structs.replace(entry, events=events)


def _reserves(history: History, wanted: Callable[[Applied], bool]) -> list[Request]:
    return requests(
        history,
        lambda _, each: (
            each.name == "reserve"
            and each.outcome == "ok"
            and bool(each.answer.get("jobs"))
            and wanted(each)
        ),
    )


def _change_job(history: History, request: Request, **changes: object) -> None:
    applied = history.entries[request[0]].requests[request[1]]
    first, *others = applied.answer["jobs"]
    answer = {"jobs": [{**first, **changes}, *others]}
    change_request(history, request, msgspec.structs.replace(applied, answer=answer))


@corruption("jobs", "a job is handed out again with an older token")
def _older_token(history: History, rng: random.Random) -> None:
    """As if tokens did not rise over deliveries."""
    found = _reserves(
        history, lambda each: each.answer["jobs"][0].get("delivery", 0) > 1
    )
    _change_job(history, pick(rng, found, "job that was handed out twice"), token=1)


@corruption("jobs", "a worker whose token is old completes a job")
def _stale_complete(history: History, rng: random.Random) -> None:
    """As if a complete did not look at its token."""
    found = requests(
        history,
        lambda _, each: (
            each.name in {"complete", "fail", "release_job", "snooze"}
            and each.outcome == "ok"
        ),
    )
    request = pick(rng, found, "call of a worker")
    applied = history.entries[request[0]].requests[request[1]]
    args = {**applied.args, "token": applied.args["token"] - 1}
    change_request(history, request, msgspec.structs.replace(applied, args=args))


@corruption("jobs", "a job runs before its time")
def _early_run(history: History, rng: random.Random) -> None:
    """As if a delay were counted on another clock."""
    taken = {event.job for _, event in _moves(history, lambda e: e.state == "RESERVED")}
    found = requests(
        history,
        lambda _, each: (
            each.name == "enqueue"
            and each.outcome == "ok"
            and "delay_ms" in each.args["jobs"][0]
            and each.answer["ids"][0] in taken
        ),
    )
    request = pick(rng, found, "job with a delay")
    applied = history.entries[request[0]].requests[request[1]]
    first, *others = applied.args["jobs"]
    args = {"jobs": [{**first, "delay_ms": 3_600_000}, *others]}
    change_request(history, request, msgspec.structs.replace(applied, args=args))


@corruption("jobs", "a job overtakes one that comes first")
def _overtaking(history: History, rng: random.Random) -> None:
    """As if the order of the ready jobs were lost in a restart."""
    born = _born_alone(history)
    found = [
        job
        for job, line in _taken_from_a_line(history)
        if job in born
        and any(
            (_spec(history, born[other]).get("priority", 5), other) < (9, job)
            for other in line & born.keys()
        )
    ]
    request = born[pick(rng, found, "job that was taken before others")]
    args = {"jobs": [{**_spec(history, request), "priority": 9}]}
    applied = history.entries[request[0]].requests[request[1]]
    change_request(history, request, msgspec.structs.replace(applied, args=args))


def _born_alone(history: History) -> dict[int, Request]:
    """Return, for each job that was enqueued by itself, the request that did."""
    born: dict[int, Request] = {}
    for request in requests(history, lambda _, e: e.name == "enqueue" and not e.error):
        applied = history.entries[request[0]].requests[request[1]]
        if len(applied.args["jobs"]) == 1 and applied.answer:
            born.setdefault(applied.answer["ids"][0], request)
    return born


def _spec(history: History, request: Request) -> Fields:
    """Return what was said of the one job of an enqueue."""
    spec: Fields = history.entries[request[0]].requests[request[1]].args["jobs"][0]
    return spec


def _taken_from_a_line(history: History) -> Iterator[tuple[int, set[int]]]:
    """Yield each job reserved whatever its type, and who was left ready then."""
    ready: dict[str, set[int]] = {}
    for entry in history.entries:
        plain = {
            job["id"]
            for each in entry.requests
            if each.name == "reserve" and not each.args.get("types")
            for job in each.answer.get("jobs", [])
        }
        for event in entry.events:
            line = ready.setdefault(event.queue, set())
            line.discard(event.job)
            if event.state == "READY":
                line.add(event.job)
            elif event.state == "RESERVED" and event.job in plain:
                yield event.job, line


@corruption("jobs", "a job is taken from its worker before the reservation ends")
def _taken_early(history: History, rng: random.Random) -> None:
    """As if a reservation ended with the connection."""
    spans = {
        job["id"]: at
        for at, _ in _reserves(history, lambda each: True)
        for each in history.entries[at].requests
        if each.name == "reserve"
        for job in each.answer.get("jobs", [])
        if job.get("reservation_ms", 0) > 10_000
    }
    found = [
        (spans[event.job], event.job, event)
        for _, event in _moves(history, lambda event: event.state == "RESERVED")
        if event.job in spans
    ]
    at, _, event = pick(rng, found, "long reservation")
    back = msgspec.structs.replace(event, state="READY", previous_state="RESERVED")
    _again(history, at, back)
