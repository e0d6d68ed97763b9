"""Values of flags and arguments that are read from text. Source: CLI.md."""

from __future__ import annotations

import os
from typing import Any, Final

import click

__all__ = ["BYTES", "TextType", "choice_of"]


class TextType(click.ParamType):  # type: ignore[type-arg]  # no generic in older click
    """A type that says what is wrong with a text as a ``ValueError``."""

    def parse(self, text: str) -> object:
        """Read the text.

        Raises:
            ValueError: It is not understood, and why.
        """
        raise NotImplementedError

    def convert(
        self,
        value: object,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> object:
        """Turn a text into a value; what is one already stays."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Bytes(TextType):
    """An argument as the bytes that were typed, UTF-8 or not."""

    name = "text"

    def parse(self, text: str) -> bytes:
        """Return the bytes."""
        return os.fsencode(text)


BYTES: Final = _Bytes()


def choice_of(values: Any) -> Any:
    """Return the type of a flag that takes one of an enum's values."""
    return click.Choice([each.value for each in values], case_sensitive=False)
