"""The last resort: one surviving member made a cluster of its own.

For when a majority is gone for good. Nothing can say what the others had acknowledged,
or would have dropped, so all that this member's log holds is taken for agreed. What it
becomes is a new cluster with an id of its own, so nobody of the old one is let in.

Order, so that a crash at any point leaves a directory that either is as it was, or is
refused until a second run has completed the first: the new files are made in a folder
inside the directory; the renaming of that folder decides; then each old file goes aside
and the new one takes its place.

Source: RELIABILITY.md rule 53; docs/disaster.md.
"""

from __future__ import annotations

import dataclasses
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from raftd.consensus import changes
from raftd.consensus.types import Entry, EntryKind, HardState, Index, NodeId, Term
from raftd.node.roster import (
    LEVEL,
    MemberRecord,
    Roster,
    RosterError,
    after,
    decode_roster,
    encode_roster,
    first_roster,
)
from raftd.server.settings import Settings
from raftd.statemachine.restore import Restoring
from raftd.storage.chunks import pack
from raftd.storage.directory import LOG_NAME, STATE_NAME, DirectoryLock
from raftd.storage.errors import BAD_ROWS, DamagedFiles, ForeignFiles, translate_errors
from raftd.storage.files import sync_directory
from raftd.storage.identity import INCARNATION_BYTES, Identity
from raftd.storage.offline import create_directory
from raftd.storage.open import Stores, open_stores
from raftd.storage.types import NO_DIGEST, CheckpointMeta

__all__ = ["Prospect", "complete_interrupted", "force_single"]

_CLUSTER_ID_BYTES: Final = 16
_SLICE_BYTES: Final = 1 << 20
_MAKING: Final = "recovery.new"
_DECIDED: Final = "recovery.ready"
_ASIDE: Final = "before-recovery-"
_FILES: Final = (STATE_NAME, LOG_NAME)
"""In this order: a directory with some of them is never taken for one of a node."""


@dataclasses.dataclass(frozen=True, slots=True)
class Prospect:
    """What a recovery goes by, and what it made of it.

    Attributes:
        name: Of the member.
        others: Names of those that it leaves behind, voters first.
        checkpoint_index: The newest stored state,
        last_index: and the last entry of the log, which all count,
        last_term: with its term,
        unconfirmed: as many of them as this member never knew to be agreed.
        revision: The counter before, or after if it is done.
        keys: How many keys there are.
        aside: Where the old files are; None = nothing was done yet.
    """

    node_id: int
    name: str
    others: tuple[str, ...]
    checkpoint_index: int
    last_index: int
    last_term: int
    unconfirmed: int
    revision: int
    keys: int
    aside: Path | None = None


@dataclasses.dataclass(slots=True)
class _Survivor:
    """The state that a directory leads to, with its log to the end."""

    restoring: Restoring
    roster: Roster
    term: int


async def force_single(
    settings: Settings, tell: Callable[[Prospect], None], *, is_confirmed: bool
) -> Prospect:
    """Make a member the only voter of a new cluster.

    Args:
        settings: Those that the node was run with; its limits say what entries mean.
        tell: Given what it would come to, before anything is changed.
        is_confirmed: Else only look what it would come to.

    Raises:
        StorageError: The directory is in use, another's, damaged, never belonged to
            a cluster, or holds nothing of it.
    """
    data_dir = settings.data_dir
    if not (data_dir / STATE_NAME).exists():
        raise ForeignFiles(f"{data_dir} is no data directory: it has no {STATE_NAME}.")
    async with await open_stores(
        data_dir,
        node_id=NodeId(settings.node_id),
        cluster_name=settings.cluster,
    ) as stores:
        if not stores.identity.is_bound:
            raise ForeignFiles(f"{data_dir} never belonged to a cluster.")
        survivor = _read(stores, settings)
        prospect = _prospect(stores, survivor, settings)
    if not prospect.last_index and not prospect.revision:
        raise ForeignFiles(
            f"{data_dir} holds nothing of the cluster yet: member"
            f" {prospect.node_id} was still joining when it stopped."
        )
    tell(prospect)
    if not is_confirmed:
        return prospect
    with translate_errors(data_dir, "change"):
        lock = DirectoryLock(data_dir)
        try:
            _make(data_dir, survivor, prospect, settings)
            aside = _replace(data_dir)
        finally:
            lock.release()
    revision = survivor.restoring.revision
    return dataclasses.replace(prospect, revision=revision, aside=aside)


def complete_interrupted(data_dir: Path) -> Path | None:
    """Complete a recovery that was decided and then interrupted.

    Returns:
        Where the old files are; None if there was none to complete, or nothing of
        the old member had been touched yet: then it is to be decided anew.

    Raises:
        StorageError: The directory is in use, or the disk refused.
    """
    decided = data_dir / _DECIDED
    if not decided.exists():
        return None
    with translate_errors(data_dir, "change"):
        lock = DirectoryLock(data_dir)
        try:
            if all(
                (place / name).exists()
                for place in (data_dir, decided)
                for name in _FILES
            ):
                shutil.rmtree(decided)  # the old member may have run since
                return None
            return _replace(data_dir)
        finally:
            lock.release()


# --- what there is -----------------------------------------------------------------


def _read(stores: Stores, settings: Settings) -> _Survivor:
    """Load the newest checkpoint and apply the whole log behind it."""
    meta = stores.state.meta or CheckpointMeta(Index(0), Term(0), NO_DIGEST, b"")
    survivor = _Survivor(
        _load(stores, meta, settings),
        _first_roster(meta, settings),
        meta.applied_term,
    )
    for entry in _entries(stores, meta.applied_index):
        try:
            _apply(survivor, entry)
        except (*BAD_ROWS, changes.InvalidChange, RosterError) as error:
            raise DamagedFiles(
                f"{settings.data_dir}: entry {entry.index} cannot be applied: {error}."
            ) from error
    return survivor


