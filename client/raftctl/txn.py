"""``raftctl txn``: run a transaction written as JSON (``raftctl.txn_json``).

Source: CLI.md; SEMANTICS.md section 3.
"""

from __future__ import annotations

from typing import IO, Any, Final

import click
import msgspec

from raftclient import KeyValue, TxnResult, aio
from raftclient.results import OpResult
from raftctl.app import App, pass_app
from raftctl.exit_codes import ExitCode, Failure
from raftctl.kv import key_record
from raftctl.options import Command
from raftctl.output import printable
from raftctl.txn_json import DOCUMENTATION, TxnError, fill

__all__ = ["COMMANDS", "txn"]


@click.command(
    cls=Command, help=f"Run a transaction, written as JSON.\n\n{DOCUMENTATION}"
)
@click.argument("file", type=click.File(encoding="utf-8"), default="-")
@pass_app
def txn(app: App, file: IO[str]) -> None:
    """Run a transaction; the help is beside the reader of the JSON."""
    try:
        text = file.read()
    except UnicodeDecodeError as error:
        raise Failure(
            f"{file.name} is not UTF-8; see raftctl txn -h", ExitCode.USAGE
        ) from error

    async def work(client: aio.Client) -> tuple[TxnResult, bool]:
        transaction = client.txn()
        has_else = fill(transaction, text)
        return await transaction.commit(), has_else

    try:
        found, has_else = app.run(work)
    except TxnError as error:
        raise Failure(str(error), ExitCode.USAGE) from error
    record = {
        "succeeded": found.succeeded,
        "revision": found.revision,
        "results": [_result(each) for each in found.results],
    }
    app.out.record(record, value=found.succeeded, text=_text(found))
    if not found.succeeded and not has_else:
        raise Failure(
            "the compares do not hold, so nothing was done; read again, then decide",
            ExitCode.PRECONDITION,
        )


def _result(found: OpResult) -> dict[str, Any] | None:
    match found:
        case None:
            return None
        case KeyValue():
            return key_record(found)
        case _:
            record = msgspec.structs.asdict(found)
            previous = record.get("previous")
            if isinstance(previous, KeyValue):
                record["previous"] = key_record(previous)
            return record


def _text(found: TxnResult) -> str:
    lines = [
        f"{'then' if found.succeeded else 'else'} at revision {found.revision}",
    ]
    for number, each in enumerate(found.results, 1):
        record = _result(each)
        if record is None:
            lines.append(f"{number}  not found")
            continue
        fields = (f"{name} {printable(value)}" for name, value in record.items())
        lines.append(f"{number}  {', '.join(fields) or 'done'}")
    return "\n".join(lines)


COMMANDS: Final = {"txn": txn}
