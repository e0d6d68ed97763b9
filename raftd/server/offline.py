"""What is done to data while no node runs on it: ``restore``, ``recover``, and a look.

Rules: whatever is wrong is one sentence on standard error. What cannot be undone is
first told in full, and done only when the command line says that this is understood.

Exit codes: 0 done; 1 it cannot be done; 2 usage, configuration, or not confirmed.

Source: CLI.md; SEMANTICS.md section 7; docs/backup.md and docs/disaster.md.
"""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from raftd.server.flags import settings_of, with_settings
from raftd.server.recovery import Prospect, complete_interrupted, force_single
from raftd.server.restoring import (
    BackupContents,
    Restored,
    inspect_backup,
    restore_backup,
)
from raftd.server.settings import ConfigError, Settings
from raftd.storage.backup_file import BackupHeader
from raftd.storage.errors import StorageError

__all__ = ["backup_info", "recover", "restore"]

_CONFIRMATION = "--others-are-gone-for-good"

_file = click.argument("file", type=click.Path(path_type=Path))


# --- a look --------------------------------------------------------------------------


@click.command("backup-info")
@_file
@click.option("--json", "is_json", is_flag=True, help="one JSON object, for programs")
def backup_info(file: Path, is_json: bool) -> None:  # click's way
    """Verify a backup to its last byte, and say what it holds."""
    try:
        contents = inspect_backup(file)
    except StorageError as error:
        _end(str(error), 1)
    if is_json:
        click.echo(msgspec.json.encode(_as_map(file, contents)).decode())
    else:
        _print_table(_lines(file, contents))


def _as_map(file: Path, contents: BackupContents) -> dict[str, object]:
    header = contents.header
    return {
        "file": str(file),
        "format": contents.version,
        "bytes": contents.size_bytes,
        "chunks": header.chunk_count,
        "blake2b": contents.digest,
        "release": header.release,
        "made": _instant(header),
        "through": header.node_id,
        "cluster": header.cluster_name,
        "cluster_id": header.cluster_id.hex(),
        "index": header.index,
        "term": header.term,
        "revision": header.revision,
        "digest": header.digest.hex(),
        "members": [
            {
                "id": member.node_id,
                "name": member.name,
                "peer": member.peer_address,
                "client": member.client_address,
            }
            for member in contents.members
        ],
        "counts": contents.counts,
    }


def _lines(file: Path, contents: BackupContents) -> list[tuple[str, str]]:
    header = contents.header
    members = ", ".join(f"{each.node_id}={each.name}" for each in contents.members)
    return [
        ("file", f"{file} ({contents.size_bytes} bytes, whole)"),
        ("format", f"{contents.version}, {header.chunk_count} chunks"),
        ("made", f"{_instant(header)} by raftd {header.release}"),
        ("through", f"member {header.node_id}"),
        ("cluster", f'"{header.cluster_name}" ({header.cluster_id.hex()})'),
        ("members", members or "unknown"),
        ("entry", f"{header.index} of term {header.term}"),
        ("revision", str(header.revision)),
        *((name, str(count)) for name, count in contents.counts.items()),
        ("blake2b", contents.digest),
    ]


