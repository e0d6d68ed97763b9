"""``raftctl backup``. Source: CLI.md; SEMANTICS.md section 7; docs/backup.md.

Saving asks the cluster; looking into a file and restoring it need no cluster and are
done by ``raftd`` on this machine, whose output and exit code are passed on.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from raftclient import BackupInfo, BackupProgress, aio
from raftctl.app import App, pass_app
from raftctl.options import Group
from raftctl.progress import progress
from raftctl.sizes import format_bytes

__all__ = ["COMMANDS", "backup", "info", "restore", "save"]

_RAFTD: Final = (sys.executable, "-m", "raftd.server.main")
_SIGNALLED: Final = 128

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
    all.
    """

    async def work(client: aio.Client) -> BackupInfo:
        with progress(app, file.name, is_bytes=True) as bar:

            def step(done: BackupProgress) -> None:
                bar(done.bytes_done, done.bytes_about)

            return await client.cluster.backup(file, on_progress=step)

    found = app.run(work)
    app.out.record(
        msgspec.structs.asdict(found),
        value=found.path,
        text=f"{found.path}: {format_bytes(found.size_bytes)} of cluster"
        f" {found.cluster or found.cluster_id}, by {found.member}",
    )


@backup.command(**_PASSED_ON)
@click.argument("words", metavar="FILE", nargs=-1, type=click.UNPROCESSED)
def info(words: Sequence[str]) -> None:
    """Check FILE and say what is in it: raftd backup-info."""
    _pass_on("backup-info", words)


@backup.command(**_PASSED_ON)
@click.argument("words", metavar="FILE [FLAGS]", nargs=-1, type=click.UNPROCESSED)
def restore(words: Sequence[str]) -> None:
    """Make a data directory of FILE: raftd restore; -h lists its flags."""
    _pass_on("restore", words)


def _pass_on(verb: str, words: Sequence[str]) -> None:
    """Let raftd do it, and end as it ended."""
    code = subprocess.run([*_RAFTD, verb, *words], check=False).returncode  # noqa: S603 - our own program, the user's words
    raise click.exceptions.Exit(code if code >= 0 else _SIGNALLED - code)


COMMANDS: Final = {"backup": backup}
