"""The peers' figures are decoded, proved and refused; their processes come and go."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from tests.bench.peers.base import PeerFailed, PeerMissing, Run
from tests.bench.peers.builds import need_file, need_program
from tests.bench.peers.driven import Driven, Roles
from tests.bench.peers.known import all_peers
from tests.bench.peers.program import Done, Order, Program, decode, run_of
from tests.bench.peers.servers import Servers

_ORDER = Order(measure="put-64", prefix="put-64-1", tasks=64, measured_s=2.0)
_DONE = Done(operations=100, p50_us=5.0, p99_us=9.0, acknowledged=120, found=120)
_CPU_S = ({"client": 1.0, "server": 2.0}, {"client": 1.5, "server": 2.25})
_WAIT_S = 30.0
_ROOT = Path(__file__).resolve().parents[3]
_IDLE = (sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()")
#: A load program that answers with the events that name the workload.
_LOAD = """
import json, sys
for line in sys.stdin:
    order = json.loads(line)
    for event in order["measure"].split("+"):
        told = {"event": event, "sentence": "a value was lost"}
        told |= dict(operations=4, p50_us=1, p99_us=2, acknowledged=4, found=4)
        if event == "exit":
            sys.exit("no memory left")
        print(json.dumps(told), flush=True)
"""


def test_a_run_is_told_per_operation_and_second() -> None:
    run = run_of(_ORDER, _DONE, _CPU_S)

    assert run == Run(100, 50.0, 5.0, 9.0, {"client": 5000.0, "server": 2500.0})


def test_there_is_no_figure_without_proof() -> None:
    lost = msgspec.structs.replace(_DONE, found=119)
    with pytest.raises(PeerFailed, match=r"120 operations.* 119 were found"):
        run_of(_ORDER, lost, _CPU_S)
    slow = msgspec.structs.replace(_DONE, operations=0)
    with pytest.raises(PeerFailed, match="no operation ended"):
        run_of(_ORDER, slow, _CPU_S)
    with pytest.raises(PeerFailed, match="time was not told"):
        run_of(_ORDER, _DONE, _CPU_S[:1])


def test_what_a_load_program_tells_is_read() -> None:
    line = (
        b'{"event":"done","operations":7,"p50_us":1.5,"p99_us":2,'
        b'"acknowledged":9,"found":9,"pause_s":0.5}\n'
    )

    assert decode(line) == Done(
        operations=7, p50_us=1.5, p99_us=2.0, acknowledged=9, found=9, pause_s=0.5
    )
    for garbage in (b"panic: nil\n", b'{"event":"gone"}\n', b'{"event":"done"}\n'):
        with pytest.raises(PeerFailed, match="told"):
            decode(garbage)


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    started = Program([sys.executable, "-c", _LOAD], tmp_path / "load.log")
    await started.start()
    yield started
    await started.stop()
    await started.stop()


def _order(events: str) -> Order:
    return Order(measure=events, measured_s=2.0)


async def test_a_program_runs_one_order_after_the_other(program: Program) -> None:
    for _ in range(2):
        run = await program.run(_order("begin+end+done"), {"server": os.getpid()})

        assert (run.operations, run.rate) == (4, 2.0)
        assert set(run.cpu_us) == {"client", "server"}


async def test_a_program_that_fails_says_why_and_goes_on(program: Program) -> None:
    with pytest.raises(PeerFailed, match="a value was lost"):
        await program.run(_order("begin+end+failed"), {})

    assert (await program.run(_order("begin+end+done"), {})).operations == 4


async def test_a_program_that_ends_says_why(program: Program) -> None:
    with pytest.raises(PeerFailed, match="no memory left"):
        await program.run(_order("begin+exit"), {})


async def test_a_server_that_is_gone_leaves_no_figure(program: Program) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    with pytest.raises(PeerFailed, match="time was not told"):
        await program.run(_order("begin+end+done"), {"server": gone.pid})


async def _seen(servers: Servers, name: str, what: str) -> None:
    async def ask() -> bool | None:
        return what in servers.tail(name) or None

    await servers.until(f"{name} said {what!r}", ask, timeout_s=_WAIT_S)


async def test_servers_rest_wake_and_end(tmp_path: Path) -> None:
    servers = Servers(tmp_path / "logs")
    for name in ("a", "b"):
        servers.start(name, _IDLE)
    await _seen(servers, "a", "up")
    pid = servers.pid("a")

    servers.rest()
    assert await servers.until("it rests", _when(pid, "T"), timeout_s=_WAIT_S)
    assert servers.wake()
    assert await servers.until("it is awake", _when(pid, "S"), timeout_s=_WAIT_S)
    assert not servers.wake()
    servers.rest()
    servers.stop()
    servers.stop()

    assert servers.names == []
    assert not Path(f"/proc/{pid}").exists()


def _when(pid: int, state: str) -> Callable[[], Awaitable[bool | None]]:
    async def ask() -> bool | None:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0] == state or None

    return ask


async def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.start("a", _IDLE)
    servers.start("b", [sys.executable, "-c", "raise SystemExit('disk is full')"])
    try:
        with pytest.raises(PeerFailed, match=r"b ended by itself(?s:.*)disk is full"):
            await _seen(servers, "a", "never said")
    finally:
        servers.stop()


async def test_what_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    servers = Servers(tmp_path)
    servers.start("a", _IDLE)
    await _seen(servers, "a", "up")

    async def refused() -> None:
        raise ConnectionRefusedError("nobody listens")

    try:
        with pytest.raises(PeerFailed, match=r"it serves not(?s:.*)listens(?s:.*)up"):
            await servers.until("it serves", refused, timeout_s=0.1)
    finally:
        servers.stop()


def test_servers_end_with_a_harness_that_is_killed(tmp_path: Path) -> None:
    harness = (
        "import pathlib, signal, sys; from tests.bench.peers.servers import Servers;"
        "servers = Servers(pathlib.Path(sys.argv[1]));"
        "servers.start('a', sys.argv[2:]);"
        "print(servers.pid('a'), flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", harness, str(tmp_path), *_IDLE],
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    ) as process:
        assert process.stdout is not None
        server = os.pidfd_open(int(process.stdout.readline()))
        try:
            poll = select.poll()
            poll.register(server, select.POLLIN)
            assert not poll.poll(0)
            process.kill()
            assert poll.poll(_WAIT_S * 1000), "the server outlived its harness"
        finally:
            os.close(server)


class _Small(Driven):
    """A peer of one server; the ports of its first starts are taken."""

    name = "small"
    measures = frozenset({"begin+end+done"})

    def __init__(self, taken: int, complaint: str = "address already in use") -> None:
        super().__init__()
        self._taken = taken
        self._complaint = complaint
        self.launched = 0

    async def find(self) -> list[str]:
        return [sys.executable, "-c", _LOAD]

    async def launch(self, servers: Servers, folder: Path) -> None:
        self.launched += 1
        if self.launched > self._taken:
            servers.start("server", _IDLE)
        else:
            command = [sys.executable, "-c", f"raise SystemExit('{self._complaint}')"]
            servers.start("server", command)

    async def roles(self) -> Roles:
        await _seen(self.servers, "server", "up")
        return Roles(0, {"server": self.servers.pid("server")}, ())


async def test_a_peer_whose_port_was_taken_starts_anew(tmp_path: Path) -> None:
    peer = _Small(taken=2)
    await peer.stop()
    try:
        await peer.start(tmp_path)
        peer.rest()
        run = await peer.run("begin+end+done", 1, warm_up_s=0.0, measured_s=1.0)
    finally:
        await peer.stop()
        await peer.stop()

    assert peer.launched == 3
    assert set(run.cpu_us) == {"client", "server"}
    assert peer.servers.names == []


async def test_a_peer_that_does_not_come_up_leaves_nothing(tmp_path: Path) -> None:
    for peer, launched in ((_Small(9), 3), (_Small(9, "bad license"), 1)):
        with pytest.raises(PeerFailed, match="ended by itself"):
            await peer.start(tmp_path / str(launched))

        assert peer.launched == launched
        assert peer.servers.names == []


def test_what_is_missing_is_told_with_its_package() -> None:
    with pytest.raises(PeerMissing, match="install Debian's etcd-server"):
        need_program("etcd-that-is-not-there", "etcd-server")
    with pytest.raises(PeerMissing, match="install Debian's libzookeeper-java"):
        need_file(Path("/nonexistent/zookeeper.jar"), "libzookeeper-java")


async def test_every_peer_says_what_it_measures_and_may_be_stopped() -> None:
    peers = all_peers(heat_s=0.0)

    assert len({peer.name for peer in peers}) == len(peers)
    for peer in peers:
        assert peer.measures
        await peer.stop()


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(600)  # the first one builds the load programs
@pytest.mark.parametrize("name", [peer.name for peer in all_peers()])
async def test_a_peer_runs_all_it_measures(name: str, tmp_path: Path) -> None:
    peers = {peer.name: peer for peer in all_peers(heat_s=1.0)}
    peer = peers[name]
    before = _children()
    pids: set[str] = set()
    try:
        if name == "kazoo":
            await peers["zookeeper"].start(tmp_path / "zookeeper")
        await peer.start(tmp_path / "peer")
        pids = _children() - before
        for measure in sorted(peer.measures):
            run = await peer.run(measure, 4, warm_up_s=0.1, measured_s=1.0)

            assert run.operations == run.rate > 0
            assert 0 < run.p50_us <= run.p99_us
            assert {"client"} < set(run.cpu_us) <= {*_ROLES}
            peer.rest()
    except PeerMissing as missing:
        pytest.skip(str(missing))
    finally:
        for each in peers.values():
            await each.stop()
    assert len(pids) >= 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


_ROLES = ("client", "leader", "follower 1", "follower 2", "server")


def _children() -> set[str]:
    """Processes that we started."""
    mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return set(mine.read_text().split())
