"""Makes a run that fails small: fewer steps, faults, actions, nodes and clients.

Rules: each try is a run of a script, so equal tries are equal runs. What is kept has to
fail in the same way: the same kind of error, raised at the same place. Order: steps,
fault classes, actions (by halves, then quarters and so on), nodes, clients, actions
again.

Source: RELIABILITY.md section 6 (replay and shrinking).
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from tests.proof.seeds import commit_id
from tests.sim.actions import Action, Script
from tests.sim.options import Options
from tests.sim.run import Simulation

__all__ = ["Failure", "Found", "attempt", "shrink"]

_TRIES_MAX: Final = 400

_QUIET: Final[tuple[dict[str, Any], ...]] = (
    {"loss": 0},
    {"duplicate": 0},
    {"replay": 0},
    {"tail": 0},
    {"replay_late_us": 0},
    {"drift_ppm": 0},
    {"sleepy": 0},
    {"turn_lag_us": 0},
    {"workers": 0},
    {"candidates": 0},
    {"lockers": 0},
    {"goodbye": 0},
)
"""Fault classes that are no actions, and clients, each off."""


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """How a run failed: equal if it failed in the same way."""

    kind: str
    place: str
    text: str = dataclasses.field(compare=False)
    at_us: int = dataclasses.field(compare=False)
    steps: int = dataclasses.field(compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A small run that still fails."""

    script: Script
    failure: Failure
    lines: list[str]


def attempt(simulation: Simulation, steps: int) -> Failure | None:
    """Run to the end; None if nothing is wrong."""
    try:
        simulation.run(steps)
    except Exception as error:  # whatever it is, it is what is made small
        frame = traceback.extract_tb(error.__traceback__)[-1]
        world = simulation.world
        return Failure(
            type(error).__name__,
            f"{frame.filename.rsplit('/', 1)[-1]} {frame.name}",
            str(error),
            world.now_us,
            world.steps,
        )
    return None


def shrink(
    seed: int, options: Options, steps: int, planted_name: str = ""
) -> Found | None:
    """Make a failing run small; None if it does not fail."""
    first = Simulation(seed, options)
    failure = attempt(first, steps)
    if failure is None:
        return None
    shrinking = _Shrinking(seed, failure, planted_name)
    shrinking.bisect_steps(options, steps)
    if not shrinking.begin_script():
        return shrinking.found(first.options, first.actions)
    shrinking.drop_classes()
    shrinking.drop_actions()
    shrinking.drop_nodes()
    shrinking.drop_clients()
    shrinking.drop_actions()
    return shrinking.found()


