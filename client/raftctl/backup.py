"""``raftctl backup``. Source: CLI.md; SEMANTICS.md section 7; docs/backup.md.

Saving asks the cluster; looking into a file and restoring it need no cluster and are
done by ``raftd`` on this machine, whose output and exit code are passed on.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from raftclient import BackupInfo, BackupProgress, aio
from raftctl.app import App, pass_app
from raftctl.options import Group, OutputFormat
from raftctl.progress import progress
from raftctl.sizes import format_bytes

__all__ = ["COMMANDS", "backup", "info", "restore", "save"]

_RAFTD: Final = (sys.executable, "-m", "raftd.server.main")
_SIGNALLED: Final = 128

_CHECKPOINT_S: Final = 600.0
_PASSED_ON: Final[dict[str, Any]] = {
    "context_settings": {
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
        "help_option_names": [],
    },
    "cls": click.Command,  # all flags are raftd's
}


@click.group(cls=Group)
def backup() -> None:
    """Backups of the whole state: save, look into, restore."""


@backup.command(
    epilog="-o json: path, size_bytes, blake2b (hash of the file), cluster, cluster_id,"
    " member (who made it), version. -o value: the path."
)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@pass_app
def save(app: App, file: Path) -> None:
    """Save the whole state to FILE, while the cluster works.

    The bytes go to FILE.part first; FILE is there whole, checked and on disk, or not at
    all. It begins with a checkpoint of all that changed, for which it waits up to ten
    minutes, or as long as --timeout says.
    """
    settings = app.settings
    patience_s = settings.timeout_s if settings.is_timeout_given else _CHECKPOINT_S

    async def work(client: aio.Client) -> BackupInfo:
        await client.status()  # nobody there: say so soon
        with progress(app, file.name, is_bytes=True) as bar:

            def step(done: BackupProgress) -> None:
                bar(done.bytes_done, done.bytes_about)

            return await client.cluster.backup(
                file, on_progress=step, timeout_s=patience_s
            )

    found = app.run(work)
    app.out.record(
        msgspec.structs.asdict(found),
        value=found.path,
        text=f"{found.path}: {format_bytes(found.size_bytes)} of cluster"
        f" {found.cluster or found.cluster_id}, by {found.member}",
    )


@backup.command(
    epilog="-o json is what raftd backup-info --json prints: file, format, bytes,"
    " chunks, blake2b, release, made, through, cluster, cluster_id, index, term,"
    " revision, digest, members, counts. -o value: the hash of the file."
)
@click.argument("file")
@pass_app
def info(app: App, file: str) -> None:
    """Check FILE to its end, and say what is in it; needs no cluster."""
    match app.out.format:
        case OutputFormat.HUMAN:
            _pass_on("backup-info", [file])
        case OutputFormat.JSON | OutputFormat.JSONL:
            _pass_on("backup-info", ["--json", file])
        case OutputFormat.VALUE:
            app.out.record({}, value=json.loads(_read("backup-info", file))["blake2b"])


@backup.command(**_PASSED_ON)
@click.argument(
    "words", metavar="FILE FLAGS", nargs=-1, required=True, type=click.UNPROCESSED
)
def restore(words: Sequence[str]) -> None:
    """Make the data directory of one member of a new cluster from FILE.

    Takes the flags of raftd restore, which are those of raftd serve; -h lists them.
    """
    _pass_on("restore", words)


def _pass_on(verb: str, words: Sequence[str]) -> None:
    """Let raftd do it, and end as it ended."""
    done = subprocess.run([*_RAFTD, verb, *words], check=False)  # noqa: S603 - our own program, the user's words
    _end_like(done.returncode)


def _read(verb: str, file: str) -> bytes:
    """Return what raftd prints, or end as it ended."""
    done = subprocess.run(  # noqa: S603 - our own program, the user's words
        [*_RAFTD, verb, "--json", file], check=False, stdout=subprocess.PIPE
    )
    if done.returncode:
        _end_like(done.returncode)
    return done.stdout


def _end_like(code: int) -> NoReturn:
    raise click.exceptions.Exit(code if code >= 0 else _SIGNALLED - code)


COMMANDS: Final = {"backup": backup}
