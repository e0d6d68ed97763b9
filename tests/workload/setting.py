"""What the callers of one load share: chance, records, names in use, the end.

Rules: nothing here sleeps; a pause is a wait for the end of the run, with a timeout, on
the running loop's clock. All chance is the generator handed in.

Source: RELIABILITY.md section 4 (few operations and unknowns per key: names rotate).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Final

from tests.workload.caller import Caller
from tests.workload.tap import TappedClient
from tests.workload.wire import posted_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.checkers.recorder import Recorder
    from tests.workload.recorded import Tally
    from tests.workload.tap import Note

__all__ = ["Guard", "Names", "Options", "Setting", "for_a_while"]

_OPS_MAX: Final = 250
_UNKNOWN_MAX: Final = 8
"""Below the 300 and 10 that a search can take: calls under way are not counted yet."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much load, of what.

    Attributes:
        rate: Calls a second, all callers together, when nothing holds them up.
        kv_callers: Callers of the key-value store.
        lock_callers: Callers that take locks.
        election_callers: Callers that stand in elections.
        producers: Callers that enqueue.
        workers: Callers that reserve.
        watchers: Watches of keys under way at a time.
        ttl_s: Of sessions that hold claims.
        timeout_s: Of most calls: longer than any fault, so that most are answered.
        hasty_s: Of the calls of every fourth caller.
    """

    rate: float = 120.0
    kv_callers: int = 6
    lock_callers: int = 3
    election_callers: int = 2
    producers: int = 2
    workers: int = 3
    watchers: int = 2
    ttl_s: float = 3.0
    timeout_s: float = 30.0
    hasty_s: float = 1.5


async def for_a_while(for_s: float) -> None:
    """Wait by the running loop's clock."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await asyncio.get_running_loop().create_future()


class Names:
    """Names in use, each replaced by a new one before it has too many operations."""

    def __init__(
        self,
        rng: random.Random,
        prefix: str,
        count: int,
        on_new: Callable[[str], None] | None = None,
    ) -> None:
        self._rng: Final = rng
        self._on_new: Final = on_new
        self._prefix: Final = prefix
        self._drawn = 0
        self._ops: dict[str, int] = {}
        self._unknown: dict[str, int] = {}
        self._names: list[str] = []
        for _ in range(count):
            self._names.append(self._new())

    def pick(self) -> str:
        """Choose one for an operation."""
        place = self._rng.randrange(len(self._names))
        name = self._names[place]
        self._ops[name] += 1
        if self._ops[name] > _OPS_MAX or self._unknown[name] > _UNKNOWN_MAX:
            del self._ops[name], self._unknown[name]
            name = self._names[place] = self._new()
            self._ops[name] = 1
        return name

    def count(self, name: str, *, is_unknown: bool, ops: int = 0) -> None:
        """Take note of how it went, and of more operations on the name."""
        if name in self._ops:
            self._ops[name] += ops
            self._unknown[name] += is_unknown

    def _new(self) -> str:
        name = f"{self._prefix}{self._drawn:04}"
        self._drawn += 1
        self._ops[name] = self._unknown[name] = 0
        if self._on_new is not None:
            self._on_new(name)
        return name


class Guard:
    """Resources outside the cluster; each refuses a token below the highest.

    Every load has resources of its own: they are in the memory of its process.
    """

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder: Final = recorder
        self._name: Final = name
        self._highest: dict[str, int] = {}
        self.refused = 0
        """Writes with an old token; expected, and the point of tokens."""

    def write(self, claim: str, client: str, token: int) -> bool:
        """Show a token to the resource that a claim protects."""
        accepted = token >= self._highest.get(claim, 0)
        if accepted:
            self._highest[claim] = token
        else:
            self.refused += 1
        self._recorder.guarded(
            f"{self._name}/{claim}", claim, client, token, accepted=accepted
        )
        return accepted


class Setting:
    """See the module.

    Args:
        endpoints: Of the cluster; may be set anew when all of them have gone.
        rng: All chance of the load.
        recorder: Of the run.
        tally: Of the run.
        options: How much of what.
        name: Apart from other loads on the same cluster.
    """

    def __init__(
        self,
        endpoints: str,
        rng: random.Random,
        recorder: Recorder,
        tally: Tally,
        options: Options,
        name: str,
    ) -> None:
        self.endpoints = endpoints
        self.rng: Final = rng
        self.recorder: Final = recorder
        self.tally: Final = tally
        self.options: Final = options
        self.name: Final = name
        self.stop: Final = asyncio.Event()
        self.guard: Final = Guard(recorder, name)
        self._clients: list[TappedClient] = []
        self._of_callers: list[TappedClient] = []
        self._callers = 0
        self._posted = 0

    @property
    def now_us(self) -> Callable[[], int]:
        """The true clock."""
        return self.tally.now_us

    @property
    def is_over(self) -> bool:
        """Whether the callers are to come to an end."""
        return self.stop.is_set()

    async def pause(self, mean_s: float) -> None:
        """Wait, for a drawn time around this one, or until the end."""
        await self.rest(min(self.rng.expovariate(1 / mean_s), 5 * mean_s))

    async def rest(self, for_s: float) -> None:
        """Wait so long, or until the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(for_s):
                await self.stop.wait()

    def connect(self, what: str, *, timeout_s: float | None = None) -> TappedClient:
        """Make a client of its own, closed at the end of the load."""
        name = f"{self.name}/{what}"
        client = TappedClient(
            self.endpoints,
            ttl_s=self.options.ttl_s,
            claimant=name,
            timeout_s=self.options.timeout_s if timeout_s is None else timeout_s,
            on_posted=lambda note: self._note_posted(name, note),
        )
        self._clients.append(client)
        return client

    def caller(self, what: str) -> Caller:
        """Make a caller with a client of its own; every fourth one is hasty."""
        self._callers += 1
        is_hasty = self._callers % 4 == 0
        client = self.connect(
            what, timeout_s=self.options.hasty_s if is_hasty else None
        )
        self._clients.remove(client)
        self._of_callers.append(client)
        return Caller(client, self.recorder, f"{self.name}/{what}", self.tally)

    async def close_callers(self) -> None:
        """Close the clients of all callers, so that their claims end."""
        clients, self._of_callers = self._of_callers, []
        await asyncio.gather(*(client.close() for client in clients))

    async def close(self) -> None:
        """Close all clients; may be called twice."""
        await self.close_callers()
        clients, self._clients = self._clients, []
        await asyncio.gather(*(client.close() for client in clients))

    def _note_posted(self, name: str, note: Note) -> None:
        """What the library sends of its own accord is never answered to anybody."""
        posted = None if note.request is None else posted_of(note.request)
        if posted is None:
            return
        what, args = posted
        self._posted += 1
        op = self.recorder.begin(f"{name}/posted{self._posted}", what, args)
        self.recorder.end(op, "unknown", session=note.session, number=note.number)
