"""The kinds of value a setting may have: how each is read, and its range.

Rules:
    * A kind turns what a file or a text says into a typed value, or raises
      `ValueError` with what it found wrong; only `config` knows where it stood.
    * `expects` completes the sentence "<name> must be ...".

Source: docs/ARCHITECTURE.md "Configuration".
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NODE_ID_MAX = 2**16
MEMBERS_MAX = 9
NAME_BYTES_MAX = 64
PORT_MAX = 2**16 - 1
SHOWN_MAX = 80  # characters of a wrong value in a message

_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_MEMBER_TEXT = re.compile(
    r"(?P<id>[^=@/]+)=(?P<name>[^=@/]+)@(?P<peer>.+)/(?P<client>.+)"
)
_MEMBER_KEYS = ("id", "name", "peer", "client")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and a port, written `host:port`; IPv6 hosts stand in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node of the cluster, as every node's configuration names it."""

    id: int
    name: str
    peer: Address
    client: Address


class Kind(Protocol):
    """How one sort of value is read."""

    @property
    def expects(self) -> str:
        """What a value must be, to follow "must be"."""

    def from_text(self, text: str) -> object:
        """Read a value from a variable or a flag, raising ValueError."""

    def from_file(self, value: object) -> object:
        """Read a value from a parsed TOML file, raising ValueError."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within a range, both ends included."""

    low: int
    high: int

    @property
    def expects(self) -> str:
        """The range."""
        return f"a whole number from {self.low} to {self.high}"

    def from_text(self, text: str) -> int:
        """Read decimal digits."""
        try:
            number = int(text)
        except ValueError as error:
            raise ValueError(f"{show(text)} is not a whole number") from error
        return self.from_file(number)

    def from_file(self, value: object) -> int:
        """Take an integer of the file; `true` is none."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{show(value)} is not a whole number")
        if not self.low <= value <= self.high:
            raise ValueError(f"{value} is out of range")
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A short name: UTF-8, no control characters, no blank at either end."""

    bytes_max: int = NAME_BYTES_MAX

    @property
    def expects(self) -> str:
        """The length."""
        return f"a name of 1 to {self.bytes_max} bytes without control characters"

    def from_text(self, text: str) -> str:
        """Take the text as it is."""
        return self.from_file(text)

    def from_file(self, value: object) -> str:
        """Take a string of the file."""
        if not isinstance(value, str):
            raise ValueError(f"{show(value)} is not a text")
        if not 1 <= len(value.encode()) <= self.bytes_max:
            raise ValueError(f"{show(value)} has {len(value.encode())} bytes")
        if not value.isprintable() or value != value.strip():
            raise ValueError(f"{show(value)} has control characters or outer blanks")
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expects(self) -> str:
        """The words."""
        return "one of " + ", ".join(self.words)

    def from_text(self, text: str) -> str:
        """Take the text as it is."""
        return self.from_file(text)

    def from_file(self, value: object) -> str:
        """Take a string of the file."""
        if not isinstance(value, str) or value not in self.words:
            raise ValueError(f"{show(value)} is none of them")
        return value


@dataclass(frozen=True, slots=True)
class Folder:
    """A path in the file system; it need not exist yet."""

    @property
    def expects(self) -> str:
        """A path."""
        return "the path of a folder"

    def from_text(self, text: str) -> Path:
        """Take the text as a path."""
        return self.from_file(text)

    def from_file(self, value: object) -> Path:
        """Take a string of the file as a path."""
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"{show(value)} is not a path")
        return Path(value)


