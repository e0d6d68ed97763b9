"""The network between the nodes: a star of TUN devices, joined by this one process.

Each node lives in a network namespace whose only way out is a leg, a TUN device that
ends here; one leg more, in the machine's own namespace, is for clients. The process
reads each packet, looks up what is to become of it, and writes it to the leg that it is
for. It also keeps the disks of the world mounted, in a mount namespace of its own.
Namespaces, devices and mounts have no names outside: they end with this process and
those that live in them.

Rules: orders come as JSON, one on each line of standard input, and are answered on
standard output. At its end, the process ends whoever is left of its world.

Source: RELIABILITY.md section 0 finding 8, section 5.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import heapq
import itertools
import os
import random
import selectors
import signal
import struct
import subprocess
import sys
import time
from typing import Final

import msgspec

from tests.chaos.leftovers import WORLD, end_world
from tests.chaos.packets import destination_of, is_tcp, resets_for
from tests.chaos.rules import CLIENTS, OPEN, Pair, Rule

__all__ = [
    "AddLeg",
    "Answer",
    "Count",
    "MountDisk",
    "NetworkRouter",
    "Order",
    "SetRules",
    "Tally",
    "address_of",
    "main",
]

_CLONE_NEWNS: Final = 0x20000
_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
_MTU: Final = 9000
_RUNS: Final = 250
_CLIENTS_HOST: Final = 254
_READS_MAX: Final = 64
"""Packets taken from one leg before it is the others' turn."""
_QUEUE_S: Final = 1.0
"""How much a slow link holds before it loses packets."""
_LATE_MAX: Final = 100_000
"""Packets under way in all; beyond that they are lost."""


class AddLeg(msgspec.Struct, frozen=True, tag="leg"):
    """Make a namespace for a node, with a leg."""

    number: int


class MountDisk(msgspec.Struct, frozen=True, tag="disk"):
    """Mount an image at a folder."""

    image: str
    folder: str


class SetRules(msgspec.Struct, frozen=True, tag="rules"):
    """Replace all rules."""

    rules: list[tuple[int, int, Rule]]


class Tally(msgspec.Struct, frozen=True, tag="count"):
    """Tell how many packets went where."""


Order = AddLeg | MountDisk | SetRules | Tally


class Count(msgspec.Struct, omit_defaults=True):
    """Packets of one direction since the start."""

    source: int = 0
    target: int = 0
    carried: int = 0
    lost: int = 0


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of an order.

    Attributes:
        error: Empty if it was carried out.
        value: Of the first answer of all, the number of the network; of ``AddLeg``,
            the descriptor of the namespace in the router's process.
        counts: Of ``Tally``.
    """

    error: str = ""
    value: int = 0
    counts: list[Count] = []


class NetworkRouter:
    """Carries packets between legs.

    Args:
        chance: Draws what happens to a packet.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._legs: dict[int, int] = {}
        self._rules: dict[Pair, Rule] = {}
        self._free_at: dict[Pair, float] = {}
        self._counts: dict[Pair, Count] = {}
        self._late: list[tuple[float, int, int, bytes]] = []
        self._numbers = itertools.count()

    def add(self, number: int, device: int) -> None:
        """Carry packets of a leg, by the device's descriptor."""
        os.set_blocking(device, False)
        self._legs[number] = device

    def set_rules(self, rules: list[tuple[int, int, Rule]]) -> None:
        """Replace all rules; packets under way stay so."""
        self._rules = {(one, two): rule for one, two, rule in rules}
        self._free_at.clear()

    def counts(self) -> list[Count]:
        """Return how many packets went where."""
        return list(self._counts.values())

    def wait_s(self, now: float) -> float | None:
        """Return for how long nothing is due; None = for ever."""
        return max(0.0, self._late[0][0] - now) if self._late else None

    def deliver_late(self, now: float) -> None:
        """Deliver the packets whose time has come."""
        while self._late and self._late[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._late)
            self._write(target, packet)

    def carry(self, source: int, now: float) -> None:
        """Take what a leg has and send it on."""
        device = self._legs[source]
        for _ in range(_READS_MAX):
            try:
                packet = os.read(device, 1 << 16)
            except OSError as error:
                if error.errno in {errno.EAGAIN, errno.EIO}:
                    return
                raise
            target = destination_of(packet)
            target = CLIENTS if target == _CLIENTS_HOST else target
            if target in self._legs and target != source:
                self._route((source, target), packet, now)

    def _route(self, pair: Pair, packet: bytes, now: float) -> None:
        count = self._counts.setdefault(pair, Count(*pair))
        rule = self._rules.get(pair, OPEN)
        if rule is OPEN:
            count.carried += 1
            self._write(pair[1], packet)
            return
        draw = self._chance.random
        if rule.block or draw() < rule.loss:
            count.lost += 1
        elif rule.reset and is_tcp(packet) and draw() < rule.reset:
            count.lost += 1
            self._reset(pair, packet, is_told_once=rule.is_reset_told_once)
        else:
            self._shape(pair, packet, rule, now)
            if draw() < rule.duplicate:
                self._shape(pair, packet, rule, now)

    def _shape(self, pair: Pair, packet: bytes, rule: Rule, now: float) -> None:
        due = now
        if rule.bytes_per_s:
            due = max(due, self._free_at.get(pair, 0.0))
            if due - now > _QUEUE_S:
                self._counts[pair].lost += 1
                return
            due += len(packet) / rule.bytes_per_s
            self._free_at[pair] = due
        due += rule.delay_ms / 1000
        due += self._chance.random() * rule.jitter_ms / 1000
        if due > now and len(self._late) >= _LATE_MAX:
            self._counts[pair].lost += 1
            return
        self._counts[pair].carried += 1
        if due > now:
            heapq.heappush(self._late, (due, next(self._numbers), pair[1], packet))
        else:
            self._write(pair[1], packet)

    def _reset(self, pair: Pair, packet: bytes, *, is_told_once: bool) -> None:
        back, on = resets_for(packet)
        if on:
            self._write(pair[1], on)
        if back and not is_told_once:
            self._write(pair[0], back)

    def _write(self, target: int, packet: bytes) -> None:
        try:
            os.write(self._legs[target], packet)
        except OSError as error:
            # A full queue loses packets, as any network does.
            if error.errno not in {errno.EAGAIN, errno.EIO, errno.ENOBUFS}:
                raise


