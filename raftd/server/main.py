"""The ``raftd`` command: serve one node, or a small cluster on this machine.

Exit codes: 0 stopped as told; 1 the node had to end; 2 usage or configuration.

Source: CLI.md; DESIGN.md section 8.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final, NoReturn

import click
import uvloop

from raftd.api.server import ListenFailed as ApiListenFailed
from raftd.node.errors import NodeFailed
from raftd.server.app import App
from raftd.server.dev import DevError, run_dev
from raftd.server.flags import settings_of, with_settings
from raftd.server.offline import backup_info, recover, restore
from raftd.server.settings import ConfigError, Settings
from raftd.storage.errors import DamagedFiles, ForeignFiles, StorageError
from raftd.transport.links import ListenFailed

__all__ = ["main", "take_file_limit"]

_logger = logging.getLogger(__name__)

_GC_THRESHOLDS: Final = (50_000, 20, 100)
"""A pause of the collector is a pause of the node: collect seldom, and never what was
there at start."""


_END_S: Final = 2.0
"""How long a node that failed may take to hang up on its clients and peers."""


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 90}
)
def main() -> None:
    """Run raftd: leases, locks, elections, jobs and keys on one replicated log."""


@main.command(name="version")
def print_version() -> None:
    """Print the version."""
    click.echo(f"raftd {version('raftd')}")


@main.command()
@with_settings
def serve(config_file: Path | None, **flags: str | None) -> None:
    """Serve one node until SIGTERM or SIGINT."""
    try:
        settings = settings_of(config_file, flags)
    except ConfigError as error:
        _end(str(error), 2)
    logging.basicConfig(
        level=settings.log_level.upper(),
        format=(
            f"%(asctime)s %(levelname)s node={settings.node_id} %(name)s %(message)s"
        ),
        stream=sys.stderr,
    )
    sys.exit(uvloop.run(_serve(settings)))


@main.command()
@click.option("--nodes", type=click.IntRange(1, 7), default=3, show_default=True)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".raftd"),
    show_default=True,
)
@click.option(
    "--port",
    type=click.IntRange(0, 65_000),
    help="client port of the first node, the others follow by tens; 0 = any"
    " [the last ones, or 7400]",
)
def dev(nodes: int, data_dir: Path, port: int | None) -> None:
    """Run a cluster on this machine, for development; Ctrl-C stops it."""
    try:
        sys.exit(asyncio.run(run_dev(nodes, data_dir, port)))
    except DevError as error:
        _end(str(error), 1)


for _command in (backup_info, recover, restore):
    main.add_command(_command)


def take_file_limit() -> None:
    """Let this process have as many files and connections open as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # some systems say no to "all"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: Settings) -> int:
    take_file_limit()
    app = App(settings)
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    stopped = asyncio.create_task(told.wait())
    starting = asyncio.create_task(app.start())
    sentence = ""
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
            _logger.info("serving client=%s", settings.client_listen)
            failed = asyncio.create_task(app.wait_failed())
            await asyncio.wait([failed, stopped], return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                await _end_failed(app, str(failed.result()))
    except StorageError as error:
        sentence = _with_advice(error)
    except (NodeFailed, ListenFailed, ApiListenFailed) as error:
        sentence = str(error)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    try:
        await app.stop()
    except StorageError as error:
        sentence = sentence or str(error)
    if sentence:
        click.echo(f"error: {sentence}", err=True)
        return 1
    _logger.info("stopped")
    return 0


def _with_advice(error: StorageError) -> str:
    """Say what to do about a data directory that this node cannot start on."""
    match error:
        case DamagedFiles():
            advice = "if the files cannot be put back: raftctl member replace"
        case ForeignFiles():
            advice = "check the settings, or take an empty data directory"
        case _:
            return str(error)
    return f"{str(error).removesuffix('.')}; {advice}."


async def _end_failed(app: App, sentence: str) -> NoReturn:
    """End at once; a thread that waits for a dead disk must not hold the process up."""
    click.echo(f"error: {sentence}", err=True)
    logging.disable()  # the reason is the last line
    with contextlib.suppress(TimeoutError, StorageError):
        async with asyncio.timeout(_END_S):
            await app.stop()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(1)


def _end(sentence: str, code: int) -> NoReturn:
    click.echo(f"error: {sentence}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
