"""Ours and the peers take turns, workload by workload, round after round.

Rules: each system is started once and rests (SIGSTOP) while another is measured. Within
a round one workload is run on all systems, one after the other, before the next
workload; every other round goes through the systems backwards, so that none is always
first. A peer that is missing or fails is left out from there on and told in a sentence;
ours may not fail.

Source: PERFORMANCE.md (measure in turn, several times).
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.ours import Raftd
from tests.bench.peers.base import Peer, PeerFailed, PeerMissing
from tests.bench.results import Turn
from tests.bench.workloads import Spec

__all__ = ["Outcome", "Plan", "Step", "run_plan", "run_steps", "started", "steps_of"]


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """How much is run.

    Attributes:
        specs: Workloads, in the order of a round.
        rounds: How many times each.
        warm_up_s: Before each measurement.
        measured_s: Of each measurement.
        peers: Beside whom; those that are not there are told.
        settle: Called before each turn: nobody pays for what the one before left to
            be written to the disk.
    """

    specs: Sequence[Spec]
    rounds: int
    warm_up_s: float
    measured_s: float
    peers: Sequence[Peer] = ()
    settle: Callable[[], None] = os.sync


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One system's turn."""

    round: int
    spec: Spec
    system: Peer


@dataclasses.dataclass(slots=True)
class Outcome:
    """What came of it.

    Attributes:
        turns: Every run, in order.
        versions: Of the systems that started.
        left_out: What could not be run, and why, in sentences.
    """

    turns: list[Turn] = dataclasses.field(default_factory=list)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)


def steps_of(
    specs: Sequence[Spec], rounds: int, systems: Sequence[Peer]
) -> Iterator[Step]:
    """Yield the turns in their order."""
    for number in range(rounds):
        order = systems if number % 2 == 0 else tuple(reversed(systems))
        for spec in specs:
            for system in order:
                if spec.name in system.measures:
                    yield Step(number, spec, system)


async def run_plan(
    plan: Plan, say: Callable[[str], None], outcome: Outcome | None = None
) -> Outcome:
    """Run all rounds on fresh systems, gone with their data afterwards.

    Args:
        plan: What to run.
        say: Told what is being done.
        outcome: Told every run when it ends, so that none is lost by a later one.

    Raises:
        WorkloadFailed: Something of ours did not work; the sentence says what.
    """
    ours = Raftd()
    wanted = {spec.name for spec in plan.specs}
    # Ours last: once gRPC has threads in this process, starting others is slow.
    systems = [*(peer for peer in plan.peers if wanted & peer.measures), ours]
    outcome = outcome or Outcome()
    with tempfile.TemporaryDirectory(prefix="raftd-bench-") as home:
        try:
            async with started(systems, Path(home), say, outcome) as there:
                order = [ours, *(system for system in there if system is not ours)]
                await run_steps(plan, order, say, outcome)
        except Exception as error:
            for text in ours.logs():
                error.add_note(text)
            raise
    return outcome


@asynccontextmanager
async def started(
    systems: Sequence[Peer], home: Path, say: Callable[[str], None], outcome: Outcome
) -> AsyncIterator[list[Peer]]:
    """Start one after the other, and yield those that are there; end all of them.

    Args:
        systems: Started in this order; each rests if it is not alone.
        home: Each gets a folder in it.
        say: Told what is being done.
        outcome: Told versions, and what is missing.
    """
    there: list[Peer] = []
    try:
        for number, system in enumerate(systems):
            say(f"starting {system.name}")
            try:
                await system.start(home / f"system-{number}")
            except (PeerMissing, PeerFailed) as error:
                await system.stop()
                outcome.left_out.append(f"{system.name}: {error}")
                continue
            if len(systems) > 1:
                system.rest()
            outcome.versions[system.name] = system.version
            there.append(system)
        yield there
    finally:
        await asyncio.gather(*(system.stop() for system in systems))


async def run_steps(
    plan: Plan,
    systems: Sequence[Peer],
    say: Callable[[str], None],
    outcome: Outcome,
) -> None:
    """Run all rounds on systems that were started.

    Args:
        plan: What to run.
        systems: Who takes turns.
        say: Told what is being done.
        outcome: Told every run, and who had to be left out.
    """
    failed: set[str] = set()
    for step in steps_of(plan.specs, plan.rounds, systems):
        name, measure = step.system.name, step.spec.name
        if name in failed:
            continue
        say(f"round {step.round + 1} of {plan.rounds}: {measure} on {name}")
        await asyncio.to_thread(plan.settle)
        try:
            run = await step.system.run(
                measure,
                step.spec.tasks,
                warm_up_s=plan.warm_up_s,
                measured_s=plan.measured_s,
            )
        except PeerFailed as error:
            failed.add(name)
            outcome.left_out.append(f"{name}, from {measure} on: {error}")
            continue
        finally:
            if len(systems) > 1:
                step.system.rest()
        outcome.turns.append(Turn(name, measure, step.round, **dataclasses.asdict(run)))
