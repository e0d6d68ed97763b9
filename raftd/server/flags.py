"""Every setting as a flag of a command, for those commands that need a node's settings.

Rules: the flags are those of ``serve``, whatever a command uses of them, so that the
command line of a node can be taken over as it is.

Source: CLI.md; ``config``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from raftd.server.config import load_settings, options
from raftd.server.settings import Settings

__all__ = ["settings_of", "with_settings"]

_DOT: Final = "__"
"""Stands for the dot of a setting's name where the name must be an identifier."""


def with_settings(command: Any) -> Any:
    """Give a command ``--config`` and every setting as a flag."""
    for option in reversed(options()):
        default = "" if option.default is None else f" [{option.default}]"
        command = click.option(
            option.flag,
            option.name.replace(".", _DOT),
            metavar="VALUE",
            help=option.help + default,
        )(command)
    return click.option(
        "--config",
        "config_file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="TOML file; RAFTD_* variables and flags weigh more, in this order",
    )(command)


def settings_of(config_file: Path | None, flags: Mapping[str, str | None]) -> Settings:
    """Read the settings that ``with_settings`` gathered.

    Raises:
        ConfigError: One sentence for the operator; the exit code is that of usage.
    """
    by_name = {name.replace(_DOT, "."): value for name, value in flags.items()}
    return load_settings(config_file, environ=os.environ, flags=by_name)
