"""Every codec of msgpack that reads bytes from another process, or from a file.

A codec is a pair of functions, the values it is for, and what it may raise; anything
else that a decoder raises ends a connection, or a node, without a word about why.
``test_codecs`` gives them good and bad bytes; ``test_coverage`` keeps the list whole.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from raftd.consensus.changes import decode_change, encode_change
from raftd.consensus.types import ConfigChange
from raftd.node.peer_calls import PeerCall, PeerReply, decode_call, decode_reply
from raftd.node.peer_calls import encode as encode_call
from raftd.node.roster import Roster, RosterError, decode_roster, encode_roster
from raftd.statemachine.meta import Stamps, decode_stamps
from raftd.statemachine.schema.base import Fence, Refusal
from raftd.statemachine.schema.entry import (
    AnyCommand,
    AnyResult,
    Batch,
    Request,
    decode_answer,
    decode_batch,
    encode_answer,
    encode_batch,
    seal,
)
from raftd.storage.chunks import Row, pack, unpack
from raftd.storage.errors import DamagedFiles
from raftd.storage.files import decode_meta, encode_meta
from raftd.storage.identity import Identity
from raftd.storage.log_rows import CutPoint, LogHead
from raftd.storage.state_rows import BaseMark, CheckpointMark, StagingMark
from raftd.transport.frames import Frame, FrameError, Frames
from raftd.transport.frames import encode as encode_frame
from tests.fuzz.structs import values_of

__all__ = ["BATCHES", "CODECS", "Codec", "encode_sealed"]


@dataclasses.dataclass(frozen=True)
class Codec:
    """Attributes: see the module.

    Attributes:
        name: ``module.function`` of the decoder under raftd/ or client/.
        refuses: What the decoder's own documentation says it raises.
        is_list: A value is a list of things.
    """

    name: str
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    values: st.SearchStrategy[Any]
    refuses: tuple[type[Exception], ...]
    is_list: bool = False


def _frames(data: bytes) -> Any:
    found = list(Frames().feed(data))
    return found[0] if len(found) == 1 else found


def _meta(kind: Any) -> Codec:
    path, name = Path("log.db"), kind.__name__
    return Codec(
        f"storage.files.decode_meta({name})",
        lambda data: decode_meta(path, {name: data}, name, kind),
        lambda value: encode_meta(name, value)[1],
        values_of(kind),
        (DamagedFiles,),
    )


_COMMANDS: Final = values_of(AnyCommand)
_FENCES: Final = st.lists(values_of(Fence), max_size=2)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    session, number, acknowledged = draw(st.tuples(*[st.integers(0, 1 << 40)] * 3))
    command = draw(_COMMANDS)
    fences = tuple(draw(_FENCES))
    sealed = seal(session, number, acknowledged, command, fences)
    return msgspec.msgpack.decode(sealed, type=Request)


BATCHES: Final = st.builds(
    Batch,
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 60),
    st.lists(st.integers(0, 1 << 60), max_size=3).map(tuple),
    st.lists(_requests(), max_size=3).map(tuple),
)


def encode_sealed(batch: Batch) -> bytes:
    """Encode an entry as a leader does, from requests that were sealed before."""
    sealed = [
        seal(it.session, it.number, it.acknowledged, it.command, it.fences)
        for it in batch.requests
    ]
    return encode_batch(batch.now_ms, batch.wall_ms, batch.renewals, sealed)


_DECODE: Final = (msgspec.DecodeError,)

CODECS: Final[tuple[Codec, ...]] = (
    Codec(
        "transport.frames.Frames.feed",
        _frames,
        encode_frame,
        values_of(Frame),
        (FrameError,),
    ),
    Codec(
        "node.peer_calls.decode_call",
        decode_call,
        encode_call,
        values_of(PeerCall),
        (msgspec.MsgspecError,),
    ),
    Codec(
        "node.peer_calls.decode_reply",
        decode_reply,
        encode_call,
        values_of(PeerReply),
        (msgspec.MsgspecError,),
    ),
    Codec(
        "node.roster.decode_roster",
        decode_roster,
        encode_roster,
        values_of(Roster),
        (RosterError,),
    ),
    Codec(
        "consensus.changes.decode_change",
        decode_change,
        encode_change,
        values_of(ConfigChange),
        _DECODE,
    ),
    Codec(
        "statemachine.schema.entry.decode_batch",
        decode_batch,
        msgspec.msgpack.encode,
        BATCHES,
        _DECODE,
    ),
    Codec(
        "statemachine.schema.entry.decode_answer",
        decode_answer,
        encode_answer,
        values_of(AnyResult | Refusal),
        _DECODE,
    ),
    Codec(
        "statemachine.meta.decode_stamps",
        decode_stamps,
        msgspec.msgpack.encode,
        values_of(Stamps),
        _DECODE,
    ),
    Codec(
        "storage.chunks.unpack",
        unpack,
        lambda rows: next(pack(rows)),
        st.lists(values_of(Row), min_size=1, max_size=5),
        _DECODE,
        is_list=True,
    ),
    _meta(Identity),
    _meta(LogHead),
    _meta(CutPoint),
    _meta(BaseMark),
    _meta(CheckpointMark),
    _meta(StagingMark),
)
