"""``raftctl put get ls del incr watch``. Source: CLI.md; SEMANTICS.md section 2."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import click

from raftclient import KeyValue, LockFence, WatchEvent, WatchKind, aio
from raftctl.app import App, pass_app
from raftctl.exit_codes import ExitCode, Failure
from raftctl.options import Command, count_option
from raftctl.output import printable
from raftctl.params import BYTES, TextType

__all__ = [
    "COMMANDS",
    "delete",
    "get",
    "incr",
    "key_record",
    "list_keys",
    "put",
    "watch",
]

# Above 19 digits it is no token that was ever given.
_TOKEN: Final = re.compile(r"\d{1,19}", re.ASCII)
_COLUMNS: Final = {
    "key": "KEY",
    "value": "VALUE",
    "mod_rev": "REVISION",
    "version": "VERSION",
    "lease_id": "LEASE",
}


class _Fence(TextType):
    """``LOCK:TOKEN``; the name may hold colons."""

    name = "lock:token"

    def parse(self, text: str) -> LockFence:
        name, _, token = text.rpartition(":")
        if not name or not _TOKEN.fullmatch(token):
            raise ValueError(f'"{text}" is no fence; write LOCK:TOKEN')
        return LockFence(name, int(token))


_fences = click.option(
    "--fence",
    "fences",
    type=_Fence(),
    multiple=True,
    metavar="LOCK:TOKEN",
    help="Only while this lock is held with this token; may be repeated.",
)


def key_record(found: KeyValue, *, keys_only: bool = False) -> dict[str, Any]:
    """Return a key as scripts see it."""
    record: dict[str, Any] = {"key": found.key}
    if not keys_only:
        record["value"] = found.value
    return record | {
        "create_rev": found.create_rev,
        "mod_rev": found.mod_rev,
        "version": found.version,
        "lease_id": found.lease_id,
    }


@click.command(cls=Command)
@click.argument("key", type=BYTES)
@click.argument("value", type=BYTES)
@click.option("--lease", type=int, metavar="ID", help="The key goes with this lease.")
@click.option(
    "--if-rev",
    type=click.IntRange(0),
    metavar="N",
    help="Only if the key was last changed at this revision; 0: if it is not there.",
)
@_fences
@pass_app
def put(
    app: App,
    key: bytes,
    value: bytes,
    lease: int | None,
    if_rev: int | None,
    fences: Sequence[LockFence],
) -> None:
    """Set KEY to VALUE; prints the revision."""

    async def work(client: aio.Client) -> int:
        result = await client.put(
            key, value, lease=lease, if_mod_rev=if_rev, fences=fences
        )
        return result.revision

    revision = app.run(work)
    app.out.record(
        {"key": key, "revision": revision}, value=revision, text=str(revision)
    )


@click.command(cls=Command)
@click.argument("key", type=BYTES)
@click.option("--rev", type=click.IntRange(1), metavar="N", help="As it was then.")
@click.option("--stale", is_flag=True, help="From any member, perhaps behind.")
@pass_app
def get(app: App, key: bytes, rev: int | None, stale: bool) -> None:
    """Print the value of KEY; a missing key is exit code 3.

    -o value prints exactly its bytes, -o json all that is known of the key.
    """

    async def work(client: aio.Client) -> KeyValue | None:
        return await client.get(key, at_revision=rev, stale=stale)

    found = app.run(work)
    if found is None:
        when = "" if rev is None else f" at revision {rev}"
        raise Failure(
            f'there is no key "{printable(key)}"{when}; raftctl ls lists the keys',
            ExitCode.NOT_FOUND,
        )
    record = key_record(found)
    if stale:
        record["age_ms"] = found.age_ms
        app.out.note(f"stale: may be {found.age_ms} ms old")
    app.out.payload(record, found.value)


@click.command("ls", cls=Command)
@click.argument("prefix", type=BYTES, default=b"")
@count_option
@click.option("--keys-only", is_flag=True, help="Leave the values out.")
@click.option("--rev", type=click.IntRange(1), metavar="N", help="As they were then.")
@click.option("--stale", is_flag=True, help="From any member, perhaps behind.")
@pass_app
def list_keys(
    app: App,
    prefix: bytes,
    limit: int | None,
    keys_only: bool,
    rev: int | None,
    stale: bool,
) -> None:
    """List the keys that begin with PREFIX, all at one revision."""

    async def work(client: aio.Client) -> list[KeyValue]:
        found = client.range(
            prefix=prefix,
            limit=limit,
            keys_only=keys_only,
            at_revision=rev,
            stale=stale,
        )
        return [each async for each in found]

    columns = {k: v for k, v in _COLUMNS.items() if k != "value" or not keys_only}
    app.out.rows(
        (key_record(each, keys_only=keys_only) for each in app.run(work)),
        columns=columns,
        value="key",
        empty="no keys",
    )


@click.command("del", cls=Command)
@click.argument("key", type=BYTES, required=False)
@click.option("--prefix", type=BYTES, metavar="P", help="All keys that begin so.")
@click.option(
    "--if-rev",
    type=click.IntRange(1),
    metavar="N",
    help="Only if KEY was last changed at this revision.",
)
@_fences
@pass_app
def delete(
    app: App,
    key: bytes | None,
    prefix: bytes | None,
    if_rev: int | None,
    fences: Sequence[LockFence],
) -> None:
    """Delete KEY, or all keys with a prefix; prints how many went."""
    if (key is None) == (prefix is None):
        raise click.UsageError("give a KEY or --prefix, one of them")
    if key is None and if_rev is not None:
        raise click.UsageError("--if-rev goes with a KEY")

    async def work(client: aio.Client) -> tuple[int, int]:
        if key is not None:
            gone = await client.delete(key, if_mod_rev=if_rev, fences=fences)
        else:
            gone = await client.delete_range(prefix=prefix, fences=fences)
        return gone.deleted, gone.revision

    deleted, revision = app.run(work)
    app.out.record(
        {"deleted": deleted, "revision": revision}, value=deleted, text=str(deleted)
    )


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("key", type=BYTES)
@click.argument("by", type=int, default=1)
@_fences
@pass_app
def incr(app: App, key: bytes, by: int, fences: Sequence[LockFence]) -> None:
    """Add BY (1, may be negative) to KEY; prints the sum."""

    async def work(client: aio.Client) -> int:
        return await client.incr(key, by, fences=fences)

    total = app.run(work)
    app.out.record({"key": key, "value": total}, value=total, text=str(total))


@click.command(cls=Command)
@click.argument("key", type=BYTES, required=False)
@click.option("--prefix", type=BYTES, metavar="P", help="All keys that begin so.")
@click.option(
    "--rev", type=click.IntRange(1), metavar="N", help="Changes from then on."
)
@click.option("--initial", is_flag=True, help="First the keys as they stand.")
@click.option("--previous", is_flag=True, help="With each key as it was before.")
@pass_app
def watch(
    app: App,
    key: bytes | None,
    prefix: bytes | None,
    rev: int | None,
    initial: bool,
    previous: bool,
) -> None:
    """Follow the changes of KEY, or of all keys with a prefix, until interrupted.

    Each is one line: put, delete; with --initial also initial and synced; resync when
    changes were missed and a fresh list follows.
    """
    if (key is None) == (prefix is None):
        raise click.UsageError("give a KEY or --prefix, one of them")

    async def work(client: aio.Client) -> None:
        feed = client.watch(
            key=key,
            prefix=prefix,
            from_rev=rev,
            initial=initial,
            want_previous=previous,
        )
        async with feed:
            async for event in feed:
                _show(app, event)

    app.run(work)


def _show(app: App, event: WatchEvent) -> None:
    record: dict[str, Any] = {"kind": event.kind, "revision": event.revision}
    text = f"{event.revision}  {event.kind}"
    found = event.key_value
    if found is not None and event.kind is WatchKind.DELETE:
        record["key"] = found.key
        text += f"  {printable(found.key)}"
    elif found is not None:
        record |= key_record(found)
        text += f"  {printable(found.key)} = {printable(found.value)}"
    if event.previous is not None:
        record["previous"] = key_record(event.previous)
        text += f"  (was {printable(event.previous.value)})"
    app.out.event(record, value=event.value if found else event.kind, text=text)


COMMANDS: Final = {
    "put": put,
    "get": get,
    "ls": list_keys,
    "del": delete,
    "incr": incr,
    "watch": watch,
}
