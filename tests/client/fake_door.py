"""The client port of a scripted member: plain streams, and gRPC behind it.

It tells by the first bytes who comes, as a member does, and passes on to gRPC what is
no plain stream. A member that knows no plain streams passes everything on. Threads, as
all of the scripted cluster: a test may block its loop and still be served.

Source: docs/adr/0018.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from raftpb.v1 import sessions_pb2

__all__ = ["GREETING", "FakeDoor", "Served", "framed", "hang_up"]

GREETING = b"RAFTD/1\n"
_LENGTH = struct.Struct(">I")
_CHUNK = 1 << 16


class Served(Protocol):
    """A stream, as the door sees it."""

    is_open: bool

    def take(self, message: sessions_pb2.StreamSessionRequest) -> None: ...

    def messages(self) -> Iterator[sessions_pb2.StreamSessionResponse]: ...

    def end(self) -> None: ...


class FakeDoor:
    """Listens for clients.

    Attributes:
        knows_plain: Switch it off for a member of an older release.
        greetings: How many connections began with the greeting.
        hang_ups: How many of the next ones are hung up on without a word.
    """

    def __init__(
        self, serve: Callable[[Callable[[], None]], Served], *, port: int = 0
    ) -> None:
        self.knows_plain = True
        self.grpc_port = 0
        self.greetings = 0
        self.hang_ups = 0
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._is_stopped = False
        self._connections: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()

    def start(self) -> None:
        """Let clients in."""
        self._spawn(self._accept)

    def stop(self) -> None:
        """Close the port and break every connection; may be called twice."""
        with self._lock:
            self._is_stopped = True
            connections = list(self._connections)
        for each in (self._listener, *connections):
            hang_up(each)
        for thread in list(self._threads):
            thread.join()
        self._listener.close()

    def _spawn(self, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            finally:
                self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, daemon=True)
        thread.start()  # first: what has not been started cannot be joined
        self._threads.add(thread)
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # shut down
            while True:
                connection, _ = self._listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._spawn(functools.partial(self._let_in, connection))

    def _let_in(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            if not self._note(connection):
                return
            try:
                self._tell_apart(connection)
            finally:
                with self._lock:
                    self._connections.discard(connection)

    def _note(self, connection: socket.socket) -> bool:
        """Have ``stop`` break it, too; tells whether it is not too late."""
        with self._lock:
            if not self._is_stopped:
                self._connections.add(connection)
            return not self._is_stopped

    def _tell_apart(self, connection: socket.socket) -> None:
        came = b""
        while len(came) < len(GREETING) and GREETING.startswith(came):
            if not (data := connection.recv(_CHUNK)):
                return
            came += data
        is_plain = came.startswith(GREETING)
        with self._lock:
            self.greetings += is_plain
            hangs_up = is_plain and self.hang_ups > 0
            self.hang_ups -= hangs_up
        if hangs_up:
            return
        if is_plain and self.knows_plain:
            self._stream(connection, came[len(GREETING) :])
        else:
            self._pass_on(connection, came)

    # --- plain streams -----------------------------------------------------------

    def _stream(self, connection: socket.socket, came: bytes) -> None:
        connection.sendall(GREETING)
        stream = self._serve(lambda: hang_up(connection))
        writer = self._spawn(lambda: _write_all(connection, stream))
        try:
            for body in _bodies(connection, came):
                if stream.is_open:
                    message = sessions_pb2.StreamSessionRequest.FromString(body)
                    stream.take(message)
        finally:
            stream.end()
            writer.join()

    # --- gRPC --------------------------------------------------------------------

    def _pass_on(self, connection: socket.socket, came: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.grpc_port)) as inner:
            inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            inner.sendall(came)
            back = self._spawn(lambda: _copy(inner, connection))
            _copy(connection, inner)
            back.join()


def framed(message: sessions_pb2.StreamSessionResponse) -> bytes:
    """Put a message into a frame."""
    body = message.SerializeToString()
    return _LENGTH.pack(len(body)) + body


def hang_up(connection: socket.socket) -> None:
    """End it both ways; who waits for it finds out."""
    with contextlib.suppress(OSError):  # it has ended
        connection.shutdown(socket.SHUT_RDWR)


def _bodies(connection: socket.socket, came: bytes) -> Iterator[bytes]:
    """Yield the body of each frame until the client has ended."""
    buffer = bytearray(came)
    while True:
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                break
            yield bytes(buffer[_LENGTH.size : end])
            del buffer[:end]
        if not (data := connection.recv(_CHUNK)):
            return
        buffer += data


def _write_all(connection: socket.socket, stream: Served) -> None:
    """Write until the stream's end; what was on its way arrives before that."""
    with contextlib.suppress(OSError):  # broken by either side
        for message in stream.messages():
            connection.sendall(framed(message))
        connection.shutdown(socket.SHUT_WR)


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Copy until the end of the one, which ends both."""
    with contextlib.suppress(OSError):  # broken by either side
        while data := source.recv(_CHUNK):
            target.sendall(data)
    hang_up(target)
    hang_up(source)
