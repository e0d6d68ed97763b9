"""A plain stream is refused in order, however early in it that is."""

from __future__ import annotations

import pytest

from raftd.api.server import ApiServer
from tests.api.doors import BEGINNING
from tests.api.wire import Wire

_HUGE = (1 << 31).to_bytes(4, "big")


async def test_a_frame_too_long_right_behind_the_hello_is_refused_and_nothing_else(
    server: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with await Wire.dial(server.port) as wire:
        await wire.write(BEGINNING + _HUGE)
        await wire.greeted()
        *_, last = await wire.answers()
        assert last.end.refusal.reason == "TOO_LARGE"
    assert not caplog.records, "an answer behind the end is no failure of the member"
