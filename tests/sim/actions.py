"""What is done to a cluster in a run, as a list: recorded, stored, and done again.

Rules: an action names everything that was drawn for it, and when it happens, so that a
list can be carried out without a draw. Any part of a list is a list too: what cannot be
done any more is passed over.

Source: RELIABILITY.md section 6 (replay and shrinking).
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tests.sim.options import Options

__all__ = ["Action", "Script", "load_script", "save_script"]

Pairs = tuple[tuple[int, int], ...]


class Action(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that is done to a cluster.

    Attributes:
        at_us: When, after the start.
        name: What; see ``Strikes`` and ``Changes``.
        node: To whom.
        peer: The other one, if there are two.
        for_us: How long it lasts.
        is_on: A choice between two forms.
        kind: A choice between several.
        pairs: Links (from, to), or steps of a member change (kind, node).
    """

    at_us: int
    name: str
    node: int = 0
    peer: int = 0
    for_us: int = 0
    is_on: bool = False
    kind: str = ""
    pairs: Pairs = ()


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is written down.

    Attributes:
        seed: Of all draws that are not written down: links, disks, clocks, clients.
        heal_us: When the faults end; None: not before ``until_us``.
        until_us: Nothing is expected to happen later; None: at the end of a run.
        failure: How it failed.
        planted: The planted bug it was found with; empty: none.
        commit: Which code it failed with.
    """

    seed: int
    options: Options
    actions: tuple[Action, ...]
    heal_us: int | None = None
    until_us: int | None = None
    failure: str = ""
    planted: str = ""
    commit: str = ""


def save_script(path: Path, script: Script) -> None:
    """Write a script, readable for people."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(script)) + b"\n")


def load_script(path: Path) -> Script:
    """Read a script."""
    return msgspec.json.decode(path.read_bytes(), type=Script)
