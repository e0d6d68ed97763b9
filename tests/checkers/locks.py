"""Locks, judged in the order of the log: the automaton of each name.

* Never two exclusive holders, never one with shared ones, never more than the limit.
* Tokens rise per name, in the log and in the time of the clients.
* First come, first served; a wait ends once, for a reason, and in time; nobody is let
  in on a dead lease; a free lock is given at once.
* A token that is not current releases nothing and passes no fence.

Source: RELIABILITY.md section 4, codes MEX, FEN, LSE; SEMANTICS.md section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from tests.checkers.claim_replay import ClaimReplay, Party, Wait
from tests.checkers.finals import replay_with_finals
from tests.checkers.places import Places, describe
from tests.checkers.verdict import Illegal, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.lease_replay import Timer
    from tests.checkers.parts import Applied, Fields
    from tests.checkers.records import Entry, Op

__all__ = ["LockReplay", "check_locks", "check_token_times"]

_EXCLUSIVE: Final = 1
_SHARED: Final = 2
_OPEN: Final = 1
_RANK: Final = 5


class _Holder(msgspec.Struct):
    party: Party
    kind: tuple[int, int]
    delay_ms: int
    who: str
    op: int


def check_locks(history: History) -> Verdict:
    """Judge every lock."""
    return judged("locks", "grants of locks", _check, history)


def _check(history: History) -> int:
    replay = LockReplay(Places(history))
    replay_with_finals(
        history, replay.entry, replay.check_final, lambda final: final.locks
    )
    check_token_times(history, "acquire", "token")
    return replay.grants


class LockReplay(ClaimReplay):
    """All locks, after the entries so far."""

    def __init__(self, places: Places) -> None:
        super().__init__(places, _RANK, "acquire", "token")
        self.grants = 0
        self._holders: Final[dict[str, dict[int, _Holder]]] = {}
        self._closed_until_ms: Final[dict[str, int]] = {}

    # --- requests ------------------------------------------------------------------

    def request(self, entry: Entry, applied: Applied) -> None:
        """Take in a request about locks."""
        self.check_fences(entry, applied, "LOCK")
        match applied.name:
            case "acquire":
                self._acquire(entry, applied)
            case "cancel_acquire" if applied.outcome == "ok":
                self._cancel(entry, applied)
            case "release_lock":
                self._release(entry, applied, applied.args)
            case "break_lock" if applied.outcome == "ok":
                self._break(entry, applied)
            case "txn" if applied.outcome == "ok":
                self.check_compares(entry, applied, "LOCK_HELD")
                branch = "then" if applied.answer["has_succeeded"] else "orelse"
                for each in applied.args.get(branch, []):
                    if each["op"] == "release_lock":
                        self._release(entry, applied, each)
            case _:
                pass

    def _acquire(self, entry: Entry, applied: Applied) -> None:
        who, op = self.places.name(entry, applied), self.places.op_of(applied)
        if not self.check_alive(who, op, applied):
            return
        args = applied.args
        name, party = args["name"], (args["lease"], args["claimant"])
        kind, delay_ms = _kind_of(args), args.get("delay_ms", 0)
        mine = self._token_of(name, party)
        is_free = not self.line(name) and self._may_enter(name, kind)
        match applied.outcome:
            case "ok" if mine:
                if applied.answer["token"] != mine:
                    raise Illegal(f"{who} holds token {mine} and was given another", op)
            case "ok":
                if not is_free:
                    raise Illegal(*self._in_the_way(name, who, op))
                holder = _Holder(party, kind, delay_ms, who, op)
                self._grant(name, applied.answer["token"], holder)
            case "pending":
                if is_free or mine:
                    raise Illegal(f"{who} has to wait, though nobody is in the way", op)
                wait = Wait(applied.ticket, name, party, who, op, kind, delay_ms)
                self.join(wait, args.get("wait_ms", 0))
            case "refused" if applied.error == "LOCK_HELD":
                if is_free or mine:
                    raise Illegal(f"{who} was refused, though nobody is in the way", op)
            case _:
                pass

    def _cancel(self, entry: Entry, applied: Applied) -> None:
        name = applied.args["name"]
        party = (applied.args["lease"], applied.args["claimant"])
        waits = [wait for wait in self.line(name) if wait.party == party]
        if bool(waits) != applied.answer["was_waiting"]:
            raise Illegal(
                f"{self.places.name(entry, applied)} answered"
                f" {applied.answer['was_waiting']}, with {len(waits)} waits in line",
                self.places.op_of(applied),
            )
        for wait in waits:
            self.leave(entry, wait, {"LOCK_HELD"})
        token = self._token_of(name, party)
        if token:
            self._let_go(name, token)

    def _release(self, entry: Entry, applied: Applied, args: Fields) -> None:
        name, token = args["name"], args["token"]
        is_held = self.holds(name, token)
        if is_held == (applied.outcome == "ok"):
            if is_held:
                self._let_go(name, token)
            return
        if is_held and applied.error not in {"FENCED", "NOT_FOUND", "NOT_HOLDER"}:
            return
        who = self.places.name(entry, applied)
        was = "is current" if is_held else "is not current"
        raise Illegal(
            f"{who} was {applied.outcome}, though token {token} of {name} {was}",
            self.places.op_of(applied),
        )

    def _break(self, entry: Entry, applied: Applied) -> None:
        name = applied.args["name"]
        tokens = list(self._holders.get(name, ()))
        if applied.answer["holders"] != len(tokens):
            raise Illegal(
                f"{self.places.name(entry, applied)} took it from"
                f" {applied.answer['holders']} holders of {len(tokens)}",
                self.places.op_of(applied),
            )
        for token in tokens:
            self._let_go(name, token, is_loss=True)

    # --- changes -------------------------------------------------------------------

    def lease_ended(self, entry: Entry, lease: int, *, is_loss: bool) -> None:
        """Take the holders and waiters of a lease out."""
        self.drop_waits(entry, lease)
        for name, holders in list(self._holders.items()):
            for token, holder in list(holders.items()):
                if holder.party[0] == lease:
                    self._let_go(name, token, is_loss=is_loss)

    def fire_other(self, entry: Entry, timer: Timer) -> None:
        """Open a closed lock."""
        name = str(timer[3])
        if self._closed_until_ms.get(name) == timer[0]:
            del self._closed_until_ms[name]
            self.touched[name] = None

    def promote(self, entry: Entry, name: str) -> None:
        """Let in the first of the line as long as they may enter."""
        while (line := self.line(name)) and self._may_enter(name, line[0].kind):
            first = line[0]
            if first.party[0] not in self.leases:
                raise Illegal(f"{first.who} still waits on a dead lease", first.op)
            last, token = self.let_in(entry, first)
            holder = _Holder(last.party, last.kind, last.delay_ms, last.who, last.op)
            self._grant(name, token, holder)

    def _grant(self, name: str, token: int, holder: _Holder) -> None:
        self.rise(name, token, holder.who, holder.op)
        self._holders.setdefault(name, {})[token] = holder
        self.grants += 1

    def _let_go(self, name: str, token: int, *, is_loss: bool = False) -> None:
        holders = self._holders[name]
        holder = holders.pop(token)
        if not holders:
            del self._holders[name]
        if is_loss and holder.delay_ms:
            until_ms = self.now_ms + holder.delay_ms
            until_ms = max(until_ms, self._closed_until_ms.get(name, 0))
            self._closed_until_ms[name] = until_ms
            self.arm((until_ms, _RANK, _OPEN, name))
        self.touched[name] = None

    # --- questions -----------------------------------------------------------------

    def holds(self, name: str, token: int) -> bool:
        """Tell whether a token is current."""
        return token in self._holders.get(name, ())

    def _token_of(self, name: str, party: Party) -> int:
        for token, holder in self._holders.get(name, {}).items():
            if holder.party == party:
                return token
        return 0

    def _may_enter(self, name: str, kind: tuple[int, int]) -> bool:
        if name in self._closed_until_ms:
            return False
        mode, limit = kind
        holders = self._holders.get(name, {})
        if mode == _EXCLUSIVE:
            return not holders
        if mode == _SHARED:
            return all(holder.kind[0] == _SHARED for holder in holders.values())
        return len(holders) < limit

    def _in_the_way(self, name: str, who: str, op: int) -> tuple[str, int, int]:
        holders = self._holders.get(name)
        if holders:
            token, holder = next(iter(holders.items()))
            what = f"{who} was granted, though {holder.who} holds token {token}"
            return what, op, holder.op
        if name in self._closed_until_ms:
            return f"{who} was granted, though {name} is still closed", op, 0
        first = self.line(name)[0]
        return f"{who} was granted before {first.who}, who waited", op, first.op

    def check_final(self, told: list[Fields]) -> None:
        """Compare the holders in the end."""
        listed = {
            each["name"]: sorted(holder["token"] for holder in each["holders"])
            for each in told
            if each.get("holders")
        }
        for name in sorted({*listed, *self._holders}):
            found = sorted(self._holders.get(name, ()))
            if found != listed.get(name, []):
                raise Illegal(
                    f"in the end lock {name} is held with {listed.get(name, [])}, where"
                    f" the log has {found}"
                )


def _kind_of(args: Fields) -> tuple[int, int]:
    mode = args.get("mode", _EXCLUSIVE)
    return mode, args.get("limit", 1) if mode not in {_EXCLUSIVE, _SHARED} else 0


# --- in the time of the clients ----------------------------------------------------


def check_token_times(history: History, name: str, field: str) -> None:
    """Refuse a new token below one that was known before it was asked for."""
    steps: list[tuple[int, int, int, Op]] = []
    for op in history.ops:
        if op.name == name and op.outcome == "ok" and op.return_us is not None:
            steps.append((op.call_us, 0, op.id, op))
            steps.append((op.return_us, 1, op.id, op))
    steps.sort(key=lambda step: step[:3])
    newest: dict[str, Op] = {}
    known: dict[str, set[int]] = {}
    asked: dict[int, Op | None] = {}
    for _, is_return, number, op in steps:
        what = op.args["name"]
        if not is_return:
            asked[number] = newest.get(what)
            continue
        token = op.answer[field]
        before = asked[number]
        is_new = token not in known.setdefault(what, set())
        if before is not None and is_new and token <= before.answer[field]:
            raise Illegal(
                f"{describe(op)} was given token {token}, but was called after"
                f" {describe(before)} had got {before.answer[field]}",
                before.id,
                op.id,
            )
        known[what].add(token)
        best = newest.get(what)
        if best is None or token > best.answer[field]:
            newest[what] = op
