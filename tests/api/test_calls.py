"""The table of calls, held against the generated API and the log's vocabulary."""

from __future__ import annotations

import typing
from typing import Any

import pytest

from raftd.api.calls import Write, fill_guarded, guard_query
from raftd.api.limits import DEFAULT_DOOR_LIMITS
from raftd.api.registry import Table, service_names
from raftd.statemachine.machine import Machine
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import AnyResult
from raftd.statemachine.schema.kv import KeyPut
from raftpb.v1 import sessions_pb2

TABLE = Table(DEFAULT_DOOR_LIMITS)
WRITES = [
    (field, call)
    for field, call in TABLE.stream_calls.items()
    if isinstance(call, Write)
]


def result_of(call: Write) -> Any:
    """Make the emptiest result that the fill of a write takes."""
    hints = typing.get_type_hints(call.fill)
    kinds = typing.get_args(hints["result"]) or (hints["result"],)
    kind = kinds[0]
    if kind is object:
        return None
    assert kind in typing.get_args(AnyResult), f"{kind} is in no log"
    empty = {int: 0, bool: False, bytes: b"", str: ""}
    hints = typing.get_type_hints(kind)
    return kind(*(empty.get(hints[name], ()) for name in kind.__struct_fields__))


def test_every_service_has_methods_in_the_table() -> None:
    assert {method.service for method in TABLE.methods} == set(service_names())


@pytest.mark.parametrize(("field", "call"), WRITES)
def test_the_emptiest_answer_is_still_an_answer_of_its_kind(
    field: str, call: Write
) -> None:
    """A reply without a body would say nothing of which request it answers."""
    if field == "put_key":
        result: Any = KeyPut(0)
    elif field == "delete_key":
        result = result_of(call)
        result = type(result)(0)
    else:
        result = result_of(call)
    reply = sessions_pb2.StreamReply()
    assert call.fill(getattr(reply, field), result, Machine()) is None
    assert reply.WhichOneof("body") == field


def test_a_bug_in_an_answer_is_a_refusal_and_not_the_end_of_the_node() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    broken: Any = fail
    write = Write("put_key", broken, broken)
    for refusal in (
        fill_guarded(write, None, None, Machine()),
        guard_query("get_key", broken)(Machine()),
    ):
        assert isinstance(refusal, Refusal)
        assert refusal.reason is Reason.INTERNAL
        assert "oops" in refusal.sentence
