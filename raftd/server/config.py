"""Settings of a node, from a TOML file, `RAFTD_*` variables and flags.

Rules:
    * Each setting has one name; `heartbeat_ms` is the key of the file,
      `RAFTD_HEARTBEAT_MS` the variable and `--heartbeat-ms` the flag. Inside
      `[limits]`, the prefix `limits` belongs to the name.
    * Flags weigh more than variables, variables more than the file, the file
      more than the default. An empty variable counts as not set.
    * Whatever is wrong is one sentence that names where, what and the range.
    * A field below is the only place that knows its name, default, range and help.

Source: docs/ARCHITECTURE.md "Configuration".
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftd.server.option_kinds import (
    NODE_ID_MAX,
    Address,
    Choice,
    Folder,
    HostPort,
    Kind,
    Member,
    Members,
    Text,
    Whole,
    nearest,
)
from raftd.statemachine.limits import DEFAULT_LIMITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from raftd.statemachine.limits import Limits as ApplyLimits

__all__ = [
    "Address",
    "ConfigError",
    "Limits",
    "Member",
    "Option",
    "Settings",
    "load_settings",
    "options",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

ELECTION_HEARTBEATS_MIN: Final = 10
VARIABLE_PREFIX: Final = "RAFTD_"
CONFIG_VARIABLE: Final = "RAFTD_CONFIG"

# Container platforms announce services whose names begin with "raftd" by variables
# of these forms; matched against "NAME=value".
_PLATFORM_VARIABLE = re.compile(
    r"RAFTD(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)\w*)=.*"
    r"|RAFTD(_\w+)?_PORT=(tcp|udp)://.*"
)


class ConfigError(Exception):
    """The configuration cannot be used; the text is one sentence for the operator."""


def _option(kind: Kind, text: str) -> dict[str, Any]:
    return {"kind": kind, "help": text}


def _count(default: int, high: int, text: str, low: int = 1) -> int:
    value: int = field(default=default, metadata=_option(Whole(low, high), text))
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of each thing is accepted; equal on every member of a cluster."""

    name_bytes_max: int = _count(
        DEFAULT_LIMITS.name_bytes_max, 4 * KIB, "name of a lock, election or queue"
    )
    key_bytes_max: int = _count(
        DEFAULT_LIMITS.key_bytes_max, 64 * KIB, "key of the key-value store"
    )
    value_bytes_max: int = _count(
        DEFAULT_LIMITS.value_bytes_max, 64 * MIB, "value, payload, result, savepoint"
    )
    request_bytes_max: int = _count(4 * MIB, 256 * MIB, "one request", KIB)
    txn_ops_max: int = _count(
        DEFAULT_LIMITS.txn_ops_max, 4096, "operations of one transaction"
    )
    lease_attachments_max: int = _count(
        DEFAULT_LIMITS.lease_attachments_max, 1_000_000, "what one lease holds"
    )
    range_delete_keys_max: int = _count(
        DEFAULT_LIMITS.range_delete_keys_max, 1_000_000, "keys of one range delete"
    )
    promotions_max: int = _count(
        DEFAULT_LIMITS.promotions_max, 100_000, "waiters promoted by one command"
    )
    state_bytes_max: int = _count(
        DEFAULT_LIMITS.state_bytes_max, 64 * GIB, "the whole state", MIB
    )

    def __post_init__(self) -> None:
        if self.value_bytes_max > self.request_bytes_max:
            raise ConfigError(
                f"limits.value_bytes_max ({self.value_bytes_max}) must not be more than"
                f" limits.request_bytes_max ({self.request_bytes_max})."
            )

    def of_apply(self) -> ApplyLimits:
        """Return the limits that the state machine enforces, these among them."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        del given["request_bytes_max"]  # bounds the doors; apply never sees a request
        return replace(DEFAULT_LIMITS, **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a node is told at its start."""

    node_id: int = field(
        metadata=_option(Whole(1, NODE_ID_MAX), "which of the members this node is")
    )
    members: tuple[Member, ...] = field(
        metadata=_option(Members(), "all members, this node among them")
    )
    data_dir: Path = field(
        metadata=_option(Folder(), "folder of the node's two databases")
    )
    cluster: str = field(
        default="raftd", metadata=_option(Text(), "name of the cluster")
    )
    client_listen: Address = field(
        default=Address("127.0.0.1", 7400),
        metadata=_option(HostPort(0), "address for clients (gRPC)"),
    )
    peer_listen: Address = field(
        default=Address("127.0.0.1", 7401),
        metadata=_option(HostPort(0), "address for the other members"),
    )
    http_listen: Address = field(
        default=Address("127.0.0.1", 7402),
        metadata=_option(HostPort(0), "address for health and metrics (HTTP)"),
    )
    advertise_client: Address | None = field(
        default=None,
        metadata=_option(HostPort(), "where clients reach this node, if not as listed"),
    )
    heartbeat_ms: int = _count(100, 10_000, "interval of the leader's heartbeats", 10)
    election_ms: int = _count(1000, 100_000, "silence before an election", 100)
    checkpoint_log_bytes: int = _count(
        64 * MIB, 16 * GIB, "log written before a checkpoint", 64 * KIB
    )
    checkpoint_interval_ms: int = _count(
        60_000, 86_400_000, "time with writes before a checkpoint", 100
    )
    ballast_bytes: int = _count(
        64 * MIB, 64 * GIB, "room kept for when the disk is full; 0 = none", 0
    )
    log_level: str = field(
        default="info",
        metadata=_option(
            Choice(("debug", "info", "warning", "error")), "what the logger shows"
        ),
    )
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        known = [member.id for member in self.members]
        if self.node_id not in known:
            raise ConfigError(
                f"node_id {self.node_id} is not among the members {sorted(known)}."
            )
        if self.election_ms < ELECTION_HEARTBEATS_MIN * self.heartbeat_ms:
            raise ConfigError(
                f"election_ms ({self.election_ms}) must be at least"
                f" {ELECTION_HEARTBEATS_MIN} times heartbeat_ms ({self.heartbeat_ms})."
            )
        listened = (self.client_listen, self.peer_listen, self.http_listen)
        fixed = [str(address) for address in listened if address.port]
        if len(set(fixed)) < len(fixed):
            raise ConfigError(
                "client_listen, peer_listen and http_listen must differ, but are "
                + ", ".join(str(address) for address in listened)
                + "."
            )

    @property
    def member(self) -> Member:
        """This node, as the list of members names it."""
        return next(member for member in self.members if member.id == self.node_id)

    @property
    def advertised_client(self) -> Address:
        """Where this node tells clients to find it."""
        return self.advertise_client or self.member.client


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One setting, as the command line and the documentation show it.

    Attributes:
        name: The key of the file; `limits.` comes before the name of a limit.
        help: What it is, in a few words.
        default: The default as text; None where a value must be given.
        kind: How it is read, and its range.
    """

    name: str
    help: str
    default: str | None
    kind: Kind

    @property
    def variable(self) -> str:
        """The name of the environment variable."""
        return VARIABLE_PREFIX + self.name.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        """The name of the command-line flag."""
        return "--" + self.name.replace(".", "-").replace("_", "-")


def options() -> tuple[Option, ...]:
    """Return every setting, in the order of the documentation."""
    return _options_of(Settings, "") + _options_of(Limits, "limits.")


def _options_of(table: type[Settings | Limits], prefix: str) -> tuple[Option, ...]:
    return tuple(
        Option(
            name=prefix + item.name,
            help=item.metadata["help"],
            default=None if item.default is MISSING else str(item.default or "not set"),
            kind=item.metadata["kind"],
        )
        for item in fields(table)
        if item.metadata
    )


def load_settings(
    config_file: Path | None = None,
    *,
    environ: Mapping[str, str],
    flags: Mapping[str, str | None] | None = None,
) -> Settings:
    """Read and check the settings of a node.

    Args:
        config_file: The TOML file; without it, the one named by `RAFTD_CONFIG`, or
            none at all.
        environ: The variables; only those that begin with `RAFTD_` are looked at.
        flags: What the command line gave, by the name of the setting; None: not given.

    Returns:
        Settings whose every value is of its type and within its range.

    Raises:
        ConfigError: Something is unknown, missing, wrong or out of range. Show the
            sentence and stop with the exit code for usage.
    """
    known = {option.name: option for option in options()}
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file = Path(environ[CONFIG_VARIABLE])
    values: dict[str, object] = {}
    if config_file is not None:
        values |= _values_of_file(config_file, known)
    values |= _values_of_environ(environ, known)
    values |= _values_of_flags(flags or {}, known)
    _check_complete(values, known)
    return _settings(values)


def _settings(values: Mapping[str, object]) -> Settings:
    top: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name, value in values.items():
        table, _, key = name.rpartition(".")
        (limits if table else top)[key] = value
    return Settings(**top, limits=Limits(**limits))


def _check_complete(values: Mapping[str, object], known: Mapping[str, Option]) -> None:
    for option in known.values():
        if option.default is None and option.name not in values:
            raise ConfigError(
                f"{option.name} is not set: give it in the file, as"
                f" {option.variable} or as {option.flag}."
            )


def _values_of_file(path: Path, known: Mapping[str, Option]) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            tree = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}.") from error
    limits = tree.pop("limits", {})
    if not isinstance(limits, dict):
        raise ConfigError(f"{path}: limits must be a table, written [limits].")
    given = tree | {f"limits.{name}": value for name, value in limits.items()}
    values: dict[str, object] = {}
    for name, value in given.items():
        if name not in known:
            raise ConfigError(f"{path}: unknown key {name!r}{nearest(name, known)}.")
        try:
            values[name] = known[name].kind.from_file(value)
        except ValueError as error:
            raise _wrong(str(path), known[name], error) from error
    return values


def _values_of_environ(
    environ: Mapping[str, str], known: Mapping[str, Option]
) -> dict[str, object]:
    by_variable = {option.variable: option for option in known.values()}
    values: dict[str, object] = {}
    for variable in sorted(environ):
        if not variable.startswith(VARIABLE_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        if variable not in by_variable:
            if _PLATFORM_VARIABLE.fullmatch(f"{variable}={environ[variable]}"):
                continue
            hint = nearest(variable, by_variable)
            raise ConfigError(f"unknown variable {variable!r}{hint}.")
        text = environ[variable]
        if text:
            option = by_variable[variable]
            values[option.name] = _from_text(variable, option, text)
    return values


def _values_of_flags(
    flags: Mapping[str, str | None], known: Mapping[str, Option]
) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, text in flags.items():
        if name not in known:
            raise ConfigError(f"unknown flag {name!r}{nearest(name, known)}.")
        if text is not None:
            values[name] = _from_text(known[name].flag, known[name], text)
    return values


def _from_text(source: str, option: Option, text: str) -> object:
    try:
        return option.kind.from_text(text)
    except ValueError as error:
        raise _wrong(source, option, error) from error


def _wrong(source: str, option: Option, error: ValueError) -> ConfigError:
    return ConfigError(
        f"{source}: {option.name} must be {option.kind.expects}, but {error}."
    )
