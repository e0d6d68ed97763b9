"""What ``lock exec`` and ``elect exec`` have in common.

Source: CLI.md; SEMANTICS.md sections 4 and 5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from raftctl.exit_codes import ExitCode, Failure
from raftctl.guarded import ON_LOST, Claim, GuardDied, OnLost, Stopped, run_guarded

if TYPE_CHECKING:
    from raftclient import aio
    from raftctl.app import App

__all__ = ["LostSignal", "exec_options", "run_under"]


def exec_options(command: Any) -> Any:
    """Add what both commands take: how to stop, and the command itself."""
    command = click.argument(
        "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- CMD ..."
    )(command)
    return click.option(
        "--on-lost",
        type=ON_LOST,
        default="term,kill",
        show_default=True,
        metavar="SIGNAL,kill:GRACE",
        help="How CMD is stopped before the lease can end: SIGNAL (term, int, hup,"
        " quit), then SIGKILL after GRACE, which is min(5 s, ttl/4) if left out; or"
        " just kill.",
    )(command)


class LostSignal:
    """An event of this loop that any thread may set."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> None:
        """Set it; the client calls this on whatever thread notices."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.event.set)


async def run_under(
    app: App,
    client: aio.Client,
    command: Sequence[str],
    *,
    what: str,
    ttl_s: float,
    remaining_s: Callable[[], float],
    lost: LostSignal,
    variables: Mapping[str, str],
    on_lost: OnLost,
) -> int:
    """Run a command under a claim on the client's session; returns its code.

    Raises:
        Failure: The claim was lost; the command has been stopped.
    """
    session = await client.session()
    environment = {
        **variables,
        "RAFTCTL_LEASE_ID": str(session.lease_id),
        "RAFTCTL_ENDPOINTS": app.settings.endpoints,
    }
    claim = Claim(ttl_s, remaining_s, lost.event)
    try:
        return await run_guarded(command, environment, claim, on_lost)
    except Stopped as error:
        raise Failure(
            f"{what} was lost or could not be renewed in time, so {command[0]} was"
            " stopped; what it began may be half done",
            ExitCode.LOST,
        ) from error
    except GuardDied as error:
        raise Failure(
            f"the guard process was killed, so {command[0]} was killed and {what}"
            " given back; run it again",
            ExitCode.ERROR,
        ) from error
