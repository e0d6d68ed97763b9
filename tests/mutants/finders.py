"""The ways to look for a planted bug: random runs, random commands, and scripts.

* ``Simulated``: a run of the simulator (level A). Where whole-range draws show a bug
  too seldom, some are narrowed to where it can show; the events stay random.
* ``Served``: a run of the service simulator (level B): nodes and the client library,
  whose recorded history all checkers judge.
* ``Cores``: a random run of cores alone, without nodes, where any message may come
  again much later (``tests/consensus/test_random_runs``).
* ``Stateful``: random commands to the state machine against a naive model.
* ``Scripted``: a scenario of ``tests/consensus/scripts`` on real cores, under the
  oracle of these tests; its trace must come out as written.
* ``Played``: a scenario that is a function, on the nodes it makes itself.

Source: RELIABILITY.md section 6.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import hypothesis
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.consensus.test_random_runs import Run
from tests.consensus.test_scripts import Script
from tests.service.options import draw_service_options
from tests.service.run import Service
from tests.service.wires import NetOptions
from tests.sim.focus import narrowed
from tests.sim.options import Options
from tests.sim.run import Simulation
from tests.sim.world import World

__all__ = ["Cores", "Played", "Scripted", "Served", "Simulated", "Stateful"]

_STEPS: Final = 10_000
_SCRIPTS: Final = Path(__file__).parents[1] / "consensus" / "scripts"
_EXAMPLES: Final = 20
_SERVED_S: Final = 3.0
_CALM: Final[dict[str, Any]] = {
    "size": 3,
    "clients": 3,
    "rate": 100,
    "timeout_ms": 5000,
    "faults": ("break", "crash", "partition", "pause", "restart", "transfer"),
    "fault_interval_us": 300_000,
    "downtime_us": 500_000,
    "net": NetOptions(latency_us=1000, loss=0, breaks=0.001, silent=0),
}
"""What goes wrong at level B shows where streams break and leaders change."""


class Simulated:
    """A run of the simulator; some of its draws may be fixed."""

    kind: Final = "simulator, level A"
    is_random: Final = True

    def __init__(self, draws: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Fix some draws, those in ``more`` last."""
        self._draws: Final[dict[str, Any]] = {**(draws or {}), **more}

    def options(self, seed: int) -> Options:
        """Return what one seed is run with."""
        return narrowed(seed, self._draws)

    def run(self, seed: int) -> None:
        """Run one seed."""
        Simulation(seed, self.options(seed)).run(_STEPS)


class Served:
    """A run of the service simulator; some of its draws may be fixed."""

    kind: Final = "simulator, level B, and checkers"
    is_random: Final = True

    def __init__(
        self,
        draws: Mapping[str, Any] = _CALM,
        *,
        seconds: float = _SERVED_S,
        node: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Fix some draws.

        Args:
            draws: Of the whole.
            seconds: So long there are faults, in simulated time.
            node: Draws of each node.
            more: Of the whole, last.
        """
        self._seconds: Final = seconds
        self._node: Final[dict[str, Any]] = {"here": 0, **(node or {})}
        self._draws: Final[dict[str, Any]] = {"size": 3, **draws, **more}

    def run(self, seed: int) -> None:
        """Run one seed."""
        drawn = draw_service_options(World(seed).rng("service-options"))
        node = dataclasses.replace(drawn.node, size=3, **self._node)
        options = dataclasses.replace(drawn, node=node, **self._draws)
        Service(seed, options).run(self._seconds)


class Cores:
    """A random run of cores alone."""

    kind: Final = "random runs of cores"
    is_random: Final = True

    def run(self, seed: int) -> None:
        """Run one seed."""
        Run(seed).go()


class Stateful:
    """Some examples of a state machine of hypothesis."""

    kind: Final = "hypothesis, against a naive model"
    is_random: Final = True

    def __init__(self, machine: type[RuleBasedStateMachine], steps: int = 50) -> None:
        """Look with this machine, by so many commands an example."""
        self._machine: Final = machine
        self._settings: Final = hypothesis.settings(
            max_examples=_EXAMPLES,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            phases=[hypothesis.Phase.generate],
            verbosity=hypothesis.Verbosity.quiet,
            print_blob=False,
            report_multiple_bugs=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )

    def run(self, seed: int) -> None:
        """Run the examples of one seed."""
        seeded = hypothesis.seed(seed)(self._machine)
        with contextlib.redirect_stdout(io.StringIO()):
            run_state_machine_as_test(seeded, settings=self._settings)


class Scripted:
    """A scenario in the form of ``tests/consensus/test_scripts``."""

    is_random: Final = False

    def __init__(self, name: str) -> None:
        """Play the script of this name."""
        self._name: Final = name

    @property
    def kind(self) -> str:
        """Name the script."""
        return f"script {self._name}"

    def run(self, seed: int) -> None:
        """Play it; what happens must be what is written, whatever the seed."""
        assert seed, "seeds begin at 1"
        script = Script()
        happened: list[str] = []
        path = _SCRIPTS / f"{self._name}.txt"
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        for line in lines:
            if line.startswith("> "):
                happened += [line, *(f"  {event}" for event in script.run(line[2:]))]
        written = [line for line in lines if line.startswith(("> ", "  "))]
        for now, then in zip(happened, written, strict=False):
            assert now == then, f"{self._name}: {now.strip()}, not {then.strip()}"
        assert len(happened) == len(written), f"{self._name}: it ends otherwise"


class Played:
    """A scenario that is a function."""

    is_random: Final = False

    def __init__(self, play: Callable[[], None]) -> None:
        """Play this function."""
        self._play: Final = play

    @property
    def kind(self) -> str:
        """Name the scenario."""
        return f"scenario {self._play.__name__}"

    def run(self, seed: int) -> None:
        """Play it, whatever the seed."""
        assert seed, "seeds begin at 1"
        self._play()
