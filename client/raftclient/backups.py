"""Saving a backup: a stream into a file that is there whole, or not at all.

Rules: the bytes go to ``FILE.part``; only when the size and the hash at the end of the
stream are right and all is on disk does it become ``FILE``, in one step. Whatever
happens before leaves an older ``FILE`` as it was.

Source: SEMANTICS.md section 7; proto/raftpb/v1/cluster.proto.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import grpc
import msgspec

from raftclient._ask import ask_one
from raftclient._clock import to_ms
from raftclient.errors import Unavailable
from raftpb.v1 import cluster_pb2

if TYPE_CHECKING:
    from collections.abc import Callable

    from raftclient._core import Core

__all__ = ["BackupInfo", "BackupProgress", "save_backup"]

METHOD: Final = "/raftpb.v1.ClusterService/StreamBackup"
HASH_BYTES: Final = 32
SILENCE_S_MAX: Final = 30.0
"""A member that sends nothing for so long is given up."""
BEGIN_S: Final = 1.0
"""For the way, beyond what the member itself may take until it begins."""


class BackupProgress(msgspec.Struct, frozen=True):
    """How far a backup is.

    Attributes:
        bytes_done: Of the file, so far.
        bytes_about: About what it will have; 0 = not known.
    """

    bytes_done: int
    bytes_about: int


class BackupInfo(msgspec.Struct, frozen=True):
    """A backup that was saved.

    Attributes:
        path: Where it is.
        size_bytes: Its size.
        blake2b: Hash of the file, 32 bytes in hexadecimal digits.
        cluster: Name of the cluster it is of.
        cluster_id: 32 hexadecimal digits.
        member: Name of the member that made it.
        version: That member's release.
    """

    path: str
    size_bytes: int
    blake2b: str
    cluster: str
    cluster_id: str
    member: str
    version: str


async def save_backup(
    core: Core,
    path: str | os.PathLike[str],
    on_progress: Callable[[BackupProgress], None] | None,
    timeout_s: float | None,
) -> BackupInfo:
    """Save a backup; see ``Cluster.backup``."""
    target = Path(path)
    _check_target(target)
    part = target.with_name(f"{target.name}.part")
    call, first = await _begin(core, timeout_s)
    try:
        with await asyncio.to_thread(part.open, "wb") as file:
            sink = _Sink(file, first.facts.state_bytes)
            end = await _receive(call, sink, on_progress)
            sink.check(end)
            await asyncio.to_thread(_sync, file)
        await asyncio.to_thread(_become, part, target)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(part)  # a write does not say where
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    finally:
        call.cancel()
    return BackupInfo(
        path=str(target),
        size_bytes=sink.size_bytes,
        blake2b=sink.digest.hexdigest(),
        cluster=first.facts.cluster_name,
        cluster_id=first.header.cluster_id.hex(),
        member=first.facts.name,
        version=first.facts.version,
    )


class _Sink:
    """Takes the file's bytes, and knows what they came to."""

    def __init__(self, file: BinaryIO, bytes_about: int) -> None:
        self.file: Final = file
        self.bytes_about: Final = bytes_about
        self.digest: Final = hashlib.blake2b(digest_size=HASH_BYTES)
        self.size_bytes = 0

    def take(self, chunk: bytes) -> None:
        """Write bytes; blocks, so a thread does it."""
        self.file.write(chunk)
        self.digest.update(chunk)
        self.size_bytes += len(chunk)

    def check(self, end: cluster_pb2.BackupEnd) -> None:
        """Compare what came with what was sent.

        Raises:
            Unavailable: They differ; the file is of no use.
        """
        if (self.size_bytes, self.digest.digest()) != (end.bytes, end.blake2b):
            raise Unavailable(
                f"the backup came out damaged ({self.size_bytes} bytes of {end.bytes},"
                " or another hash) and was not kept",
                reason="CORRUPT",
            )


async def _begin(core: Core, timeout_s: float | None) -> tuple[Any, Any]:
    """Open the stream at a member that makes backups; return it with its facts."""
    channels = core.shared.channels

    async def attempt(address: str, left_s: float) -> tuple[Any, Any]:
        method: grpc.aio.UnaryStreamMultiCallable[
            cluster_pb2.StreamBackupRequest, cluster_pb2.StreamBackupResponse
        ] = channels.get(address).unary_stream(
            METHOD,
            request_serializer=cluster_pb2.StreamBackupRequest.SerializeToString,
            response_deserializer=cluster_pb2.StreamBackupResponse.FromString,
        )
        request = cluster_pb2.StreamBackupRequest(begin_timeout_ms=to_ms(left_s))
        call = channels.in_flight.begin(lambda: method(request))
        first = await _next(call, 0, left_s + BEGIN_S)
        if first.WhichOneof("body") != "facts":
            call.cancel()
            raise Unavailable("the stream did not begin as a backup does")
        return call, first

    found: tuple[Any, Any] = await ask_one(core, attempt, timeout_s)
    return found


async def _receive(
    call: Any, sink: _Sink, on_progress: Callable[[BackupProgress], None] | None
) -> cluster_pb2.BackupEnd:
    while True:
        try:
            message = await _next(call, sink.size_bytes)
        except grpc.aio.AioRpcError as failure:
            raise _cut(sink.size_bytes, str(failure.details())) from failure
        match message.WhichOneof("body"):
            case "chunk":
                await asyncio.to_thread(sink.take, message.chunk)
                if on_progress is not None:
                    on_progress(BackupProgress(sink.size_bytes, sink.bytes_about))
            case "end":
                end: cluster_pb2.BackupEnd = message.end
                return end
            case other:
                raise Unavailable(f"a backup holds no {other}; it was not kept")


async def _next(call: Any, size_bytes: int, silence_s: float = SILENCE_S_MAX) -> Any:
    """Read one message; the stream may not end, nor keep silent."""
    try:
        async with asyncio.timeout(silence_s):
            message = await call.read()
    except TimeoutError as error:
        call.cancel()
        raise _cut(size_bytes, f"silent for {silence_s:g} s") from error
    if message is grpc.aio.EOF:
        raise _cut(size_bytes, "it ended")
    return message


def _cut(size_bytes: int, why: str) -> Unavailable:
    return Unavailable(
        f"the backup broke off after {size_bytes} bytes ({why}) and was not kept",
        reason="CUT",
    )


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _check_target(target: Path) -> None:
    """Refuse what a file must not take the place of: a folder, a device, no name."""
    if not target.name or (target.exists() and not target.is_file()):
        sentence = "no file that a backup could be, or replace"
        raise OSError(errno.EINVAL, sentence, str(target))


def _become(part: Path, target: Path) -> None:
    """Give the file its name, durably."""
    part.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
