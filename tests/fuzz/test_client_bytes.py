"""What a client, and the cluster for development, read that others wrote.

Source: ERRORS.md (a status that is not ours is an unknown outcome); CLI.md.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final, cast

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import strategies as st

from raftclient import OutcomeUnknown, RaftError
from raftclient._plain import _Connection
from raftclient._status import error_from_refusal, error_from_rpc, is_retryable
from raftclient._wire import decode_request, encode_request
from raftd.server.dev import DevError, choose_ports
from raftpb.v1 import common_pb2, sessions_pb2
from tests.api.wire import GREETING, framed
from tests.fuzz.mutation import bad
from tests.fuzz.profiles import fuzzed
from tests.fuzz.protos import messages_of
from tests.fuzz.structs import TEXTS
from tests.fuzz.test_links import Wire, feed

REASONS: Final = st.one_of(st.sampled_from(["FENCED", "NO_LEADER", "INTERNAL"]), TEXTS)


@st.composite
def _statuses(draw: st.DrawFn) -> bytes:
    """Return a rich status as a member, or anybody, may send it."""
    info = error_details_pb2.ErrorInfo(
        reason=draw(REASONS),
        domain=draw(st.sampled_from(["raftd", "raftd", "", "other"])),
        metadata=draw(st.dictionaries(TEXTS, TEXTS, max_size=3)),
    )
    packed = any_pb2.Any()
    packed.Pack(info)
    status = status_pb2.Status(code=draw(st.integers(-1, 20)), details=[packed])
    data: bytes = status.SerializeToString()
    return data


class _Failed(grpc.RpcError):
    """A call that failed with this status."""

    def __init__(self, details: bytes) -> None:
        super().__init__()
        self._details = details

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "why"

    def trailing_metadata(self) -> Any:
        return [("grpc-status-details-bin", self._details)]


@fuzzed(200, details=st.one_of(_statuses(), bad(_statuses())))
def test_any_status_is_an_error_of_ours(details: bytes) -> None:
    error = error_from_rpc(_Failed(details))
    assert isinstance(error, RaftError)
    assert str(error)
    is_retryable(error)


def test_details_that_cannot_be_read_say_nothing_of_the_outcome() -> None:
    assert isinstance(error_from_rpc(_Failed(b"\xff\xff")), OutcomeUnknown)


@fuzzed(100, refusal=messages_of(common_pb2.Refusal))
def test_any_refusal_of_a_stream_is_an_error_of_ours(refusal: Any) -> None:
    error = error_from_refusal(refusal)
    assert isinstance(error, RaftError)
    is_retryable(error)


@fuzzed(100, request=messages_of(sessions_pb2.StreamRequest))
def test_a_request_is_read_back_from_the_bytes_that_are_sent_again(
    request: Any,
) -> None:
    wire = encode_request(request)
    assert decode_request(wire) == request
    both = sessions_pb2.StreamSessionRequest.FromString(wire + wire)
    assert list(both.requests) == [request, request]


ANSWERS: Final = st.lists(
    messages_of(sessions_pb2.StreamSessionResponse).map(
        lambda message: framed(message.SerializeToString())
    ),
    max_size=3,
).map(lambda frames: GREETING + b"".join(frames))


@fuzzed(
    50,
    data=st.one_of(bad(ANSWERS), ANSWERS, bad(ANSWERS).map(lambda it: GREETING + it)),
    cuts=st.lists(st.integers(1, 50), max_size=8),
)
def test_whatever_answers_a_plain_stream_is_messages_or_ends_it(
    data: bytes, cuts: list[int]
) -> None:
    async def answer() -> None:
        connection, wire = _Connection(), Wire()
        connection.connection_made(cast("asyncio.Transport", wire))
        feed(connection, cast("Any", wire), data, cuts)
        start = data[: len(GREETING)]
        assert connection.speaks_otherwise is not GREETING.startswith(start)
        assert connection.is_greeted is (start == GREETING)
        assert connection.is_over is wire.is_over
        connection.connection_lost(None)
        assert connection.is_over
        for message in connection.messages:
            assert framed(message.SerializeToString())

    asyncio.run(answer())


PORTS: Final = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"[[70000, -1, 0], [1, 2, 3]]",
            b"[[1, 2, 99999999999999999999]]",
            b"[" * 5000,
            b'["\xff"]',
            b"[[1, 2]]",
            b"[]",
            b"{}",
        ]
    ),
)


@fuzzed(60, content=PORTS, nodes=st.integers(1, 3))
def test_kept_ports_are_taken_or_refused(
    tmp_path: Path, content: bytes, nodes: int
) -> None:
    (tmp_path / "ports.json").write_bytes(content)
    with contextlib.suppress(DevError):
        choose_ports(nodes, tmp_path, None)
