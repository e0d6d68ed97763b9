"""The records of a history: what each line of the file may be.

Names of operations, their args and their answers are the same for an operation of a
client and for a command of the log: the fields of the commands and results in
``raftd.statemachine.schema``. Args that have their default may be left out::

    name           args                                        answer
    open_session   ttl_ms claimant                             session ttl_ms is_new
    close_session  session
    grant          ttl_ms claimant                             lease ttl_ms
    keep_alive     lease                                       ttl_ms
    revoke         lease                                       attachments
    put            key value lease want_previous               mod_rev previous
    cas            as put, with if_mod_rev                     mod_rev previous
    delete         key if_mod_rev want_previous                deleted previous
    delete_range   start end                                   deleted
    incr           key by lease                                value mod_rev
    get            key at_revision stale                       found
    range          start end at_revision stale limit           found (a list)
    txn            compares then orelse                        has_succeeded results
    acquire        name lease claimant mode limit wait_ms delay_ms    token
    cancel_acquire name lease claimant                         was_waiting
    release_lock   name token
    break_lock     name                                        holders
    get_lock       name                                        holders waiters
    campaign       name lease claimant value wait_ms           epoch
    withdraw       name lease claimant                         was_waiting
    proclaim       name epoch value
    resign         name epoch
    transfer_election  name to                                 epoch
    get_election   name                                        epoch claimant value
    enqueue        jobs (a list of JobSpec)                    ids states existed
    reserve        lease queues worker jobs_max types          jobs: a list of id token
                                                               attempt delivery ...
    extend         job token for_ms                            remaining_ms
    savepoint      job token savepoint progress                remaining_ms
    complete       job token result ops                        results, if it had ops
    fail           job token error retry_in_ms is_fatal        state retry_in_ms
    snooze         job token for_ms
    release_job    job token
    cancel_job     job                                         state
    redrive        queue states jobs type jobs_max             jobs
    configure_queue queue options    pause_queue queue is_paused
    purge_queue    queue states      delete_queue queue is_forced     jobs
    get_job        job                                         found
    get_queue      queue                                       depth, counts by state

An op of a txn (or of a complete, where it stands in the log as a txn) is its args with
its name as ``op``; its result is its answer.
``found`` and ``previous`` are None or key, value, create_rev, mod_rev, version, lease.
Modes of locks are 1 exclusive, 2 shared, 3 semaphore; states of jobs are the names
SCHEDULED to EXPIRED. Whatever else is noted is kept and not judged.

Source: RELIABILITY.md section 4; ERRORS.md for outcomes.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from tests.checkers.parts import Applied, Decided, Event, Fields, Filter

__all__ = [
    "Belief",
    "Entry",
    "FinalState",
    "Guarded",
    "Meta",
    "Observed",
    "Op",
    "Outcome",
    "Record",
    "Seen",
]

Outcome = Literal["ok", "refused", "unknown"]
"""ok: it happened and was answered. refused: an error that says ``applied=no``.
unknown: any other error, or no answer when the run ended."""


class _Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    tag=str.lower,
):
    """A line of the file."""


class Meta(_Record, frozen=True):
    """Where a history comes from; the first line.

    Attributes:
        made_by: The program: ``chaos``, ``service``, ``synthetic`` ...
        commit: What ran; empty = not known.
        seed: Of the run; 0 = none.
        options: What else is needed to repeat it, for people.
        drift_ppm: How far clocks of clients may have run off: beliefs are judged under
            this bound only.
    """

    made_by: str
    commit: str = ""
    seed: int = 0
    options: dict[str, str] = {}
    drift_ppm: int = 50_000


class Op(_Record, frozen=True):
    """One call of a client, from its begin to its end.

    Attributes:
        id: Unique in the history; a judge's sentences name it.
        client: Who; one that got an unknown outcome calls no more (take a new name).
        name: See the module.
        call_us: Just before it was begun.
        return_us: Just after it ended; None = unknown, it may take effect for ever.
        args: What was asked.
        outcome: See `Outcome`.
        error: Code of ERRORS.md, of an unknown outcome too if there is one.
        revision: Of the answer's header (the reply's ``revision``), ok or refused; 0 =
            not known. Of a write: the state's revision right after it, or after a later
            command of its entry.
        answer: What came back; empty unless ok.
        session: Whose numbered write it was; 0 = none, or a read.
        number: Its number in the session, of the last sending; 0 = none. Evidence
            settles an unknown outcome by (session, number) only.
    """

    id: int
    client: str
    name: str
    call_us: int
    return_us: int | None = None
    args: Fields = {}
    outcome: Outcome = "unknown"
    error: str = ""
    revision: int = 0
    answer: Fields = {}
    session: int = 0
    number: int = 0


class Seen(_Record, frozen=True):
    """One message of a watch, or one event of it as a client library hands them out.

    Attributes:
        watcher: The same name over all reconnects of one watch.
        at_us: When it was got.
        what: ``began`` (the watch was asked for: ``revision`` is its from_rev, 0 = now;
            record it once, and again only where the watcher itself asks anew), then
            ``initial`` (events are a part of the list of all there is), ``synced`` (the
            list is complete, as of ``revision``), ``events``, ``progress`` (all up to
            ``revision`` was told), ``resync`` (forget everything; a list follows).
        filter: Of the watch; needed with ``began`` only.
        revision: Everything up to here was told; 0 = not said.
        events: In the order they came.
        resumed: The first message after a reconnect.
    """

    watcher: str
    at_us: int
    what: Literal["began", "initial", "synced", "events", "progress", "resync"]
    filter: Filter | None = None
    revision: int = 0
    events: list[Event] = []
    resumed: bool = False


class Observed(_Record, frozen=True):
    """An observer of an election was told who leads.

    Attributes:
        observer: The same name over all reconnects.
        at_us: When.
        election: Its name.
        epoch: 0 = nobody leads.
        claimant: Who leads; empty = nobody.
        value: What the leader proclaims.
        revision: Of the event; of the first one of an observation without from_rev that
            of the state when it was made.
        is_state: This is the present state and not a transition: the first of an
            observation without from_rev, and the first after a RESYNC.
        resumed: The first after a reconnect.
    """

    observer: str
    at_us: int
    election: str
    epoch: int = 0
    claimant: str = ""
    value: str = ""
    revision: int = 0
    is_state: bool = False
    resumed: bool = False


class Guarded(_Record, frozen=True):
    """Something outside the cluster was written to with a fencing token.

    Attributes:
        resource: What; it keeps the highest token it has seen.
        claim: The lock, election or job that it belongs to.
        client: Who wrote.
        at_us: When the resource decided.
        token: What it was shown.
        accepted: What it decided.
    """

    resource: str
    claim: str
    client: str
    at_us: int
    token: int
    accepted: bool


class Belief(_Record, frozen=True):
    """A client believed, by its own clock, that a claim was its own.

    Attributes:
        what: A lock or an election.
        name: Of it.
        client: Who believed.
        claimant: As in the acquire or campaign.
        token: Or epoch.
        from_us: When the grant's answer was there.
        until_us: When it let go (before it began to release), or gave up by its own
            clock, or died (was killed or stopped for good); true time.
        mode: 1 exclusive, 2 shared, 3 semaphore.
        limit: Of a semaphore.
    """

    what: Literal["lock", "election"]
    name: str
    client: str
    claimant: str
    token: int
    from_us: int
    until_us: int
    mode: int = 1
    limit: int = 1


class Entry(_Record, frozen=True):
    """Evidence: one entry of the replicated log and what it did (`logbook.read_log`).

    Attributes:
        index: From 1 without a gap.
        term: Raft's.
        now_ms: The lease clock, as stamped; 0 in an entry of Raft's own.
        wall_ms: Wall time, as stamped.
        revision: The state's, after it.
        renewals: Leases and sessions renewed by it, before timers.
        lost: Those of the renewals that were no live lease.
        requests: In order, after timers.
        decided: Waits that ended.
        events: In order.
        ended: Leases and sessions that ended.
    """

    index: int
    term: int
    now_ms: int = 0
    wall_ms: int = 0
    revision: int = 0
    renewals: list[int] = []
    lost: list[int] = []
    requests: list[Applied] = []
    decided: list[Decided] = []
    events: list[Event] = []
    ended: list[int] = []


class FinalState(_Record, frozen=True, tag="final"):
    """What is there in the end, read when all is quiet; a list not read is None.

    Attributes:
        revision: Of the reads.
        keys: key, value, create_rev, mod_rev, version, lease.
        locks: name, holders (claimant, lease, token, mode each), waiters (a count).
        elections: name, epoch, claimant, value.
        jobs: All of all queues, final ones too: job, queue, state, attempt, delivery,
            crashes, token, client_id.
        queues: name, and counts by state (scheduled, ready ...), enqueued_total.
        digests: Of each member, by name, at one index, as hexadecimal.
    """

    revision: int = 0
    keys: list[Fields] | None = None
    locks: list[Fields] | None = None
    elections: list[Fields] | None = None
    jobs: list[Fields] | None = None
    queues: list[Fields] | None = None
    digests: dict[str, str] = {}


Record = Meta | Op | Seen | Observed | Guarded | Belief | Entry | FinalState
