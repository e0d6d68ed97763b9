"""Makes one statement of a store fail, as SQLite would say it."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiosqlite
import pytest

#: What a refusing disk can refuse.
_WRITING = (
    "INSERT",
    "DELETE",
    "COMMIT",
    "BEGIN",
    "PRAGMA user",
    "PRAGMA wal_checkpoint",
)


@dataclass
class Fault:
    """The statements that wrote, up to and with the one that failed."""

    statements: list[str] = field(default_factory=list)
    has_struck: bool = False


def sqlite_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("planted")
    error.sqlite_errorcode = code
    return error


@contextmanager
def failing_at(number: int, code: int, *, is_undone: bool = False) -> Iterator[Fault]:
    """Have the writing statement of this number, from 0, fail.

    Args:
        number: Beyond the last one nothing fails, and `has_struck` stays False.
        code: SQLite's error code.
        is_undone: The failure ends the transaction, as SQLite may do by itself.
    """
    execute = aiosqlite.Connection.execute_fetchall
    fault = Fault()

    async def execute_or_fail(
        db: aiosqlite.Connection, sql: str, parameters: Iterable[Any] | None = None
    ) -> Iterable[Any]:
        if not fault.has_struck and sql.lstrip().startswith(_WRITING):
            fault.statements.append(sql)
            if len(fault.statements) > number:
                fault.has_struck = True
                if is_undone and db.in_transaction:
                    await execute(db, "ROLLBACK")
                raise sqlite_error(code)
        return await execute(db, sql, parameters)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiosqlite.Connection, "execute_fetchall", execute_or_fail)
        yield fault
