"""The ``raftctl`` command: its nouns, loaded when one is called, and how it ends.

Rules: never a traceback; one sentence ``error: ...`` on standard error that says what
to do; exit codes as ``raftctl.exit_codes``.

Source: CLI.md.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from raftctl.exit_codes import ExitCode, ReaderGone, sentence
from raftctl.options import Group

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["cli", "main"]

_TABLE: Final = {
    "status": ("status", "Show members, leader, lag and health."),
    "put": ("kv", "Set a key; prints the revision."),
    "get": ("kv", "Print the value of a key."),
    "ls": ("kv", "List keys."),
    "del": ("kv", "Delete a key, or all with a prefix."),
    "incr": ("kv", "Add to an integer key; prints the sum."),
    "watch": ("kv", "Follow the changes of a key, or of all with a prefix."),
    "txn": ("txn", "Run a transaction, written as JSON."),
    "lease": ("leases", "Leases: grant, keepalive, revoke, info, ls."),
    "lock": ("locks", "Locks: exec, acquire, release, info, ls, break."),
    "elect": ("elections", "Elections: campaign, exec, leader, observe, ls, transfer."),
    "job": ("jobs", "Jobs: put, reserve, ack, exec, get, ls, wait and more."),
    "queue": ("queues", "Queues: ls, stats, pause, resume, purge, configure."),
    "member": ("members", "Members: ls, add, remove, replace, update."),
    "leader": ("members", "Leadership of the cluster: transfer."),
    "backup": ("backup", "Backups: save, info, restore."),
    "doctor": ("doctor", "Say what is wrong or risky, and what to do."),
    "bench": ("bench", "Measure the cluster: rates, latencies, pauses."),
}
"""Name: module and short help. The modules load the client, which takes longer than
all the rest, so the list of commands does without them."""


class _Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _TABLE:
            return None
        module = importlib.import_module(f"raftctl.{_TABLE[cmd_name][0]}")
        found: click.Command = module.COMMANDS[cmd_name]
        return found

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in _TABLE.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _TABLE and not args[0].startswith("-"):
            ctx.fail(f'there is no command "{args[0]}"')
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Lazy,
    is_root=True,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 90,
        "auto_envvar_prefix": "RAFTCTL",
    },
    epilog="Every flag may be given as a variable: --endpoints as RAFTCTL_ENDPOINTS,"
    " --ttl of lock exec as RAFTCTL_LOCK_EXEC_TTL. Shell completion:"
    ' eval "$(_RAFTCTL_COMPLETE=bash_source raftctl)" (or zsh_source, fish_source).'
    " Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 precondition failed,"
    " 5 lost (fenced), 6 unavailable, 7 outcome unknown, 8 denied, 9 compacted,"
    " 10 limit; a child's own code where there is a child.",
)
@click.version_option(package_name="raftd", message="raftctl %(version)s")
def cli() -> None:
    """Use a raftd cluster: keys, leases, locks, elections and jobs."""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command line, and exit with its code."""
    try:
        code = _run(args)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):
        _forget_stdout()
        code = ExitCode.BROKEN_PIPE
    sys.exit(code)


def _run(args: Sequence[str] | None) -> int:
    try:
        result: Any = cli.main(args, prog_name="raftctl", standalone_mode=False)
        return result if isinstance(result, int) else ExitCode.OK
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "raftctl"
        text = sentence(_lower(error.format_message()))
        _say(f"{text[:-1]}; see {where} -h.")
        return error.exit_code
    except click.ClickException as error:
        _say(sentence(error.format_message()))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, ReaderGone):
        raise
    except OSError as error:
        _say(sentence(_of_os(error)))
        return ExitCode.ERROR
    except Exception as error:
        if os.environ.get("RAFTCTL_DEBUG"):
            raise
        _say(
            f"this is a bug in raftctl ({type(error).__name__}: {error});"
            " please report it with what RAFTCTL_DEBUG=1 prints."
        )
        return ExitCode.ERROR


def _say(text: str) -> None:
    click.echo(f"error: {text}", err=True)


def _lower(text: str) -> str:
    is_word = len(text) > 1 and text[1].islower()
    return text[0].lower() + text[1:] if is_word else text


def _of_os(error: OSError) -> str:
    what = (error.strerror or str(error)).lower()
    return f"{error.filename}: {what}" if error.filename else what


def _forget_stdout() -> None:
    """Nobody reads on: keep the interpreter from complaining at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
