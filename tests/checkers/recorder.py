"""Collect what happens in a run, in memory, and write it as a history.

    recorder = Recorder(now_us, Meta(made_by="chaos", commit=commit, seed=seed))
    op = recorder.begin("client-3", "put", {"key": "k7", "value": "v81"})
    ...
    recorder.end(op, "ok", revision=reply.revision, answer={"mod_rev": 812},
                 session=session, number=number)
    recorder.log(entries_of_a_member)
    recorder.save(path)

Rules: one recorder for a run, used from one thread. ``now_us`` is the one true clock of
the run. What `begin` began and nothing ended is unknown when the history is made.

Source: RELIABILITY.md section 4; `records` for what each name takes and answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from tests.checkers import history
from tests.checkers.logbook import read_log
from tests.checkers.records import Belief, FinalState, Guarded, Observed, Op, Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from typing import Literal

    from tests.checkers.parts import Event, Fields, Filter
    from tests.checkers.records import Meta, Outcome, Record

__all__ = ["Recorder", "load"]

load = history.load
"""Read a history from a file; see `history.load`."""


class Recorder:
    """See the module.

    Args:
        now_us: The true clock, in microseconds; never falls.
        meta: What makes the history.
    """

    def __init__(self, now_us: Callable[[], int], meta: Meta) -> None:
        self.now_us: Final = now_us
        self._history: Final = history.History(meta=meta)
        self._open: Final[dict[int, Op]] = {}
        self._believed: Final[dict[int, Belief]] = {}
        self._next_id = 1

    def next_id(self) -> int:
        """Return an id that no operation has yet."""
        self._next_id += 1
        return self._next_id - 1

    def add(self, record: Record) -> None:
        """Note a record as it is; `next_id` and ``now_us`` are for those who make one.

        An operation is noted once, when it has ended or nobody waits for it any more.
        """
        self._history.add(record)

    # --- operations --------------------------------------------------------------

    def begin(
        self, client: str, name: str, args: Fields | None = None, *, session: int = 0
    ) -> int:
        """Note that a client begins an operation, just before it does.

        Args:
            client: Who; after an unknown outcome the same may not begin another.
            name: See `records`.
            args: See `records`; bytes go through `history.as_text`.
            session: If known already.

        Returns:
            The operation's id, for `end`.
        """
        number = self.next_id()
        self._open[number] = Op(
            id=number,
            client=client,
            name=name,
            call_us=self.now_us(),
            args=args or {},
            session=session,
        )
        return number

    def sent(self, op: int, session: int, number: int, args: Fields) -> None:
        """Note what was learnt of an open operation: its number, more of its args.

        So that evidence can settle it if its end is never noted.
        """
        begun = self._open[op]
        self._open[op] = msgspec.structs.replace(
            begun, session=session, number=number, args={**begun.args, **args}
        )

    def end(
        self,
        op: int,
        outcome: Outcome,
        *,
        error: str = "",
        revision: int = 0,
        answer: Fields | None = None,
        session: int = 0,
        number: int = 0,
    ) -> None:
        """Note how an operation ended, just after it did.

        Args:
            op: What `begin` returned.
            outcome: ``refused`` only if the error says ``applied=no``.
            error: Its reason, unless ok.
            revision: Of the reply's header; 0 = not known.
            answer: See `records`; of an ok one.
            session: Whose numbered write it was; 0 = none, or as said before.
            number: Its number (of the last sending, if it was sent under several).
        """
        begun = self._open.pop(op)
        self._history.ops.append(
            msgspec.structs.replace(
                begun,
                return_us=None if outcome == "unknown" else self.now_us(),
                outcome=outcome,
                error=error,
                revision=revision,
                answer=answer or {},
                session=session or begun.session,
                number=number or begun.number,
            )
        )

    # --- watchers ----------------------------------------------------------------

    def watching(self, watcher: str, filter_: Filter, from_rev: int = 0) -> None:
        """Note that a watch is asked for, just before it is.

        Args:
            watcher: A name of its own.
            filter_: What it asks for.
            from_rev: First revision wanted; 0 = from now on, or with a list first.
        """
        self._history.seen.append(
            Seen(
                watcher=watcher,
                at_us=self.now_us(),
                what="began",
                filter=filter_,
                revision=from_rev,
            )
        )

    def seen(
        self,
        watcher: str,
        what: Literal["initial", "synced", "events", "progress", "resync"],
        events: Iterable[Event] = (),
        *,
        revision: int = 0,
        resumed: bool = False,
    ) -> None:
        """Note a message of a watch, in the order in which they are handed out.

        Args:
            watcher: As in `watching`.
            what: See `Seen`.
            events: Of one or more revisions, or of one, or a part of one.
            revision: If the message says that all up to there was told.
            resumed: It is the first after a reconnect.
        """
        self._history.seen.append(
            Seen(
                watcher=watcher,
                at_us=self.now_us(),
                what=what,
                revision=revision,
                events=list(events),
                resumed=resumed,
            )
        )

    def observed(
        self,
        observer: str,
        election: str,
        *,
        epoch: int,
        claimant: str = "",
        value: str = "",
        revision: int = 0,
        is_state: bool = False,
        resumed: bool = False,
    ) -> None:
        """Note what an observer of an election was told; epoch 0 = nobody leads."""
        self._history.observed.append(
            Observed(
                observer=observer,
                at_us=self.now_us(),
                election=election,
                epoch=epoch,
                claimant=claimant,
                value=value,
                revision=revision,
                is_state=is_state,
                resumed=resumed,
            )
        )

    # --- outside the cluster -----------------------------------------------------

    def guarded(
        self, resource: str, claim: str, client: str, token: int, *, accepted: bool
    ) -> None:
        """Note what a guarded resource decided, as it did."""
        self._history.guarded.append(
            Guarded(
                resource=resource,
                claim=claim,
                client=client,
                at_us=self.now_us(),
                token=token,
                accepted=accepted,
            )
        )

    def believe(
        self,
        what: Literal["lock", "election"],
        name: str,
        client: str,
        claimant: str,
        token: int,
        *,
        mode: int = 1,
        limit: int = 1,
    ) -> int:
        """Note that a client believes from now on that a claim is its own.

        Returns:
            The belief, for `doubt`.
        """
        number = self.next_id()
        now_us = self.now_us()
        self._believed[number] = Belief(
            what=what,
            name=name,
            client=client,
            claimant=claimant,
            token=token,
            from_us=now_us,
            until_us=now_us,
            mode=mode,
            limit=limit,
        )
        return number

    def doubt(self, belief: int, *, until_us: int | None = None) -> None:
        """Note that a belief is over: called twice, the first counts.

        Args:
            belief: What `believe` returned.
            until_us: When it was over, by the true clock; None = now. Call it before
                the release is begun, and as soon as the client's own clock says lost.
        """
        held = self._believed.pop(belief, None)
        if held is not None:
            end_us = self.now_us() if until_us is None else until_us
            self._history.beliefs.append(
                msgspec.structs.replace(held, until_us=max(held.from_us, end_us))
            )

    # --- evidence and end --------------------------------------------------------

    def log(self, log: Iterable[tuple[int, int, bytes]]) -> None:
        """Note the applied log; once, when all is quiet.

        Args:
            log: Index, term and payload of every entry from index 1 to the commit
                index of a member; of entries that are no batch (no-ops, changes of
                members) the payload is empty.

        Raises:
            HistoryError: It does not begin at index 1, or has a gap.
        """
        self._history.entries.extend(read_log(log))

    def final(self, final: FinalState) -> None:
        """Note what is there in the end; may be several, of parts."""
        self._history.finals.append(final)

    def history(self) -> history.History:
        """Return the history so far; what is open is unknown, or believed until now."""
        for belief in list(self._believed):
            self.doubt(belief)
        found = self._history
        still_open = sorted(self._open.values(), key=lambda op: op.id)
        return msgspec.structs.replace(found, ops=[*found.ops, *still_open])

    def save(self, path: Path) -> None:
        """Write the history; see `history.save`."""
        history.save(self.history(), path)
