"""Watchers of keys, of jobs and of elections, which record what they are told.

A watch of keys is now and then ended and begun again by another watcher, at a revision
that lies back, from now on, or with a list: so every way to begin is used.

Source: RELIABILITY.md section 4 (models: watch).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from raftclient.jobs import JobState
from raftclient.keys import WatchKind
from tests.checkers.history import as_text
from tests.checkers.parts import Event, Filter
from tests.workload.kv_calls import end_of, found_of
from tests.workload.setting import for_a_while

if TYPE_CHECKING:
    from raftclient.aio import KeyWatch
    from raftclient.jobs import JobEvent
    from raftclient.keys import WatchEvent
    from tests.workload.setting import Setting
    from tests.workload.tap import TappedClient

__all__ = ["Watchers"]

_LIFE_S: Final = 15.0
_POLL_S: Final = 0.1


class Watchers:
    """See the module."""

    def __init__(self, setting: Setting) -> None:
        self._setting: Final = setting
        self._names = 0
        self._open: Final[dict[str, KeyWatch]] = {}
        self._stays = False

    async def watch_keys(self, client: TappedClient, prefix: str) -> None:
        """Watch, again and again, until the task is cancelled."""
        while True:
            await self._watch_once(client, prefix)

    async def _watch_once(self, client: TappedClient, prefix: str) -> None:
        setting = self._setting
        recorder, rng = setting.recorder, setting.rng
        watcher = self._name("keys")
        is_listed = rng.random() < 0.3
        from_rev = 0
        if not is_listed and client.revision and rng.random() < 0.5:
            from_rev = max(1, client.revision - rng.randrange(200))
        asked = Filter(start=prefix, end=end_of(prefix), previous=True)
        recorder.watching(watcher, asked, from_rev)
        feed = client.watch(
            prefix=prefix,
            from_rev=from_rev or None,
            initial=is_listed,
            want_previous=True,
        )
        self._open[watcher] = feed
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.uniform(0.3, 1.7) * _LIFE_S):
                    await self._follow_keys(watcher, feed)
            if self._stays:  # the run comes to its end: this watch sees all of it
                await self._follow_keys(watcher, feed)
        finally:
            del self._open[watcher]
            feed.close()

    async def _follow_keys(self, watcher: str, feed: KeyWatch) -> None:
        while True:
            items = await feed.batch()
            if not items:
                return
            self._tell(watcher, items)

    def _tell(self, watcher: str, items: list[WatchEvent]) -> None:
        """Record what came, a message for each run of changes."""
        recorder = self._setting.recorder
        run: list[Event] = []

        def end_run() -> None:
            if run:
                recorder.seen(watcher, "events", run)
                run.clear()

        for item in items:
            match item.kind:
                case WatchKind.PUT | WatchKind.DELETE:
                    run.append(_event(item))
                case WatchKind.INITIAL:
                    end_run()
                    recorder.seen(watcher, "initial", [_event(item)])
                case WatchKind.SYNCED:
                    end_run()
                    recorder.seen(watcher, "synced", revision=item.revision)
                case WatchKind.RESYNC:
                    end_run()
                    recorder.seen(watcher, "resync", revision=item.revision)
        end_run()

    async def catch_up(self, revision: int, within_s: float) -> bool:
        """Wait until the watches of keys were told everything up to a revision.

        Returns:
            Whether they were in time; it is then recorded as their progress.
        """
        self._stays = True
        end_s = asyncio.get_running_loop().time() + within_s
        while any(feed.revision < revision for feed in self._open.values()):
            if asyncio.get_running_loop().time() > end_s:
                return False
            await for_a_while(_POLL_S)
        await for_a_while(_POLL_S)  # what is queued is handed out in the next turn
        for watcher in self._open:
            self._setting.recorder.seen(watcher, "progress", revision=revision)
        return True

    # --- jobs and elections ------------------------------------------------------

    async def watch_jobs(self, client: TappedClient, queue: str) -> None:
        """Watch a queue from now on, until the task is cancelled."""
        recorder = self._setting.recorder
        watcher = self._name("jobs")
        recorder.watching(watcher, Filter(what="jobs", queue=queue))
        async with client.watch_jobs(queue) as feed:
            async for event in feed:
                if event.is_resync:
                    recorder.seen(watcher, "resync", revision=event.revision)
                if event.job_id:
                    recorder.seen(watcher, "events", [_job_event(event)])

    async def observe(self, client: TappedClient, election: str) -> None:
        """Observe an election from now on, until the task is cancelled."""
        recorder = self._setting.recorder
        observer = self._name("observer")
        is_first = True
        async with client.observe(election) as feed:
            async for event in feed:
                leader = event.leader
                recorder.observed(
                    observer,
                    election,
                    epoch=0 if leader is None else leader.epoch,
                    claimant="" if leader is None else leader.claimant,
                    value="" if leader is None else as_text(leader.value),
                    revision=event.revision,
                    is_state=is_first or event.is_resync,
                )
                is_first = False

    def _name(self, what: str) -> str:
        self._names += 1
        return f"{self._setting.name}/{what}{self._names}"


def _event(item: WatchEvent) -> Event:
    found, previous = item.key_value, item.previous
    assert found is not None, "neither SYNCED nor RESYNC"
    key = as_text(found.key)
    before = found_of(previous)
    if item.kind is WatchKind.DELETE:
        return Event(
            what="delete",
            revision=item.revision,
            key=key,
            mod_rev=found.mod_rev,
            previous=before,
        )
    return Event(
        what="put",
        revision=item.revision,
        key=key,
        value=as_text(found.value),
        create_rev=found.create_rev,
        mod_rev=found.mod_rev,
        version=found.version,
        lease=found.lease_id,
        previous=before,
    )


def _job_event(event: JobEvent) -> Event:
    state = "" if event.state is JobState.GONE else str(event.state)
    before = "" if event.previous_state is None else str(event.previous_state)
    return Event(
        what="job",
        revision=event.revision,
        queue=event.queue,
        job=event.job_id,
        state=state,
        previous_state=before,
    )
