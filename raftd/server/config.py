"""Settings of a node, from a TOML file, `RAFTD_*` variables and flags.

Rules:
    * Each setting has one name; `heartbeat_ms` is the key of the file,
      `RAFTD_HEARTBEAT_MS` the variable and `--heartbeat-ms` the flag. Inside
      `[limits]`, the prefix `limits` belongs to the name.
    * Flags weigh more than variables, variables more than the file, the file
      more than the default. An empty variable counts as not set.
    * Whatever is wrong is one sentence that names where, what and the range.
    * A field of `settings` is the only place that knows its name, default, range and
      help.

Source: docs/ARCHITECTURE.md "Configuration".
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from raftd.server.option_kinds import Address, Kind, Member, nearest
from raftd.server.settings import ConfigError, Limits, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping


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

VARIABLE_PREFIX: Final = "RAFTD_"
CONFIG_VARIABLE: Final = "RAFTD_CONFIG"

# Container platforms announce services whose names begin with "raftd" by variables
# of these forms; matched against "NAME=value".
_PLATFORM_VARIABLE = re.compile(
    r"RAFTD(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP)\w*)=.*"
    r"|RAFTD(_\w+)?_PORT=(tcp|udp)://.*"
)


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
    top.setdefault("members", ())
    return Settings(**top, limits=Limits(**limits))


def _check_complete(values: Mapping[str, object], known: Mapping[str, Option]) -> None:
    for option in known.values():
        is_needed = option.default is None
        if option.name == "members" and values.get("join"):
            is_needed = False  # who is a member, the cluster will tell
        if is_needed and option.name not in values:
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
