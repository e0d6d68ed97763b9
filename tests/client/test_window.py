"""The numbers of a session: order, room, what is sent again, what is acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from raftclient import InvalidRequest, LeaseLost, LimitExceeded, _window
from raftclient._clock import boottime_s
from raftclient._held import Held
from raftclient._window import (
    MESSAGE_REQUESTS_MAX,
    REQUEST_BYTES_MAX,
    SPAN_MAX,
    Call,
    Window,
)
from raftpb.v1.sessions_pb2 import StreamReply, StreamRequest, StreamSessionRequest

LATE_S = 1000.0


def put_call(
    key: str, *, deadline_s: float = LATE_S, waits: bool = False, value: bytes = b""
) -> Call:
    request = StreamRequest()
    request.put_key.key = key.encode()
    request.put_key.value = value
    future = asyncio.get_running_loop().create_future()
    return Call(request, future, deadline_s, is_write=True, waits=waits)


def sent(window: Window) -> StreamSessionRequest:
    message = window.next_message()
    return StreamSessionRequest.FromString(message or b"")


def keys(message: StreamSessionRequest) -> list[str]:
    return [request.put_key.key.decode() for request in message.requests]


async def test_writes_are_numbered_from_one_and_go_out_as_one_message() -> None:
    window = Window()
    for key in "abc":
        window.add(put_call(key))
    message = sent(window)
    assert keys(message) == ["a", "b", "c"]
    assert [request.number for request in message.requests] == [1, 2, 3]
    assert [request.tag for request in message.requests] == [1, 2, 3]
    assert window.next_message() is None


async def test_a_read_takes_a_tag_and_no_number() -> None:
    window = Window()
    request = StreamRequest()
    request.get_key.key = b"a"
    future = asyncio.get_running_loop().create_future()
    window.add(Call(request, future, LATE_S, is_write=False))
    window.add(put_call("b"))
    read, write = sent(window).requests
    assert (read.tag, read.number) == (1, 0)
    assert (write.tag, write.number) == (2, 2)


async def test_acknowledged_is_below_the_oldest_unanswered_number() -> None:
    window = Window()
    for key in "abcd":
        window.add(put_call(key))
    sent(window)
    for tag in (1, 3, 4):
        assert window.take(tag) is not None
    window.settle()
    assert window.acknowledged == 1
    window.take(2)
    window.settle()
    assert window.acknowledged == 4
    window.add(put_call("e"))
    assert sent(window).acknowledged == 4
    window.add(put_call("f"))
    assert sent(window).acknowledged == 0, "said once is enough"


async def test_a_new_stream_gets_all_unanswered_in_order_before_new_ones() -> None:
    window = Window()
    for key in "abc":
        window.add(put_call(key))
    before = sent(window)
    window.take(2)
    window.settle()
    window.restart()
    window.add(put_call("d"))
    again = sent(window)
    assert keys(again) == ["a", "c", "d"]
    assert again.requests[0] == before.requests[0]
    assert [request.number for request in again.requests] == [1, 3, 4]


async def test_a_message_holds_so_many_requests_and_so_many_bytes() -> None:
    window = Window()
    for number in range(MESSAGE_REQUESTS_MAX + 5):
        window.add(put_call(str(number)))
    assert len(sent(window).requests) == MESSAGE_REQUESTS_MAX
    assert len(sent(window).requests) == 5
    for _ in range(3):
        window.add(put_call("large", value=bytes(700_000)))
    assert [len(sent(window).requests) for _ in range(3)] == [1, 1, 1]


async def test_beyond_the_span_calls_wait_for_room() -> None:
    window = Window()
    for number in range(SPAN_MAX + 3):
        window.add(put_call(str(number)))
    tags = []
    while message := window.next_message():
        tags += [r.tag for r in StreamSessionRequest.FromString(message).requests]
    assert tags == list(range(1, SPAN_MAX + 1))
    window.take(2)
    window.settle()
    assert window.next_message() is None, "the oldest number holds the room"
    window.take(1)
    window.settle()
    assert keys(sent(window)) == [str(SPAN_MAX), str(SPAN_MAX + 1)]


async def test_it_tells_whether_the_member_owed_nothing_before() -> None:
    window = Window()
    assert window.add(put_call("a"))
    assert not window.add(put_call("b"))
    for tag in (1, 2):
        assert window.take(tag) is not None
    window.settle()
    assert window.add(put_call("c"))


async def test_of_calls_without_room_only_so_many_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_window, "SPAN_MAX", 1)
    monkeypatch.setattr(_window, "BACKLOG_MAX", 2)
    window = Window()
    calls = [put_call(key) for key in "abcd"]
    for call in calls:
        window.add(call)
    with pytest.raises(LimitExceeded):
        await calls[3].future
    assert window.calls() == calls[:3]


async def test_a_long_wait_at_the_lower_end_is_noticed_before_the_room_is_gone() -> (
    None
):
    window = Window()
    window.add(put_call("lock", waits=True))
    for number in range(SPAN_MAX // 2 - 1):
        assert not window.is_held_up()
        window.add(put_call(str(number)))
    assert window.is_held_up()


async def test_an_ordinary_call_at_the_lower_end_holds_nothing_up() -> None:
    window = Window()
    for number in range(SPAN_MAX):
        window.add(put_call(str(number)))
    assert not window.is_held_up()


async def test_what_was_never_sent_is_given_up_and_leaves_a_hole() -> None:
    window = Window()
    late, fresh = put_call("a", deadline_s=1.0), put_call("b")
    window.add(late)
    window.add(fresh)
    given_up, earliest_s = window.give_up(2.0)
    assert given_up == [late]
    assert not late.may_be_applied
    assert earliest_s == LATE_S
    assert [request.number for request in sent(window).requests] == [2]


async def test_what_was_sent_stays_in_the_window_after_its_deadline() -> None:
    window = Window()
    late = put_call("a", deadline_s=1.0)
    window.add(late)
    sent(window)
    given_up, _ = window.give_up(2.0)
    assert given_up == [late]
    assert late.may_be_applied
    window.restart()
    assert keys(sent(window)) == ["a"]


async def test_a_call_cancelled_before_it_was_sent_is_not_sent() -> None:
    window = Window()
    gone = put_call("a")
    window.add(gone)
    window.add(put_call("b"))
    gone.future.cancel()
    assert keys(sent(window)) == ["b"]
    window.give_up(0.0)
    window.take(2)
    window.settle()
    assert window.acknowledged == 2


async def test_an_answer_that_nobody_waits_for_goes_to_the_orphanage() -> None:
    answers: list[StreamReply] = []
    call = put_call("a")
    call.orphan = answers.append
    call.future.cancel()
    reply = StreamReply(tag=1)
    call.answer(reply)
    assert answers == [reply]


async def test_what_no_member_would_take_is_refused_and_takes_no_number() -> None:
    window = Window()
    big = put_call("big", value=bytes(REQUEST_BYTES_MAX))
    window.add(big)
    window.add(put_call("small"))
    with pytest.raises(InvalidRequest, match="over the limit") as caught:
        await big.future
    assert (caught.value.reason, caught.value.applied) == ("TOO_LARGE", "no")
    message = sent(window)
    assert keys(message) == ["small"]
    assert message.requests[0].number == 1


async def test_an_answer_behind_the_loss_of_its_claim_comes_too_late() -> None:
    """A process that stood still reads it before it looks at the clock."""
    given_back: list[StreamReply] = []
    held = Held("the session", 1, ttl_ms=1000, from_s=boottime_s() - 10)
    call = put_call("k")
    call.held, call.orphan = held, given_back.append
    reply = StreamReply(tag=1)
    call.answer(reply)
    with pytest.raises(LeaseLost, match="the session was not renewed in time"):
        await call.future
    assert given_back == [reply]
