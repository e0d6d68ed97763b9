"""Planted bugs of plain session streams: frames, room, ends.

Source: docs/adr/0018; RELIABILITY.md rules 46 and 47, section 6.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from raftclient._plain import _Connection
from raftd.api.plain import PlainStream
from raftd.sockets.cut import framed
from tests.mutants.bug import Bug
from tests.mutants.finders import Served
from tests.service.wires import NetOptions

__all__ = ["PLAIN"]

_LENGTH_BYTES: Final = 4

_IN_PIECES: Final = NetOptions(
    latency_us=1000,
    loss=0,
    breaks=0.001,
    silent=0,
    cuts=0.5,
    window_bytes=512,
    high_water_bytes=256,
)


def _take_the_first(self: _Connection) -> None:
    """Take one message of those that came together."""
    buffer, start = self._buffer, 0
    while len(buffer) - start >= _LENGTH_BYTES and not self.is_over:
        body = start + _LENGTH_BYTES
        end = body + int.from_bytes(buffer[start:body], "big")
        if len(buffer) < end:
            break
        if not start:
            self._take(bytes(buffer[body:end]))
        start = end
    del buffer[:start]


def _write_to_nobody(self: PlainStream) -> None:
    """Throw away what there is no room for."""
    self._is_due = False
    stream, transport = self._stream, self._transport
    if stream is None or transport is None or transport.is_closing():
        return
    while (message := stream.next_message()) is not None:
        if self._room is None:
            transport.write(framed(message))


def _ring_always(self: PlainStream) -> None:
    """Take answers to be written whatever room there is."""
    if not self._is_due:
        self._is_due = True
        self._loop.call_soon(self._write_answers)


def _hear_no_end(self: PlainStream, exc: Exception | None) -> None:
    """Let the stream wait on for a client that has gone."""
    self._transport = None
    self.resume_writing()
    self._on_end(self)


PLAIN: Final = (
    Bug(
        name="frames-behind-passed-over",
        does="a client takes only the first of the messages that it reads together",
        breaks=("WAT",),
        repeats="rule 46, scenario 55",
        patches=((_Connection, "_take_frames", _take_the_first),),
        finder=Served(net=_IN_PIECES),
    ),
    Bug(
        name="answers-without-room",
        does="a member throws answers away while their client takes no more",
        breaks=("WAT",),
        repeats="scenario 56 (slow watchers)",
        patches=(
            (PlainStream, "_ring", _ring_always),
            (PlainStream, "_write_answers", _write_to_nobody),
        ),
        finder=Served(
            rate=400,
            faults=("client-pause",),
            net=dataclasses.replace(_IN_PIECES, latency_us=20_000),
        ),
    ),
    Bug(
        name="end-unheard",
        does="a member goes on serving a plain stream whose connection has ended",
        breaks=("LIV",),
        repeats="RELIABILITY.md section 5 (half-open connections)",
        patches=((PlainStream, "connection_lost", _hear_no_end),),
        finder=Served(net=_IN_PIECES),
    ),
)