def _load(stores: Stores, meta: CheckpointMeta, settings: Settings) -> Restoring:
    try:
        return Restoring(
            settings.limits.of_apply(),
            stores.state.load(),
            index=meta.applied_index,
            digest=meta.digest,
        )
    except BAD_ROWS as error:
        raise DamagedFiles(
            f"{settings.data_dir / STATE_NAME} holds rows that this raftd does not"
            f" understand: {error!r}."
        ) from error


def _first_roster(meta: CheckpointMeta, settings: Settings) -> Roster:
    if not meta.membership:
        return first_roster([member.id for member in settings.members])
    try:
        return decode_roster(meta.membership)
    except RosterError as error:
        raise DamagedFiles(f"{settings.data_dir / STATE_NAME}: {error}.") from error


def _entries(stores: Stores, after_index: int) -> Iterator[Entry]:
    at, end = after_index + 1, stores.recovery.log.last_index + 1
    while at < end:
        entries = stores.log.read(Index(at), Index(end), _SLICE_BYTES)
        yield from entries
        at += len(entries)


def _apply(survivor: _Survivor, entry: Entry) -> None:
    survivor.term = entry.term
    if entry.kind is not EntryKind.CONFIG:
        survivor.restoring.apply(entry.index, entry.payload)
        return
    change = changes.decode_change(entry.payload)
    roster = survivor.roster
    membership = changes.after(roster.membership, change)
    survivor.roster = after(roster, change, membership)
    survivor.restoring.apply(entry.index, b"")


def _prospect(stores: Stores, survivor: _Survivor, settings: Settings) -> Prospect:
    roster, log = survivor.roster, stores.recovery.log
    meta = stores.state.meta
    named = {member.id: member.name for member in settings.members}
    named |= {record.node_id: record.name for record in roster.members}
    membership = roster.membership
    ids = dict.fromkeys(membership.voters + membership.members)
    return Prospect(
        node_id=settings.node_id,
        name=named.get(settings.node_id, f"n{settings.node_id}"),
        others=tuple(
            named.get(node_id, f"n{node_id}")
            for node_id in ids
            if node_id != settings.node_id
        ),
        checkpoint_index=meta.applied_index if meta is not None else 0,
        last_index=log.last_index,
        last_term=survivor.term,
        unconfirmed=log.last_index - log.commit,
        revision=survivor.restoring.revision,
        keys=survivor.restoring.keys,
    )


# --- what becomes of it ------------------------------------------------------------


def _make(
    data_dir: Path, survivor: _Survivor, prospect: Prospect, settings: Settings
) -> None:
    """Make the new files, and decide."""
    making = data_dir / _MAKING
    shutil.rmtree(making, ignore_errors=True)
    incarnation = secrets.token_bytes(INCARNATION_BYTES)
    node_id = NodeId(settings.node_id)
    restoring, term = survivor.restoring, Term(survivor.term)
    meta = CheckpointMeta(
        Index(restoring.index),
        term,
        restoring.finish(),
        encode_roster(_roster_of_one(survivor.roster, incarnation, settings)),
    )
    identity = Identity(
        settings.cluster,
        node_id,
        incarnation,
        secrets.token_bytes(_CLUSTER_ID_BYTES),
        {node_id: incarnation},
    )
    try:
        create_directory(
            making, identity, meta, pack(restoring.rows()), hard_state=HardState(term)
        )
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    (data_dir / f"{_ASIDE}{_last_aside(data_dir) + 1}").mkdir(mode=0o700)
    making.rename(data_dir / _DECIDED)
    sync_directory(data_dir)


def _roster_of_one(old: Roster, incarnation: bytes, settings: Settings) -> Roster:
    """Leave only this member; ids of the others are never used again."""
    node_id = NodeId(settings.node_id)
    record = old.get(node_id)
    if record is None:
        listed = settings.listed
        name, peer, client = f"n{node_id}", "", ""
        if listed is not None:
            name, peer, client = listed.name, str(listed.peer), str(listed.client)
        record = MemberRecord(node_id, name, peer, client)
    record = msgspec.structs.replace(
        record, incarnation=incarnation, level=LEVEL, replaces=0
    )
    gone = {*old.membership.members, *old.removed} - {node_id}
    return msgspec.structs.replace(
        first_roster([node_id], [record]),
        removed=tuple(sorted(gone)),
        next_id=max(old.next_id, node_id + 1, *(each + 1 for each in gone)),
    )


def _replace(data_dir: Path) -> Path:
    """Put the new files in the place of the old ones; may be begun again."""
    decided = data_dir / _DECIDED
    aside = data_dir / f"{_ASIDE}{_last_aside(data_dir)}"
    for name in _FILES:
        if not (decided / name).exists():
            continue
        # The database before its write-ahead log: one without the other is refused.
        for old in sorted(data_dir.glob(name + "*")):
            old.rename(aside / old.name)
        sync_directory(aside)
        sync_directory(data_dir)
        (decided / name).rename(data_dir / name)
        sync_directory(data_dir)
    shutil.rmtree(decided)
    return aside


def _last_aside(data_dir: Path) -> int:
    taken = [path.name.removeprefix(_ASIDE) for path in data_dir.glob(_ASIDE + "*")]
    return max((int(text) for text in taken if text.isdigit()), default=0)
