"""What the nodes of a world stand on: the router's process, and orders for it.

Whoever wants something of the network says so under a token of his own, and takes it
back under the same token; what holds for a pair is all of it together.

Source: RELIABILITY.md section 5 (set-up).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from tests.chaos.leftovers import WORLD, new_world
from tests.chaos.router import (
    AddLeg,
    Answer,
    Count,
    MountDisk,
    Order,
    SetRules,
    Tally,
    address_of,
)
from tests.chaos.rules import Pair, Rule, merged

__all__ = ["Ground", "GroundError", "why_no_ground"]

_TOOLS: Final = ("ip", "nsenter", "unshare", "mount", "fsfreeze", "mkfs.ext4")
_ROOT: Final = Path(__file__).resolve().parents[2]
_END_S: Final = 30.0


class GroundError(Exception):
    """The router could not do what it was told to."""


@functools.cache
def why_no_ground() -> str:
    """Say in a sentence why no world can be made here; empty if one can."""
    if sys.platform != "linux":
        return "a world of its own for each node needs Linux"
    if os.geteuid() != 0:
        return "network namespaces, TUN devices and mounts need root"
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    try:
        ground = Ground(new_world(), "probe")
    except GroundError as error:
        return f"no network of TUN devices can be made here: {error}"
    ground.close()
    return ""


class Ground:
    """A network, the namespaces of its nodes, and their disks."""

    def __init__(self, world: str, seed: str) -> None:
        """Start the router.

        Args:
            world: The name of the world that it is for.
            seed: Of what the router draws.

        Raises:
            GroundError: It cannot be made here.
        """
        self._lock = threading.Lock()
        self._rules: dict[object, Mapping[Pair, Rule]] = {}
        self._namespaces: dict[int, int] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.router", seed],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=_ROOT,
            env=os.environ | {WORLD: world},
            start_new_session=True,
        )
        self._network = self._answer().value

    @property
    def pid(self) -> int:
        """The router's process, whose mounts and descriptors are the nodes' ground."""
        return self._process.pid

    def host(self, number: int) -> str:
        """The address of a node."""
        return address_of(self._network, number)

    def add_leg(self, number: int) -> None:
        """Give a node a namespace with a leg."""
        with self._lock:
            self._namespaces[number] = self._ask(AddLeg(number)).value

    def mount(self, image: Path, folder: Path) -> None:
        """Mount an image where nodes, and ``seen``, find it."""
        with self._lock:
            self._ask(MountDisk(str(image), str(folder)))

    def seen(self, path: Path) -> Path:
        """Return the path by which this process reaches what nodes have there."""
        return Path(f"/proc/{self.pid}/root{path}")

    def enter(self, number: int) -> list[str]:
        """Return the command that starts another one where a node lives."""
        namespace = f"--net=/proc/{self.pid}/fd/{self._namespaces[number]}"
        return ["nsenter", f"--mount=/proc/{self.pid}/ns/mnt", namespace]

    def shape(self, token: object, rules: Mapping[Pair, Rule]) -> None:
        """Have packets treated so, besides what others want; replaces own rules."""
        with self._lock:
            self._rules[token] = MappingProxyType(dict(rules))
            self._set_rules()

    def clear(self, token: object) -> None:
        """Take back what was wanted; nothing happens if there is nothing."""
        with self._lock:
            if self._rules.pop(token, None) is not None:
                self._set_rules()

    def clear_all(self) -> None:
        """Take back what anybody wanted."""
        with self._lock:
            self._rules.clear()
            self._set_rules()

    def counts(self) -> dict[Pair, Count]:
        """Return how many packets went where since the start."""
        with self._lock:
            found = self._ask(Tally()).counts
        return {(count.source, count.target): count for count in found}

    @property
    def is_shaped(self) -> bool:
        """Whether anybody wants anything of the network at present."""
        return bool(self._rules)

    def close(self) -> None:
        """End the router, and with it whoever still runs in its world."""
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _set_rules(self) -> None:
        pairs = {pair: None for rules in self._rules.values() for pair in rules}
        whole = {
            pair: merged(r[pair] for r in self._rules.values() if pair in r)
            for pair in pairs
        }
        self._ask(
            SetRules([(*p, rule) for p, rule in whole.items() if not rule.is_open])
        )

    def _ask(self, order: Order) -> Answer:
        assert self._process.stdin is not None, "a pipe was asked for"
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise GroundError(f"the router is gone: {error}") from error
        return self._answer()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None, "a pipe was asked for"
        line = self._process.stdout.readline()
        if not line:
            raise GroundError(f"the router ended with code {self._process.wait()}")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise GroundError(answer.error)
        return answer
