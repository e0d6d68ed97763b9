"""Elections, judged in the order of the log, and what observers were told of them.

* One leader at a time, one claimant an epoch, epochs rise; first come, first served;
  nobody wins on a dead lease; "nobody" is told whenever nobody leads.
* What each observer was told is a contiguous run of what the log says of the election,
  across all its reconnects.

Source: RELIABILITY.md section 4; SEMANTICS.md section 5.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final

import msgspec

from tests.checkers.claim_replay import ClaimReplay, Party, Wait
from tests.checkers.finals import replay_with_finals
from tests.checkers.locks import check_token_times
from tests.checkers.places import Places, describe
from tests.checkers.verdict import Illegal, Verdict, judged

if TYPE_CHECKING:
    from tests.checkers.history import History
    from tests.checkers.parts import Applied, Fields
    from tests.checkers.records import Entry, Observed

__all__ = ["ElectionReplay", "check_elections"]

_RANK: Final = 6
_LOST: Final = frozenset({"FENCED", "NOT_FOUND", "NOT_HOLDER"})

_Transition = tuple[str, str, int]
"""Claimant, value, epoch; empty and 0 = nobody."""
_NOBODY: Final[_Transition] = ("", "", 0)


class _Leader(msgspec.Struct):
    party: Party
    epoch: int
    value: str
    who: str
    op: int


def check_elections(history: History) -> Verdict:
    """Judge every election and every observer."""
    return judged("elections", "transitions and observations", _check, history)


def _check(history: History) -> int:
    replay = ElectionReplay(Places(history))
    replay_with_finals(
        history, replay.entry, replay.check_final, lambda final: final.elections
    )
    check_token_times(history, "campaign", "epoch")
    _check_epochs(history)
    transitions = _transitions(history)
    for observations in _by_observer(history):
        _check_observer(observations, transitions)
    return sum(map(len, transitions.values())) + len(history.observed)


class ElectionReplay(ClaimReplay):
    """All elections, after the entries so far."""

    def __init__(self, places: Places) -> None:
        super().__init__(places, _RANK, "campaign", "epoch")
        self._leaders: Final[dict[str, _Leader]] = {}
        self._led: Final[dict[str, None]] = {}
        """Names of which the newest transition says that somebody leads."""
        self._expected: Final[defaultdict[str, list[_Transition]]] = defaultdict(list)

    # --- requests ------------------------------------------------------------------

    def request(self, entry: Entry, applied: Applied) -> None:
        """Take in a request about elections."""
        self.check_fences(entry, applied, "ELECTION")
        match applied.name:
            case "campaign":
                self._campaign(entry, applied)
            case "withdraw" if applied.outcome == "ok":
                self._withdraw(entry, applied)
            case "proclaim" | "resign":
                self._speak(entry, applied, applied.name, applied.args)
            case "transfer_election" if applied.outcome == "ok":
                self._transfer(entry, applied)
            case "txn" if applied.outcome == "ok":
                self.check_compares(entry, applied, "LEADERSHIP_HELD")
                branch = "then" if applied.answer["has_succeeded"] else "orelse"
                for each in applied.args.get(branch, []):
                    if each["op"] in {"proclaim", "resign"}:
                        self._speak(entry, applied, each["op"], each)
            case _:
                pass

    def _campaign(self, entry: Entry, applied: Applied) -> None:
        who, op = self.places.name(entry, applied), self.places.op_of(applied)
        if not self.check_alive(who, op, applied):
            return
        args = applied.args
        name, party = args["name"], (args["lease"], args["claimant"])
        leader = self._leaders.get(name)
        is_mine = leader is not None and leader.party == party
        match applied.outcome:
            case "ok" if leader is None:
                epoch = applied.answer["epoch"]
                self._seat(name, _Leader(party, epoch, args["value"], who, op))
            case "ok":
                assert leader is not None
                if not is_mine or applied.answer["epoch"] != leader.epoch:
                    raise Illegal(
                        f"{who} won epoch {applied.answer['epoch']}, though"
                        f" {leader.who} leads with {leader.epoch}",
                        op,
                        leader.op,
                    )
            case "pending":
                if leader is None or is_mine:
                    raise Illegal(f"{who} has to wait, though nobody is in the way", op)
                wait = Wait(applied.ticket, name, party, who, op, value=args["value"])
                self.join(wait, args.get("wait_ms"))
            case "refused" if applied.error == "LOCK_HELD":
                if leader is None or is_mine:
                    raise Illegal(f"{who} was refused, though nobody is in the way", op)
            case _:
                pass

    def _withdraw(self, entry: Entry, applied: Applied) -> None:
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
        leader = self._leaders.get(name)
        if leader is not None and leader.party == party:
            self._unseat(name)

    def _speak(self, entry: Entry, applied: Applied, what: str, args: Fields) -> None:
        name, epoch = args["name"], args["epoch"]
        is_held = self.holds(name, epoch)
        if is_held == (applied.outcome == "ok"):
            if is_held and what == "resign":
                self._unseat(name)
            elif is_held:
                leader = self._leaders[name]
                leader.value = args["value"]
                self._say(name, (leader.party[1], leader.value, leader.epoch))
            return
        if is_held and applied.error not in _LOST:
            return
        was = "is current" if is_held else "is not current"
        raise Illegal(
            f"{self.places.name(entry, applied)} was {applied.outcome}, though epoch"
            f" {epoch} of {name} {was}",
            self.places.op_of(applied),
        )

    def _transfer(self, entry: Entry, applied: Applied) -> None:
        name, to = applied.args["name"], applied.args["to"]
        leader = self._leaders.get(name)
        who, op = self.places.name(entry, applied), self.places.op_of(applied)
        if leader is not None and leader.party[1] == to:
            if applied.answer["epoch"] != leader.epoch:
                raise Illegal(f"{who} changed the epoch of the leader it names", op)
            return
        waits = [wait for wait in self.line(name) if wait.party[1] == to]
        if not waits:
            raise Illegal(f"{who} was done, though {to} does not wait", op)
        self._leaders.pop(name, None)
        self._win(entry, waits[0])
        if applied.answer["epoch"] != self._leaders[name].epoch:
            raise Illegal(f"{who} answered another epoch than the winner's", op)

    # --- changes -------------------------------------------------------------------

    def lease_ended(self, entry: Entry, lease: int, *, is_loss: bool) -> None:
        """Take the leaders and candidates of a lease out."""
        self.drop_waits(entry, lease)
        for name, leader in list(self._leaders.items()):
            if leader.party[0] == lease:
                self._unseat(name)

    def promote(self, entry: Entry, name: str) -> None:
        """Let the next candidate win, or say that nobody leads."""
        if name in self._leaders:
            return
        line = self.line(name)
        if line:
            if line[0].party[0] not in self.leases:
                raise Illegal(f"{line[0].who} still stands on a dead lease", line[0].op)
            self._win(entry, line[0])
        elif name in self._led:
            self._say(name, _NOBODY)

    def _win(self, entry: Entry, first: Wait) -> None:
        last, epoch = self.let_in(entry, first)
        leader = _Leader(last.party, epoch, last.value, last.who, last.op)
        self._seat(first.name, leader)

    def _seat(self, name: str, leader: _Leader) -> None:
        self.rise(name, leader.epoch, leader.who, leader.op)
        self._leaders[name] = leader
        self._say(name, (leader.party[1], leader.value, leader.epoch))

    def _unseat(self, name: str) -> None:
        del self._leaders[name]
        self.touched[name] = None

    def _say(self, name: str, transition: _Transition) -> None:
        self._expected[name].append(transition)
        if transition == _NOBODY:
            self._led.pop(name, None)
        else:
            self._led[name] = None

    def holds(self, name: str, token: int) -> bool:
        """Tell whether an epoch is current."""
        leader = self._leaders.get(name)
        return leader is not None and leader.epoch == token

    def closing(self, entry: Entry) -> None:
        """Compare the transitions of the entry with those that must be."""
        super().closing(entry)
        told: defaultdict[str, list[_Transition]] = defaultdict(list)
        for event in entry.events:
            if event.what == "election":
                told[event.name].append((event.claimant, event.value, event.epoch))
        for name in sorted({*told, *self._expected}):
            if told[name] != self._expected[name]:
                raise Illegal(
                    f"entry {entry.index} tells of election {name} {told[name]}, where"
                    f" it must be {self._expected[name]}"
                )
        self._expected.clear()

    def check_final(self, told: list[Fields]) -> None:
        """Compare the leaders in the end."""
        listed = {each["name"]: each["epoch"] for each in told if each.get("epoch")}
        found = {name: leader.epoch for name, leader in self._leaders.items()}
        for name in sorted({*listed, *found}):
            if listed.get(name, 0) != found.get(name, 0):
                raise Illegal(
                    f"in the end election {name} is led with epoch"
                    f" {listed.get(name, 0)}, where the log has {found.get(name, 0)}"
                )


# --- epochs and observers ----------------------------------------------------------


def _check_epochs(history: History) -> None:
    """Refuse two claimants of one epoch, whoever says so."""
    known: dict[tuple[str, int], tuple[str, str, int]] = {}
    for op in history.ops:
        if op.name == "campaign" and op.outcome == "ok":
            key = (op.args["name"], op.answer["epoch"])
            _check_epoch(known, key, op.args["claimant"], describe(op), op.id)
    for each in history.observed:
        if each.epoch:
            key = (each.election, each.epoch)
            _check_epoch(known, key, each.claimant, f"observer {each.observer}", 0)


def _check_epoch(
    known: dict[tuple[str, int], tuple[str, str, int]],
    key: tuple[str, int],
    claimant: str,
    who: str,
    op: int,
) -> None:
    first = known.setdefault(key, (claimant, who, op))
    if first[0] != claimant:
        raise Illegal(
            f"epoch {key[1]} of {key[0]} is of {first[0]} by {first[1]}, and of"
            f" {claimant} by {who}",
            first[2],
            op,
        )


class _Told(msgspec.Struct, frozen=True):
    """A transition in the log."""

    revision: int
    content: _Transition


def _transitions(history: History) -> defaultdict[str, list[_Told]]:
    found: defaultdict[str, list[_Told]] = defaultdict(list)
    for entry in history.entries:
        for event in entry.events:
            if event.what == "election":
                content = (event.claimant, event.value, event.epoch)
                found[event.name].append(_Told(event.revision, content))
    return found


def _by_observer(history: History) -> list[list[Observed]]:
    found: defaultdict[str, list[Observed]] = defaultdict(list)
    for each in history.observed:
        found[each.observer].append(each)
    return list(found.values())


def _check_observer(
    observations: list[Observed], transitions: defaultdict[str, list[_Told]]
) -> None:
    line = transitions[observations[0].election]
    place: int | None = None
    for each in observations:
        content = (each.claimant, each.value, each.epoch)
        if each.is_state or place is None:
            place = _find(each, content, line, -1 if place is None else place)
            continue
        following = line[place + 1] if place + 1 < len(line) else None
        if following is None or not _is_told(each, content, following):
            after = line[place].content if place >= 0 else "nothing"
            wanted = "nothing more" if following is None else following.content
            raise Illegal(
                f"observer {each.observer} of {each.election} was told {content} at"
                f" revision {each.revision} after {after}, where the log has {wanted}"
            )
        place += 1


def _find(each: Observed, content: _Transition, line: list[_Told], least: int) -> int:
    """Return where an observation begins; -1 = before everything."""
    if each.is_state:
        upto = [
            place
            for place in range(max(least, 0), len(line))
            if not each.revision or line[place].revision <= each.revision
        ]
        if each.revision:
            upto = upto[-1:]
        found = [place for place in upto if line[place].content == content]
        is_first = least < 0 and not each.revision  # nobody ever stood before
        if content == _NOBODY and (is_first or not upto):
            return -1
        if found:
            return found[0]
    else:
        for place, told in enumerate(line):
            if _is_told(each, content, told):
                return place
    raise Illegal(
        f"observer {each.observer} of {each.election} was told {content} at revision"
        f" {each.revision}, which the log never says"
    )


def _is_told(each: Observed, content: _Transition, told: _Told) -> bool:
    return told.content == content and each.revision in {0, told.revision}