class _Shrinking:
    """One failure on its way down."""

    def __init__(self, seed: int, failure: Failure, planted_name: str) -> None:
        self._seed: Final = seed
        self._wanted: Final = failure
        self._planted: Final = planted_name
        self._failure = failure
        self._tries = 0
        self._lines: Final[list[str]] = []
        self._drawn: Simulation | None = None
        self._script: Script | None = None

    # --- tries ------------------------------------------------------------------

    def _fails(self, simulation: Simulation, steps: int) -> bool:
        self._tries += 1
        failure = attempt(simulation, steps)
        if failure is None or failure != self._wanted:
            return False
        self._failure = failure
        return True

    def _try(self, script: Script) -> bool:
        """Go on with a script if it fails in the same way."""
        if self._tries >= _TRIES_MAX:
            return False
        is_failing = self._fails(Simulation(self._seed, script.options, script), 0)
        if is_failing:
            self._script = script
        return is_failing

    def _try_options(self, **changes: Any) -> bool:
        script = self._at
        options = dataclasses.replace(script.options, **changes)
        if options == script.options:
            return False
        return self._try(msgspec.structs.replace(script, options=options))

    @property
    def _at(self) -> Script:
        assert self._script is not None, "the run was written down"
        return self._script

    def _say(self, what: str) -> None:
        held = self._script or self._drawn
        actions = len(held.actions) if held is not None else 0
        self._lines.append(
            f"{what}: {self._failure.steps} steps, {actions} actions,"
            f" {self._tries} tries"
        )

    # --- what is made less ------------------------------------------------------

    def bisect_steps(self, options: Options, steps: int) -> None:
        """Find a run with few steps."""
        low, high = 0, steps
        while high - low > max(100, high // 50):
            middle = (low + high) // 2
            if self._fails(Simulation(self._seed, options), middle):
                high = middle
            else:
                low = middle
        drawn = Simulation(self._seed, options)
        assert self._fails(drawn, high), "equal runs fail equally"
        self._drawn = drawn
        self._say("drawn")

    def begin_script(self) -> bool:
        """Write the run down; False if it does not fail that way."""
        drawn, failure = self._drawn, self._failure
        assert drawn is not None, "the steps come first"
        is_hurt = drawn.heal_us is None
        return self._try(
            Script(
                seed=self._seed,
                options=dataclasses.replace(drawn.options, faults=(), changes=()),
                actions=tuple(drawn.actions),
                heal_us=drawn.heal_us,
                until_us=failure.at_us if is_hurt else None,
                failure=f"{failure.kind}: {failure.text}",
                planted=self._planted,
                commit=commit_id()[:12],
            )
        )

    def drop_classes(self) -> None:
        """Switch off whole classes of faults."""
        for name in sorted({_class_of(action) for action in self._at.actions}):
            left = [each for each in self._at.actions if _class_of(each) != name]
            self._try_actions(left)
        for changes in _QUIET:
            self._try_options(**changes)
        self._say("classes")

    def _try_actions(self, actions: Sequence[Action]) -> bool:
        return self._try(msgspec.structs.replace(self._at, actions=tuple(actions)))

    def drop_actions(self) -> None:
        """Leave out parts of the list, smaller and smaller ones."""
        parts = 2
        while len(self._at.actions) >= parts // 2 and self._at.actions:
            for kept in _without_parts(self._at.actions, parts):
                if self._try_actions(kept):
                    parts = max(2, parts - 1)
                    break
            else:
                if parts >= len(self._at.actions):
                    break
                parts = min(len(self._at.actions), 2 * parts)
        self._say("actions")

    def drop_nodes(self) -> None:
        """Begin with fewer nodes."""
        for size in range(1, self._at.options.size):
            if self._try_options(size=size):
                break
        self._say("nodes")

    def drop_clients(self) -> None:
        """Have fewer clients, that do less at a time."""
        for name in ("clients", "workers", "candidates", "lockers", "depth"):
            for count in range(int(name == "depth"), getattr(self._at.options, name)):
                if self._try_options(**{name: count}):
                    break
        self._say("clients")

    # --- the end ----------------------------------------------------------------

    def found(
        self, options: Options | None = None, actions: Sequence[Action] = ()
    ) -> Found:
        """Return the smallest run that was found."""
        script = self._script
        if script is None:
            assert options is not None, "nothing smaller was found"
            self._lines.append("the recorded list does not fail: only steps are fewer")
            script = Script(seed=self._seed, options=options, actions=tuple(actions))
        failure = self._failure
        script = msgspec.structs.replace(
            script, failure=f"{failure.kind}: {failure.text}"
        )
        if script.until_us is not None:
            script = msgspec.structs.replace(script, until_us=failure.at_us)
        self._lines.append(f"{failure.kind} in {failure.place}: {failure.text}")
        return Found(script, failure, self._lines)


def _class_of(action: Action) -> str:
    return f"{action.name} {action.kind}" if action.kind else action.name


def _without_parts(actions: Sequence[Action], parts: int) -> Iterator[list[Action]]:
    """Give the list without each of so many equal parts."""
    count = len(actions)
    for part in range(parts):
        begin, end = count * part // parts, count * (part + 1) // parts
        if begin < end:
            yield [*actions[:begin], *actions[end:]]
