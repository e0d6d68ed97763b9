"""Flags that every command takes, at any level: endpoints, timeout, output.

``raftctl -o json get k`` and ``raftctl get k -o json`` are the same; the innermost
flag wins, then the outer ones, then ``RAFTCTL_ENDPOINTS`` and so on, then the default.

Source: CLI.md.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final

import click

from raftctl.durations import Duration

__all__ = [
    "Command",
    "Group",
    "OutputFormat",
    "Settings",
    "count_option",
    "settings_of",
]

DEFAULT_ENDPOINTS: Final = "127.0.0.1:7400"
DEFAULT_TIMEOUT_S: Final = 5.0
_KEY: Final = "raftctl.options"
_SIGNED: Final = "by"
"""What ``incr`` adds: the one number that may be below 0."""
_NUMBER_MAX: Final = (1 << 63) - 1
_COUNT_MAX: Final = (1 << 32) - 1


class OutputFormat(enum.StrEnum):
    """How results are written."""

    HUMAN = "human"
    JSON = "json"
    JSONL = "jsonl"
    VALUE = "value"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the common flags came to.

    Attributes:
        is_timeout_given: Somebody chose the timeout; what takes long may take longer
            than the default.
    """

    endpoints: str
    timeout_s: float
    output: OutputFormat
    is_timeout_given: bool = False


def count_option(command: Any) -> Any:
    """Add ``--limit`` to a list command."""
    return click.option(
        "--limit", type=click.IntRange(1), metavar="N", help="At most so many."
    )(command)


def _remember(ctx: click.Context, param: click.Parameter, value: object) -> None:
    if value is not None:
        ctx.meta.setdefault(_KEY, {})[param.name] = value


def _common_options(is_root: bool) -> list[click.Parameter]:
    def option(*names: str, **settings: Any) -> click.Option:
        return click.Option(
            names,
            expose_value=False,
            callback=_remember,
            allow_from_autoenv=is_root,
            show_envvar=is_root,
            **settings,
        )

    return [
        option(
            "--endpoints",
            metavar="HOST:PORT,...",
            help=f"Any members of the cluster.  [default: {DEFAULT_ENDPOINTS}]",
        ),
        option(
            "--timeout",
            type=Duration(0.001),
            metavar="DURATION",
            help="How long to try: 5, 5s, 500ms, 2m.  [default: 5s]",
        ),
        option(
            "-o",
            "--output",
            type=click.Choice([each.value for each in OutputFormat]),
            help="For people, or for scripts.  [default: human]",
        ),
    ]


class Command(click.Command):
    """A command with the common flags."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options(is_root=False))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the words, and refuse what no request can carry."""
        rest = super().parse_args(ctx, args)
        for param in self.params:
            _check_carried(ctx, param)
        return rest


class Group(click.Group):
    """A noun with the common flags; its commands have them, too."""

    command_class = Command

    def __init__(self, *args: Any, is_root: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_common_options(is_root))


def _check_carried(ctx: click.Context, param: click.Parameter) -> None:
    """Refuse numbers that the API has no room for, and names that are no text."""
    name = param.name or ""
    # A count is 32 bits wide; revisions, ids and tokens are 64.
    is_count = isinstance(param.type, click.IntRange) and not name.endswith("rev")
    most = _COUNT_MAX if is_count else _NUMBER_MAX
    least = -_NUMBER_MAX if name == _SIGNED else 0
    value = ctx.params.get(name)
    for each in value if isinstance(value, tuple | list) else (value,):
        if isinstance(each, int) and not least <= each <= most:
            raise click.BadParameter(f"{each} is out of range", ctx, param)
        if isinstance(each, str) and _is_text(param) and not _is_utf8(each):
            raise click.BadParameter("it is no UTF-8", ctx, param)


def _is_text(param: click.Parameter) -> bool:
    return param.type is click.STRING


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def settings_of(ctx: click.Context) -> Settings:
    """Return what the common flags of this call came to."""
    given = ctx.meta.get(_KEY, {})
    return Settings(
        given.get("endpoints", DEFAULT_ENDPOINTS),
        given.get("timeout", DEFAULT_TIMEOUT_S),
        OutputFormat(given.get("output", OutputFormat.HUMAN)),
        "timeout" in given,
    )
