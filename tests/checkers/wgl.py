"""Is there an order of these operations that a single copy could have had?

The search of Wing and Gong as Lowe made it: begins and ends in one linked list by time.
Take the first begin that the model allows, lift it out with its end, go on from the
front; on meeting an end first, put the last one back and try the next. A cache of (set
of operations taken, state) cuts off what was tried before.

An operation without an end may take effect at any time after its begin, or never. At
equal times begins come before ends.

This is the independent judge: it knows no revision and reads no log. It is given small
parts (one key, one lock), as the search is exponential at worst; parts beyond the
limits, and searches beyond theirs, are undecided.

Source: Wing and Gong 1993, Lowe 2017; RELIABILITY.md section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from tests.checkers.verdict import Undecided

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["OPS_MAX", "STEPS_MAX", "UNKNOWN_MAX", "Call", "Model", "find_conflict"]

OPS_MAX: Final = 300
"""Operations of one part."""
UNKNOWN_MAX: Final = 10
"""Operations without an end in one part."""
STEPS_MAX: Final = 2_000_000
"""Tries of one search; some seconds."""


class Call(msgspec.Struct, frozen=True):
    """One operation as the search sees it.

    Attributes:
        id: Of the operation; 0 = one of the model's own, such as the end of a lease.
        begin_us: From then on it may take effect.
        end_us: By then it has; None = it may be later, or never.
        what: For the model.
    """

    id: int
    begin_us: int
    end_us: int | None
    what: Any


class Model(Protocol):
    """What a single copy does."""

    @property
    def initial(self) -> Hashable:
        """The state before everything."""

    def step(self, state: Any, what: Any) -> Hashable | None:
        """Return the state after an operation; None = it cannot happen in ``state``."""


class _Node:
    """A begin or an end in the linked list; a begin knows its end."""

    __slots__ = ("bit", "call", "end", "is_begin", "next", "previous")

    def __init__(self, call: Call | None, bit: int, *, is_begin: bool) -> None:
        self.call: Final = call
        self.bit: Final = bit
        self.is_begin: Final = is_begin
        self.end: _Node | None = None
        self.next: _Node | None = None
        self.previous: _Node | None = None


def find_conflict(
    model: Model, calls: Sequence[Call], *, steps_max: int = STEPS_MAX
) -> tuple[int, ...] | None:
    """Search for an order that the model allows.

    Args:
        model: What a single copy does.
        calls: All operations of the part.
        steps_max: How many tries are made.

    Returns:
        None if there is one. Otherwise the ids of operations in conflict: the one that
        fits nowhere behind the longest order found, then the last one of that order.

    Raises:
        Undecided: The search took too long.
    """
    must = 0
    for bit, each in enumerate(calls):
        if each.end_us is not None:
            must |= 1 << bit
    head = _linked(calls)
    state: Any = model.initial
    taken = 0
    trail: list[tuple[_Node, Any]] = []
    seen: set[tuple[int, Any]] = {(0, state)}
    best: tuple[int, ...] = ()
    best_length = -1
    node = head.next
    steps = 0
    while taken & must != must:
        steps += 1
        if steps > steps_max:
            raise Undecided(f"no answer after {steps_max} tries")
        if node is not None and node.is_begin:
            call = node.call
            assert call is not None
            after = model.step(state, call.what)
            bits = taken | 1 << node.bit
            if after is not None and (bits, after) not in seen:
                seen.add((bits, after))
                trail.append((node, state))
                state, taken = after, bits
                _lift(node)
                node = head.next
            else:
                node = node.next
            continue
        # An end, or the end of the list: nobody else could come before it.
        if len(trail) > best_length:
            best_length = len(trail)
            best = _conflict(node, trail)
        if not trail:
            return best
        back, state = trail.pop()
        taken &= ~(1 << back.bit)
        _put_back(back)
        node = back.next
    return None


def _linked(calls: Sequence[Call]) -> _Node:
    """Return the head of the list of begins and ends."""
    order: list[tuple[int, int, int, _Node]] = []
    for bit, call in enumerate(calls):
        begin = _Node(call, bit, is_begin=True)
        order.append((call.begin_us, 0, bit, begin))
        if call.end_us is not None:
            begin.end = _Node(call, bit, is_begin=False)
            order.append((call.end_us, 1, bit, begin.end))
    order.sort(key=lambda each: each[:3])
    head = last = _Node(None, 0, is_begin=False)
    for _, _, _, node in order:
        last.next, node.previous = node, last
        last = node
    return head


def _lift(begin: _Node) -> None:
    for node in (begin, begin.end):
        if node is not None:
            assert node.previous is not None
            node.previous.next = node.next
            if node.next is not None:
                node.next.previous = node.previous


def _put_back(begin: _Node) -> None:
    for node in (begin.end, begin):
        if node is not None:
            assert node.previous is not None
            node.previous.next = node
            if node.next is not None:
                node.next.previous = node


def _conflict(end: _Node | None, trail: list[tuple[_Node, Any]]) -> tuple[int, ...]:
    found: list[int] = []
    if end is not None and end.call is not None:
        found.append(end.call.id)
    for node, _ in reversed(trail):
        assert node.call is not None
        if node.call.id:
            found.append(node.call.id)
            break
    return tuple(found)
