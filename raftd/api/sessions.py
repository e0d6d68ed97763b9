"""Sessions at the doors: open, close; their streams are in ``stream``.

Rules: a session is named together with its 16-byte key, or not at all. Only the key's
hash goes into the log.

Source: SEMANTICS.md section 1; DESIGN.md section 7.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from raftd.api.calls import Call, Direct
from raftd.api.checks import check_id, check_text, invalid
from raftd.api.leases import check_ttl
from raftd.api.limits import DoorLimits
from raftd.node.service import NodeService, WriteCall
from raftd.statemachine.schema.base import Refusal
from raftd.statemachine.schema.sessions import (
    CloseSession,
    OpenSession,
    SessionOpened,
)
from raftpb.v1 import sessions_pb2

__all__ = ["SessionCalls", "check_session_key"]

_KEY_BYTES: Final = 16
_TTL_MS_DEFAULT: Final = 10_000


class SessionCalls:
    """The unary calls of SessionService."""

    def __init__(self, limits: DoorLimits) -> None:
        self._limits: Final = limits

    def calls(self) -> Sequence[Call]:
        """Return the entries of the table."""
        return (
            Direct("open_session", self._open),
            Direct("close_session", _close),
        )

    async def _open(
        self,
        node: NodeService,
        request: sessions_pb2.OpenSessionRequest,
        timeout_s: float | None,
    ) -> sessions_pb2.OpenSessionResponse | Refusal:
        ttl_ms = request.ttl_ms or _TTL_MS_DEFAULT
        key = request.session_key
        refusal = (
            check_session_key(key)
            or check_ttl(ttl_ms, self._limits)
            or check_text("the claimant", request.claimant, self._limits)
        )
        if refusal is not None:
            return refusal
        key_hash = hashlib.blake2b(key, digest_size=_KEY_BYTES).digest()
        command = OpenSession(key_hash, ttl_ms, request.claimant)
        answered = await node.write(WriteCall(command=command), timeout_s)
        result = answered.answer
        if isinstance(result, Refusal):
            return result
        assert isinstance(result, SessionOpened)
        return sessions_pb2.OpenSessionResponse(
            session_id=result.session, ttl_ms=result.ttl_ms, is_new=result.is_new
        )


def check_session_key(key: bytes) -> Refusal | None:
    """Refuse what cannot be a session's key."""
    if len(key) == _KEY_BYTES:
        return None
    return invalid(
        f"a session key has {_KEY_BYTES} bytes, not {len(key)}",
        limit=str(_KEY_BYTES),
        size=str(len(key)),
    )


async def _close(
    node: NodeService,
    request: sessions_pb2.CloseSessionRequest,
    timeout_s: float | None,
) -> sessions_pb2.CloseSessionResponse | Refusal:
    session, key = request.session_id, request.session_key
    refusal = check_id("session id", session) or check_session_key(key)
    if refusal is not None:
        return refusal
    call = WriteCall(command=CloseSession(session), session=session, session_key=key)
    answered = await node.write(call, timeout_s)
    if isinstance(answered.answer, Refusal):
        return answered.answer
    return sessions_pb2.CloseSessionResponse()