@dataclass(frozen=True, slots=True)
class HostPort:
    """An address; port 0, where allowed, lets the system choose."""

    port_min: int = 1

    @property
    def expects(self) -> str:
        """The form and the range of the port."""
        return f"host:port with a port from {self.port_min} to {PORT_MAX}"

    def from_text(self, text: str) -> Address:
        """Split at the last colon."""
        host, colon, port = text.rpartition(":")
        if not colon or _HOST.fullmatch(host) is None:
            raise ValueError(f"{show(text)} is not host:port")
        number = Whole(self.port_min, PORT_MAX).from_text(port)
        return Address(host.strip("[]"), number)

    def from_file(self, value: object) -> Address:
        """Take a string of the file."""
        if not isinstance(value, str):
            raise ValueError(f"{show(value)} is not host:port")
        return self.from_text(value)


@dataclass(frozen=True, slots=True)
class Addresses:
    """One or more addresses: a list, or `host:port,host:port`."""

    @property
    def expects(self) -> str:
        """The form, and the count."""
        return f"1 to {MEMBERS_MAX} addresses, each host:port, apart by commas"

    def from_text(self, text: str) -> tuple[Address, ...]:
        """Read the one-line spelling."""
        return self._checked(text.split(","))

    def from_file(self, value: object) -> tuple[Address, ...]:
        """Read a list of texts, or one text."""
        if isinstance(value, str):
            return self.from_text(value)
        if not isinstance(value, list):
            raise ValueError(f"{show(value)} is no list of addresses")
        return self._checked(value)

    def _checked(self, values: list[object] | list[str]) -> tuple[Address, ...]:
        kind = HostPort()
        found = [
            kind.from_file(value.strip() if isinstance(value, str) else value)
            for value in values
        ]
        if not 1 <= len(found) <= MEMBERS_MAX:
            raise ValueError(f"there are {len(found)}")
        return tuple(dict.fromkeys(found))


@dataclass(frozen=True, slots=True)
class Members:
    """The members: `[[members]]` tables, or `1=n1@peer:7401/client:7400,2=...`."""

    @property
    def expects(self) -> str:
        """Both spellings, and the count."""
        return (
            f"1 to {MEMBERS_MAX} members, each id=name@peer_host:port/client_host:port,"
            " or a [[members]] table with id, name, peer and client"
        )

    def from_text(self, text: str) -> tuple[Member, ...]:
        """Read the one-line spelling."""
        return self._checked(self._member_from_text(part) for part in text.split(","))

    def from_file(self, value: object) -> tuple[Member, ...]:
        """Read the tables of the file."""
        if not isinstance(value, list):
            raise ValueError(f"{show(value)} is not a list of tables")
        return self._checked(self._member_from_table(table) for table in value)

    def _checked(self, members: Iterable[Member]) -> tuple[Member, ...]:
        found = tuple(members)
        if not 1 <= len(found) <= MEMBERS_MAX:
            raise ValueError(f"there are {len(found)}")
        for key in _MEMBER_KEYS:
            values = [str(getattr(member, key)) for member in found]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"{key} {twice[0]} is used twice")
        return found

    def _member_from_text(self, text: str) -> Member:
        match = _MEMBER_TEXT.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{show(text.strip())} has another form")
        number = Whole(1, NODE_ID_MAX).from_text(match["id"])
        return _member(number, match.groupdict())

    def _member_from_table(self, table: object) -> Member:
        if not isinstance(table, dict):
            raise ValueError(f"{show(table)} is not a table")
        for key in table:
            if key not in _MEMBER_KEYS:
                raise ValueError(f"a member has no {key!r}{nearest(key, _MEMBER_KEYS)}")
        missing = [key for key in _MEMBER_KEYS if key not in table]
        if missing:
            raise ValueError(f"{missing[0]} is missing from {show(table)}")
        return _member(Whole(1, NODE_ID_MAX).from_file(table["id"]), table)


def _member(number: int, parts: Mapping[str, object]) -> Member:
    address = HostPort()
    return Member(
        id=number,
        name=Text().from_file(parts["name"]),
        peer=address.from_file(parts["peer"]),
        client=address.from_file(parts["client"]),
    )


def show(value: object) -> str:
    """Return a value as text for a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint at the most similar known name, or nothing if none is."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
