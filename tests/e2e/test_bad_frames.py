"""Bytes that are no request, on each port: the node hangs up and goes on serving.

Source: RELIABILITY.md rule 46 (strangers); SEMANTICS.md section 0.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

import raftclient
from cluster.processes import Processes
from raftd.transport.frames import Call, Hello, Messages, encode
from tests.e2e.tools import eventually, told_by
from tests.ports import HOST

pytestmark = pytest.mark.e2e

NOISE = random.Random(7).randbytes(4096)
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STRANGER = Hello(
    version=1,
    cluster_name="other",
    cluster_id=b"\1" * 16,
    node_id=2,
    incarnation=b"\2" * 16,
    peers={},
    limits=b"",
    expected=0,
)
PATIENCE_S = 60.0

MALFORMED = {
    "nothing": b"",
    "noise": NOISE,
    "zeros": bytes(4096),
    "text": b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
    "endless line": b"A" * 100_000,
    "half a preface": HTTP2_PREFACE[:10],
    "preface and noise": HTTP2_PREFACE + NOISE,
    "huge length": struct.pack(">I", 2**32 - 1) + NOISE,
    "huge length, little endian": struct.pack("<I", 2**31 - 1) + NOISE,
    "a message before the greeting": encode(Messages(())),
    "a call before the greeting": encode(Call(1, b"")),
    "a stranger's greeting": encode(STRANGER),
    "a cut greeting": encode(STRANGER)[:-3],
    "a bad request line": b"\x00\xff\xfe\r\n\r\n",
    "a bad version": b"GET /metrics HTTP/9.9.9\r\n\r\n",
}


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), timeout=PATIENCE_S)


def is_hung_up(connection: socket.socket) -> bool:
    """Read until the node hangs up; False if it keeps the connection."""
    try:
        while connection.recv(65536):
            continue
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


def reset(connection: socket.socket) -> None:
    """Close in a way that the other side sees as broken."""
    linger = struct.pack("ii", 1, 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    connection.close()


@pytest.fixture(scope="module")
def client(lone: Processes) -> Iterator[raftclient.Client]:
    """A client whose connection was there before the nonsense."""
    with raftclient.connect(lone.endpoints, timeout_s=PATIENCE_S) as client:
        yield client


def says_ready(lone: Processes) -> bool:
    """Ask over HTTP; soon after its start a node may not have found out yet."""
    url = f"http://{HOST}:{lone.http_ports[0]}/ready"
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return bool(answer.read() == b"ready\n")
    except urllib.error.HTTPError as error:
        error.close()
        return False


def check_serving(lone: Processes, client: raftclient.Client) -> None:
    """The same process serves all three ports as if nothing had been."""
    before = client.incr("served")
    with raftclient.connect(lone.endpoints, timeout_s=PATIENCE_S) as fresh:
        assert fresh.incr("served") == before + 1
    assert not told_by(lone, 1).trouble
    eventually(lambda: says_ready(lone), "it says ready")
    with connect(lone.peer_ports[0]) as connection:
        connection.sendall(encode(STRANGER))
        assert is_hung_up(connection)


@pytest.mark.parametrize("door", ["client", "peer", "http"])
@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_bytes_do_not_disturb_a_node(
    lone: Processes, client: raftclient.Client, door: str, what: str
) -> None:
    ports = {
        "client": lone.client_ports,
        "peer": lone.peer_ports,
        "http": lone.http_ports,
    }[door]
    with connect(ports[0]) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(MALFORMED[what])
            connection.shutdown(socket.SHUT_WR)
        assert is_hung_up(connection)
    broken = connect(ports[0])
    with contextlib.suppress(OSError):
        broken.sendall(MALFORMED[what])
    reset(broken)
    check_serving(lone, client)


def test_a_peer_port_hangs_up_on_who_says_nothing(lone: Processes) -> None:
    with connect(lone.peer_ports[0]) as connection:
        assert is_hung_up(connection)


def test_many_open_connections_do_not_stop_a_node(
    lone: Processes, client: raftclient.Client
) -> None:
    with contextlib.ExitStack() as stack:
        for ports in (lone.client_ports, lone.peer_ports, lone.http_ports):
            for _ in range(100):
                stack.enter_context(connect(ports[0]))
        check_serving(lone, client)
