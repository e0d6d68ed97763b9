"""A backup into a new data directory: one member of a new cluster.

Rules: the directory is made only when the whole file has proven itself. All members of
the new cluster are restored from one file with one list of members, and their states
are then equal byte for byte; they compare the digest that is stored with the state
before they form the cluster. What fails leaves nothing behind.

Source: SEMANTICS.md section 7 (Restore); docs/backup.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from raftd.consensus.types import HardState, Index, NodeId, Term
from raftd.node.roster import (
    MemberRecord,
    Roster,
    RosterError,
    decode_roster,
    encode_roster,
    first_roster,
)
from raftd.server.settings import Settings
from raftd.statemachine.limits import DEFAULT_LIMITS, Limits
from raftd.statemachine.restore import Restoring
from raftd.statemachine.tables import Table
from raftd.storage.backup_file import BackupError, BackupHeader, BackupReader
from raftd.storage.chunks import pack
from raftd.storage.errors import BAD_ROWS
from raftd.storage.identity import INCARNATION_BYTES, Identity
from raftd.storage.offline import create_directory, refuse_if_used
from raftd.storage.types import CheckpointMeta

__all__ = [
    "BackupContents",
    "Restored",
    "inspect_backup",
    "nothing_left",
    "restore_backup",
]

_ORIGIN_BYTES: Final = 16
_COUNTED: Final = {
    Table.LEASES: "leases",  # sessions included
    Table.LOCKS: "locks",
    Table.ELECTIONS: "elections",
    Table.QUEUES: "queues",
    Table.JOBS: "jobs",
}


@dataclasses.dataclass(frozen=True, slots=True)
class BackupContents:
    """What a backup that is whole holds.

    Attributes:
        version: Of the format.
        members: At the time; empty if the list cannot be read by this release.
        counts: How many there are of each kind of thing, by its plural.
        size_bytes: Of the file.
        digest: Of the file, in hexadecimal.
    """

    version: int
    header: BackupHeader
    members: tuple[MemberRecord, ...]
    counts: dict[str, int]
    size_bytes: int
    digest: str


@dataclasses.dataclass(frozen=True, slots=True)
class Restored:
    """What a restore made."""

    header: BackupHeader
    revision: int
    voters: tuple[int, ...]


def inspect_backup(path: Path) -> BackupContents:
    """Read a backup to its end, and its rows as a restore would.

    Raises:
        BackupError: It is not a backup, not whole, or cannot be understood.
        DiskFailed: It cannot be read.
    """
    with BackupReader(path) as reader:
        restoring = _load(path, reader, DEFAULT_LIMITS)
        counts = {"keys": restoring.keys}
        counts |= {name: restoring.count(table) for table, name in _COUNTED.items()}
        return BackupContents(
            version=reader.version,
            header=reader.header,
            members=_members_of(reader.header),
            counts=counts,
            size_bytes=path.stat().st_size,
            digest=reader.digest.hex(),
        )


def restore_backup(path: Path, settings: Settings) -> Restored:
    """Make the data directory of one member of a new cluster.

    Args:
        path: The backup.
        settings: Who the member is, its directory, and all members.

    Raises:
        BackupError: The backup is not whole, or cannot be understood.
        StorageError: The directory is not empty, or the disk refused.
    """
    refuse_if_used(settings.data_dir)
    with BackupReader(path) as reader:
        header = reader.header
        restoring = _load(path, reader, settings.limits.of_apply())
        file_digest = reader.digest
    roster = encode_roster(_roster_of(settings))
    meta = CheckpointMeta(
        Index(header.index),
        Term(header.term),
        restoring.finish(),
        roster,
        extra=_origin_of(file_digest, settings.cluster, roster),
    )
    identity = Identity(
        settings.cluster,
        NodeId(settings.node_id),
        secrets.token_bytes(INCARNATION_BYTES),
    )
    with nothing_left(settings.data_dir):
        create_directory(
            settings.data_dir,
            identity,
            meta,
            pack(restoring.rows()),
            hard_state=HardState(Term(header.term)),
        )
    voters = tuple(sorted(member.id for member in settings.members))
    return Restored(header, restoring.revision, voters)


@contextlib.contextmanager
def nothing_left(directory: Path) -> Iterator[None]:
    """Remove what was made in a directory, and the directory, if making it fails."""
    was_there = directory.exists()
    before = {path.name for path in directory.iterdir()} if was_there else set()
    try:
        yield
    except BaseException:
        for path in directory.iterdir() if directory.exists() else ():
            if path.name not in before and path.is_file():
                path.unlink(missing_ok=True)
        if not was_there and directory.exists():
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


def _load(path: Path, reader: BackupReader, limits: Limits) -> Restoring:
    """Load the whole state; the file is proven whole then."""
    index, digest = reader.header.index, reader.header.digest
    try:
        return Restoring(limits, reader.rows(), index=index, digest=digest)
    except BAD_ROWS as error:
        raise BackupError(
            f"{path} holds rows that this raftd does not understand ({error!r});"
            " use the release that made it, or a later one."
        ) from error


def _members_of(header: BackupHeader) -> tuple[MemberRecord, ...]:
    try:
        return decode_roster(header.roster).members
    except RosterError:
        return ()


def _roster_of(settings: Settings) -> Roster:
    records = [
        MemberRecord(
            NodeId(member.id), member.name, str(member.peer), str(member.client)
        )
        for member in settings.members
    ]
    return first_roster([member.id for member in settings.members], records)


def _origin_of(file_digest: bytes, cluster_name: str, roster: bytes) -> bytes:
    """Return what members of one restored cluster have in common."""
    text = file_digest + cluster_name.encode() + b"\0" + roster
    return hashlib.blake2b(text, digest_size=_ORIGIN_BYTES).digest()
