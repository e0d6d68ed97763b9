"""The recorded load of ``tests.workload`` in processes that share their names.

Rules: every process has callers of its own on the same keys, locks, elections and
queues, writes into one history and shows its tokens to one guard. A process that is
killed believes nothing any more; its calls stay unknown. The first process brings the
queues to their end, when the others have.

Source: RELIABILITY.md section 6 (clients: several per seed, pauses, guarded resource).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tests.checkers.recorder import Recorder
from tests.service.hosts import Host
from tests.service.loop import current_loop
from tests.service.options import ServiceOptions
from tests.sim.world import SimFailure, World
from tests.workload.load import Load
from tests.workload.setting import Options

__all__ = ["Client", "Clients"]

_SPACE: Final = "s"


class _LifeRecorder:
    """One recorder for all, which knows what one process believes."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Final = recorder
        self._believed: Final[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recorder, name)

    def believe(self, *what: Any, **more: Any) -> int:
        """Note that a claim is believed to be held."""
        belief = self._recorder.believe(*what, **more)
        self._believed.append(belief)
        return belief

    def die(self) -> None:
        """Nothing is believed any more."""
        for belief in self._believed:
            self._recorder.doubt(belief)


class _SharedLoad(Load):
    """A load on names that others use as well.

    Those of the one that was made first, which need not be the one that brings the run
    to its end: the order in which processes begin is drawn.
    """

    def __init__(
        self,
        first: _SharedLoad | None,
        *,
        brings_to_end: bool,
        who: str,
        endpoints: str,
        recorder: Any,
        world: World,
        options: Options,
    ) -> None:
        self._loop: Final = current_loop()
        super().__init__(
            endpoints,
            world.rng(f"load/{who}"),
            recorder,
            lambda: world.now_us,
            options,
            _SPACE,
        )
        self._brings_to_end: Final = brings_to_end
        vars(self._setting)["name"] = who
        if first is not None:
            first.share_with(self)

    def share_with(self, other: _SharedLoad) -> None:
        """Have another use the same names and the same guard."""
        vars(other._setting)["guard"] = self._setting.guard  # of its kind
        for own, theirs in (
            (self._keys, other._keys),
            (self._claims, other._claims),
        ):  # as above
            for name, value in vars(own).items():
                if name != "_setting":
                    vars(theirs)[name] = value

    def _new_election(self, name: str) -> None:
        """Observe it in this process, whichever has made it up."""
        if current_loop() is self._loop:
            super()._new_election(name)
        else:
            self._loop.call_soon_threadsafe(self._new_election, name)

    async def _end(self) -> None:
        if self._brings_to_end:
            await super()._end()
        else:
            await self._setting.close_callers()


class Client:
    """One client process through all its lives."""

    def __init__(self, clients: Clients, number: int) -> None:
        world, options = clients.world, clients.options
        self.host: Final = Host(
            world,
            f"c{number}",
            options.node.drift_ppm,
            is_shuffled=options.is_shuffled,
        )
        self.load: _SharedLoad | None = None
        self.is_done = False
        self._clients: Final = clients
        self._world: Final[World] = world
        self._recorder: _LifeRecorder | None = None
        self._is_stopped = False

    def start(self) -> None:
        """Begin a process with its callers."""
        if self.host.is_up or self._is_stopped:
            return
        clients, host = self._clients, self.host
        main, _ = host.boot(clients.options.thread_lag_us, "", "k")
        name = f"{host.name}.{host.life}"
        self._world.note(f"{name} starts")
        self._recorder = recorder = _LifeRecorder(clients.recorder)

        async def live() -> None:
            endpoints = list(clients.endpoints)
            host.rng.shuffle(endpoints)
            self.load = load = _SharedLoad(
                clients.first_load,
                brings_to_end=self is clients.processes[0],
                who=name,
                endpoints=",".join(endpoints),
                recorder=recorder,
                world=self._world,
                options=clients.load_options,
            )
            clients.loads.append(load)
            try:
                await load.run()
            except Exception as error:  # whatever it is, it ends the run
                clients.fail(name, error)
            self.is_done = True

        main.call_soon(main.create_task, live())
        main.poke()

    def crash(self) -> None:
        """End at once; what it held, it believes no more."""
        if self.host.is_up and self._recorder is not None:
            self._recorder.die()
            self.host.kill()

    def stop(self) -> None:
        """Come to an orderly end."""
        self._is_stopped = True
        load = self.load
        if self.host.is_up and load is not None:
            self.host.loops[0].take(load.stop)
        else:
            self.is_done = True


class Clients:
    """All client processes of one run."""

    def __init__(
        self,
        world: World,
        options: ServiceOptions,
        endpoints: list[str],
        recorder: Recorder,
    ) -> None:
        self.world: Final = world
        self.options: Final = options
        self.endpoints: Final = endpoints
        self.recorder: Final = recorder
        self.loads: Final[list[_SharedLoad]] = []
        self.load_options: Final = _load_options(options)
        self.processes: Final = [Client(self, n + 1) for n in range(options.clients)]

    @property
    def first_load(self) -> _SharedLoad | None:
        """The first that was made: all use its names."""
        return self.loads[0] if self.loads else None

    def fail(self, name: str, error: BaseException) -> None:
        """End the run: a caller met a bug."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, asyncio.CancelledError):
            return
        failure = SimFailure(f"a caller of {name} failed: {error!r}")
        failure.__cause__ = error
        self.world.fail(failure)

    def others(self) -> list[Client]:
        """Return all but the one that brings the queues to their end."""
        return self.processes[1:]

    @property
    def troubles(self) -> list[str]:
        """What did not come about."""
        return [trouble for load in self.loads for trouble in load.troubles]

    def count(self, what: Callable[[Any], int]) -> int:
        """Add up what the loads have counted."""
        return sum(what(load.tally) for load in self.loads)

    def kill(self) -> None:
        """End all that runs."""
        for process in self.processes:
            process.crash()


def _load_options(options: ServiceOptions) -> Options:
    return Options(
        rate=options.rate / options.clients,
        kv_callers=2,
        lock_callers=1,
        election_callers=1,
        producers=1,
        workers=1,
        watchers=1,
        ttl_s=options.ttl_ms / 1000,
        timeout_s=options.timeout_ms / 1000,
        hasty_s=0.3,
    )