def _print_table(lines: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        click.echo(f"{name:<{width}}  {text}")


def _instant(header: BackupHeader) -> str:
    made = datetime.fromtimestamp(header.wall_ms / 1000, UTC)
    return made.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- restore -------------------------------------------------------------------------


@click.command()
@_file
@with_settings
def restore(file: Path, config_file: Path | None, **flags: str | None) -> None:
    """Make the data directory of one member of a new cluster from a backup.

    Takes the flags, variables and configuration file of `raftd serve`; the data
    directory must be empty or not there. Do it once for each member, with the same
    file and the same list of members, then start them all.
    """
    try:
        settings = settings_of(config_file, flags)
        _check_restorable(settings)
        restored = restore_backup(file, settings)
    except ConfigError as error:
        _end(str(error), 2)
    except StorageError as error:
        _end(str(error), 1)
    _tell_restored(file, settings, restored)


def _check_restorable(settings: Settings) -> None:
    if settings.listed is None or settings.join:
        raise ConfigError(
            "a restored cluster begins with the members that are listed: give all of"
            " them, this node among them, and no join."
        )


def _tell_restored(file: Path, settings: Settings, restored: Restored) -> None:
    header = restored.header
    others = [m.name for m in settings.members if m.id != settings.node_id]
    click.echo(
        f"restored {file} into {settings.data_dir}: member {settings.node_id} of"
        f' cluster "{settings.cluster}"\n'
        f'  the state of cluster "{header.cluster_name}" at {_instant(header)}, entry'
        f" {header.index}\n"
        f"  revisions go on from {restored.revision}; watches of before begin anew\n"
        "  sessions, leases, locks and candidacies have ended; reserved jobs are"
        " ready again, uncharged"
    )
    if others:
        click.echo(
            f"next: restore the same file for {', '.join(others)} with the same"
            " members, then start all of them: they form a new cluster"
        )
    click.echo("never start a member of the old cluster again beside the new one")


# --- recover -------------------------------------------------------------------------


@click.command()
@click.option("--force-single", is_flag=True, help="the only way there is; see below")
@click.option(
    _CONFIRMATION,
    "is_confirmed",
    is_flag=True,
    help="the other members will never be started again with their data",
)
@with_settings
def recover(
    force_single: bool,  # click's way
    is_confirmed: bool,  # click's way
    config_file: Path | None,
    **flags: str | None,
) -> None:
    """Make one surviving member a new cluster, when a majority is lost for good.

    With --force-single and --cluster NAME, and otherwise the flags, variables and
    configuration file of `raftd serve`, on the member whose log is the longest. Without
    the confirmation it only says what it would do. Prefer a restored backup if what
    was written since is worth less than certainty; see docs/disaster.md.
    """
    if not force_single or flags["cluster"] is None:
        _end(
            "recover needs --force-single and --cluster NAME on the command line: it"
            " may lose writes, so be sure of what it is done to.",
            2,
        )
    try:
        settings = settings_of(config_file, flags)
        aside = complete_interrupted(settings.data_dir)
        if aside is not None:
            click.echo(f"an interrupted recovery was completed; old files: {aside}")
            return
        _force(settings, is_confirmed=is_confirmed)
    except ConfigError as error:
        _end(str(error), 2)
    except StorageError as error:
        _end(str(error), 1)


def _force(settings: Settings, *, is_confirmed: bool) -> None:

    def tell(prospect: Prospect) -> None:
        click.echo(_warning(settings, prospect), err=True)

    done = asyncio.run(force_single(settings, tell, is_confirmed=is_confirmed))
    if done.aside is None:
        _end(
            f"nothing was changed: give {_CONFIRMATION} if that is so and the above"
            " is accepted.",
            2,
        )
    click.echo(
        f'member {done.node_id} ({done.name}) is a new cluster "{settings.cluster}" of'
        f" its own\n"
        f"  revisions go on from {done.revision}; watches of before begin anew\n"
        "  sessions, leases, locks and candidacies have ended; reserved jobs are"
        " ready again, uncharged\n"
        f"  the old files are kept in {done.aside}\n"
        "next: start it as before, then add new members, with empty data directories:"
        " raftctl member add"
    )


def _warning(settings: Settings, prospect: Prospect) -> str:
    behind = prospect.last_index - prospect.checkpoint_index
    others = ", ".join(prospect.others) or "there are none"
    return (
        f"WARNING: member {prospect.node_id} ({prospect.name}) of cluster"
        f' "{settings.cluster}" is about to become a cluster of its own, with what'
        " its disk holds:\n"
        f"  the state at entry {prospect.checkpoint_index} and {behind} more of the"
        f" log, to entry {prospect.last_index} of term {prospect.last_term}:"
        f" {prospect.keys} keys, revision {prospect.revision}\n"
        "  * What the others acknowledged and this member never got is LOST, also if"
        " a client was told that it was written.\n"
        f"  * At its end, entries that may never have been agreed:"
        f" {prospect.unconfirmed}. They count as if they had been.\n"
        "  * All sessions, leases and locks end; whoever still believes to hold one"
        " is fenced off only where its token is checked.\n"
        f"  * The others ({others}) must never be started again with their data. The"
        " new cluster refuses them by its id, but two of them that meet would go on"
        " as the old cluster, beside the new one.\n"
        "  * Of several survivors the one whose log ends with the highest term, and"
        " then the highest entry, loses least: run this on each without the"
        " confirmation, and compare."
    )


def _end(sentence: str, code: int) -> NoReturn:
    click.echo(f"error: {sentence}", err=True)
    sys.exit(code)
