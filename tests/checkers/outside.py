"""Outside the cluster: guarded resources, and what clients believe of their claims.

* A guarded resource accepts no token below one it has seen. Refused stale ones are what
  it is for, and only counted.
* Two clients never believe at the same true time that an exclusive claim is theirs, as
  long as clocks run within the bound: a client stops believing by its own clock, before
  anybody else can be let in. A belief ends before the claim is given back.

Source: RELIABILITY.md section 4 (Outside, client belief), codes FEN, LSE, MEX.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.checkers.verdict import Illegal, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.records import Belief, Guarded

__all__ = ["check_outside"]

_EXCLUSIVE, _SHARED = 1, 2


def check_outside(history: History) -> Verdict:
    """Judge guarded writes and beliefs."""
    return judged("outside", "guarded writes and beliefs", _check, history)


def _check(history: History) -> int:
    highest: dict[str, Guarded] = {}
    for each in history.guarded:
        before = highest.get(each.resource)
        if before is not None and each.accepted and each.token < before.token:
            raise Illegal(
                f"{each.resource} took token {each.token} of {each.client} at"
                f" {each.at_us} us, after {before.token} of {before.client}"
            )
        if each.accepted and (before is None or each.token > before.token):
            highest[each.resource] = each
    claims: defaultdict[tuple[str, str], list[Belief]] = defaultdict(list)
    for belief in history.beliefs:
        claims[belief.what, belief.name].append(belief)
    for beliefs in claims.values():
        _check_claim(beliefs)
    return len(history.guarded) + len(history.beliefs)


def _check_claim(beliefs: list[Belief]) -> None:
    """Go through the beliefs by their begin, with those that still last."""
    lasting: list[Belief] = []
    for belief in sorted(beliefs, key=lambda each: (each.from_us, each.until_us)):
        lasting = [each for each in lasting if each.until_us > belief.from_us]
        others = {each.token: each for each in lasting if each.token != belief.token}
        for other in others.values():
            if not _may_share(belief, other):
                raise Illegal(_both(belief, other))
        if belief.mode > _SHARED and len(others) >= belief.limit:
            other = next(iter(others.values()))
            raise Illegal(f"{_both(belief, other)}, over its limit of {belief.limit}")
        lasting.append(belief)


def _may_share(one: Belief, other: Belief) -> bool:
    return one.mode == other.mode != _EXCLUSIVE


def _both(belief: Belief, other: Belief) -> str:
    return (
        f"{belief.client} believes from {belief.from_us} us on that {belief.what}"
        f" {belief.name} is its own (token {belief.token}), and {other.client} until"
        f" {other.until_us} us (token {other.token})"
    )