class _Ground:
    """The namespaces and mounts that the packets are for."""

    def __init__(self) -> None:
        _system("unshare", _CLONE_NEWNS)
        _run("mount", "--make-rprivate", "/")
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY)
        self.network = 0

    def open_clients_leg(self) -> int:
        """Make the leg of the clients; the first free network is ours by its name."""
        for step in range(_RUNS):
            self.network = 1 + (os.getpid() + step) % _RUNS
            try:
                return self._leg(f"chaos{self.network}", _CLIENTS_HOST)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
        raise RuntimeError("all networks for tests are taken")

    def open_leg(self, number: int) -> tuple[int, int]:
        """Make a namespace with a leg: both their descriptors."""
        _system("unshare", _CLONE_NEWNET)
        try:
            namespace = os.open("/proc/self/ns/net", os.O_RDONLY)
            _run("ip", "link", "set", "lo", "up")
            return namespace, self._leg("leg", number)
        finally:
            _system("setns", self._home, _CLONE_NEWNET)

    def _leg(self, name: str, host: int) -> int:
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        try:
            request = struct.pack("16sH22x", name.encode(), _IFF_TUN_NO_PI)
            fcntl.ioctl(device, _TUNSETIFF, request)
        except OSError:
            os.close(device)
            raise
        address = address_of(self.network, host)
        _run("ip", "link", "set", name, "mtu", str(_MTU), "up")
        _run("ip", "address", "add", f"{address}/24", "dev", name)
        return device


def address_of(network: int, number: int) -> str:
    """Return the address of a node, or of the clients."""
    return f"10.77.{network}.{number or _CLIENTS_HOST}"


def _system(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")


class _Process:
    """Takes orders and carries packets, until there are no more orders."""

    def __init__(self, seed: str) -> None:
        self._ground = _Ground()
        self._router = NetworkRouter(random.Random(seed))
        self._selector = selectors.DefaultSelector()
        self._orders = b""

    def run(self) -> None:
        self._listen(CLIENTS, self._ground.open_clients_leg())
        _answer(Answer(value=self._ground.network))
        os.set_blocking(0, False)
        self._selector.register(0, selectors.EVENT_READ)
        while True:
            ready = self._selector.select(self._router.wait_s(time.monotonic()))
            now = time.monotonic()
            self._router.deliver_late(now)
            for key, _ in ready:
                if key.fd != 0:
                    self._router.carry(key.data, now)
                elif not self._take_orders():
                    return

    def _listen(self, number: int, device: int) -> None:
        self._router.add(number, device)
        self._selector.register(device, selectors.EVENT_READ, number)

    def _take_orders(self) -> bool:
        got = os.read(0, 1 << 16)
        *lines, self._orders = (self._orders + got).split(b"\n")
        for line in lines:
            try:
                answer = self._carry_out(msgspec.json.decode(line, type=Order))
            except (OSError, RuntimeError, msgspec.MsgspecError) as error:
                answer = Answer(error=str(error))
            _answer(answer)
        return bool(got)

    def _carry_out(self, order: Order) -> Answer:
        match order:
            case AddLeg(number):
                namespace, device = self._ground.open_leg(number)
                self._listen(number, device)
                return Answer(value=namespace)
            case MountDisk(image, folder):
                _run("mount", "-o", "loop", image, folder)
                return Answer()
            case SetRules(rules):
                self._router.set_rules(rules)
                return Answer()
            case Tally():
                return Answer(counts=self._router.counts())


def _answer(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Carry packets until standard input ends; then end who is left of the world."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _Process(sys.argv[1]).run()
    except (OSError, RuntimeError) as error:
        _answer(Answer(error=str(error)))
    finally:
        end_world(os.environ[WORLD])


if __name__ == "__main__":
    main()
