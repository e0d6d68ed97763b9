"""Scenarios as text: commands in, the whole trace out, read as a diff.

A script in `scripts/` is a list of `> command` lines, each followed by what it made
happen. After a wanted change of behaviour, write the traces anew and review the diff:

    RAFTD_REWRITE=1 python -m pytest tests/consensus/test_scripts.py

Commands (A, B are nodes; a link is A>B):

    cluster SIZE [voters=A,..] [learners=A,..] [logA=TERM,..] [termA=TERM]
            [setting=NUMBER|on|off ..]      who is in no list knows of no member
    tick A [TIMES]      let time pass, nothing else
    timeout A           let it forget its leader, and time pass until it campaigns
    pass A TIMES        let time pass, and everything settle after each tick
    wait A              let time pass until it campaigns, for 5 T at most
    ready A             take and carry out one Ready     store A     finish one write
    deliver A>B [N]     the oldest messages of a link    drop A>B    lose all of them
    overtake A>B        the newest message of a link     repeat A>B  deliver copies
    settle              everything, until nothing moves
    propose A TEXT      read A      transfer A B      forget A      unreachable A B
    change A STEP ..    propose a change: ~B learns, +B votes, -B goes; none: no step
    cut A>B ..          hold A>B ..      isolate A ..      heal
    restart A [N]       lose all but the disk and the first N of the unfinished writes
    step-down A         unfit A on|off
    hold-disk A         hold-apply A     free A     writes, applies nothing till then
    trim A [INDEX]      take a checkpoint, and cut the log up to there
    offer A>B           begin to send A's checkpoint
    install A>B [AGE]   all of it is there: of the newest offer, or the AGE-th before it
    sent A>B [failed]   the sender's report
    status              every node in one line            members       its members
    quietly COMMAND     without a trace
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raftd.consensus import (
    ChangeKind,
    Config,
    ConfigChange,
    ConfigStep,
    NodeId,
    Proposal,
    Refused,
    Role,
    Term,
)
from tests.consensus.disk import Snapshot
from tests.consensus.helpers import T
from tests.consensus.network import Network, entries_of_terms
from tests.consensus.trace import show_membership

_SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
_TICKS_MAX = 100
_KINDS = {"~": ChangeKind.ADD_LEARNER, "+": ChangeKind.PROMOTE, "-": ChangeKind.REMOVE}


class Script:
    """Runs the commands of one file."""

    def __init__(self) -> None:
        self.net = Network(1)
        #: Every snapshot that was offered on a link, the newest last.
        self.offers: dict[tuple[int, int], list[tuple[Snapshot, Term]]] = {}

    def run(self, command: str) -> list[str]:
        """Carry out one command; return what it made happen."""
        verb, *words = command.split()
        before = len(self.net.trace)
        if verb == "quietly":
            self.run(" ".join(words))
            return []
        if verb == "cluster":
            self._cluster(words)
            return []
        answer = getattr(self, "_" + verb.replace("-", "_"))(*words)
        return self.net.trace[before:] + list(answer or ())

    def _cluster(self, words: list[str]) -> None:
        options = dict(word.split("=") for word in words[1:])
        nodes = range(1, int(words[0]) + 1)
        logs = {
            node: entries_of_terms(*map(int, options.pop(f"log{node}").split(",")))
            for node in nodes
            if f"log{node}" in options
        }
        terms = {
            node: int(options.pop(f"term{node}"))
            for node in nodes
            if f"term{node}" in options
        }
        voters, learners = options.pop("voters", None), options.pop("learners", "")
        settings: dict[str, Any] = {
            name: value == "on" if value in ("on", "off") else int(value)
            for name, value in options.items()
        }
        self.net = Network(
            len(nodes),
            voters=_ids(voters) if voters else tuple(nodes),
            learners=_ids(learners) if learners else (),
            logs=logs,
            terms=terms,
            configure=lambda node: replace(Config(node), **settings),
        )

    def _tick(self, node: str, times: str = "1") -> None:
        for _ in range(int(times)):
            self.net.core(int(node)).tick()

    def _timeout(self, node: str) -> None:
        core = self.net.core(int(node))
        core.forget_leader()
        before = (core.term, core.role)
        for _ in range(_TICKS_MAX):
            core.tick()
            if (core.term, core.role) != before:
                return
        raise AssertionError(f"{node} does not campaign")

    def _pass(self, node: str, times: str) -> None:
        self.net.tick(int(node), int(times))

    def _wait(self, node: str) -> list[str]:
        core = self.net.core(int(node))
        for ticks in range(1, 5 * T + 1):
            core.tick()
            if core.role_ticks == 0:
                return [f"campaigns after {ticks} ticks"]
        return [f"does not campaign in {ticks} ticks"]

    def _ready(self, node: str) -> None:
        self.net.take_ready(int(node))

    def _store(self, node: str) -> None:
        self.net.finish_write(int(node))

    def _settle(self) -> None:
        self.net.settle()

    def _deliver(self, link: str, count: str | None = None) -> None:
        self.net.deliver_between(*_ends(link), int(count) if count else None)

    def _drop(self, link: str) -> None:
        self.net.drop_between(*_ends(link))

    def _overtake(self, link: str) -> None:
        ends = _ends(link)
        packets = [p for p in self.net.wire if p[:2] == ends]
        last = [at for at, p in enumerate(self.net.wire) if p is packets[-1]]
        self.net.deliver(last[-1])

    def _repeat(self, link: str) -> None:
        for packet in [p for p in self.net.wire if p[:2] == _ends(link)]:
            self.net.deliver(self.net.wire.index(packet), is_copy=True)

    def _propose(self, node: str, text: str) -> list[str]:
        return _show_answer(self.net.core(int(node)).propose(text.encode()))

    def _change(self, node: str, *steps: str) -> list[str]:
        change = ConfigChange(
            tuple(ConfigStep(_KINDS[s[0]], NodeId(int(s[1:]))) for s in steps)
        )
        return _show_answer(self.net.core(int(node)).change(change))

    def _read(self, node: str) -> None:
        self.net.read(int(node))

    def _transfer(self, node: str, to: str) -> list[str]:
        is_begun = self.net.core(int(node)).transfer(NodeId(int(to)))
        return ["begun" if is_begun else "impossible"]

    def _forget(self, node: str) -> None:
        self.net.core(int(node)).forget_leader()

    def _unreachable(self, node: str, peer: str) -> None:
        self.net.core(int(node)).unreachable(NodeId(int(peer)))

    def _cut(self, *links: str) -> None:
        self.net.cut |= set(map(_ends, links))

    def _hold(self, *links: str) -> None:
        self.net.held |= set(map(_ends, links))

    def _isolate(self, *nodes: str) -> None:
        self.net.isolate(*map(int, nodes))

    def _heal(self) -> None:
        self.net.heal()

    def _restart(self, node: str, kept: str = "0") -> None:
        self.net.restart(int(node), keep_writes=int(kept))

    def _step_down(self, node: str) -> None:
        self.net.core(int(node)).step_down()

    def _unfit(self, node: str, state: str) -> None:
        self.net.core(int(node)).unfit = state == "on"

    def _hold_disk(self, node: str) -> None:
        self.net[int(node)].is_disk_held = True

    def _hold_apply(self, node: str) -> None:
        self.net[int(node)].is_apply_held = True

    def _free(self, node: str) -> None:
        self.net[int(node)].is_disk_held = False
        self.net[int(node)].is_apply_held = False
        self.net.apply(int(node))

    def _trim(self, node: str, index: str | None = None) -> None:
        self.net.checkpoint(int(node))
        if index is not None:
            self.net.cut_log(int(node), int(index))

    def _offer(self, link: str) -> list[str]:
        src, dst = _ends(link)
        self.net.offer(src, dst)
        made = self.offers.setdefault((src, dst), [])
        made.append(self.net.offers[src, dst])
        snapshot = self.net.offers[src, dst][0]
        return [f"snapshot {snapshot.term}/{snapshot.index}"]

    def _install(self, link: str, age: str = "0") -> None:
        ends = _ends(link)
        self.net.offers[ends] = self.offers[ends][-1 - int(age)]
        self.net.install(*ends)

    def _sent(self, link: str, outcome: str = "ok") -> None:
        src, dst = _ends(link)
        self.net.core(src).snapshot_sent(NodeId(dst), outcome == "ok")

    def _status(self) -> Iterator[str]:
        for node in self.net.ids:
            core = self.net.core(node)
            terms = " ".join(str(entry.term) for entry in self.net[node].log)
            if core.first_index > 1:
                terms = f"..{core.first_index - 1} {terms}".rstrip()
            line = f"{node}: {core.role.value} term={core.term} leader={core.leader}"
            line += f" commit={core.commit_index} log=[{terms}]"
            if core.role is Role.LEADER:
                states = core.progress_states().items()
                matches = core.match_indexes()
                shown = [f"{n}:{s.value}@{matches[n]}" for n, s in states]
                line += " " + " ".join(shown)
            yield line.rstrip()

    def _members(self) -> Iterator[str]:
        for node in self.net.ids:
            core = self.net.core(node)
            removed = " removed" if core.is_removed else ""
            yield f"{node}: {show_membership(core.membership)}{removed}"


def _show_answer(answer: Proposal | Refused) -> list[str]:
    if isinstance(answer, Refused):
        detail = f": {answer.detail}" if answer.detail else ""
        return [f"refused: {answer.reason.value}{detail}"]
    return [f"proposed at {answer.term}/{answer.index}"]


def _ids(words: str) -> tuple[int, ...]:
    return tuple(map(int, words.split(",")))


def _ends(link: str) -> tuple[int, int]:
    src, dst = link.split(">")
    return int(src), int(dst)


def _replay(text: str) -> str:
    """Run the commands of a script; return it with the trace they give now."""
    script = Script()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            lines.append(line)
            lines += [f"  {event}" for event in script.run(line[2:])]
        elif not line.startswith("  "):
            lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", _SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    written = path.read_text()
    now = _replay(written)
    if os.environ.get("RAFTD_REWRITE"):
        path.write_text(now)
        written = now
    assert now.splitlines() == written.splitlines()
    assert "\n  " in now, "a script without a trace checks nothing"


def test_all_scripts_are_found() -> None:
    assert len(_SCRIPTS) >= 50


_RULES = [*range(1, 25), 26, 27, 28, 29, 30, 31, 33, 39, 40, 41, 42, 44]
_SCENARIOS = [*range(1, 15), 19, 20, *range(24, 32), 33, 34, 35, 38, 45, 46, 47]


@pytest.mark.parametrize(
    ("word", "numbers"), [("rule", _RULES), ("scenario", _SCENARIOS)]
)
def test_every_one_has_a_script(word: str, numbers: list[int]) -> None:
    """By what each script says of itself, in its name and its first lines."""
    named: set[int] = set()
    for path in _SCRIPTS:
        head = path.read_text().split("\n\n")[0].replace("\n#", "")
        text = path.stem.replace("_", " ") + "; " + head
        for mention in re.findall(rf"{word}s?((?: \d+,?| and| to)+)", text):
            first, *more = map(int, re.findall(r"\d+", mention))
            end = more[0] if " to " in mention else first
            named |= {first, *more, *range(first, end)}
    assert sorted(set(numbers) - named) == []


def test_a_changed_trace_is_noticed() -> None:
    script = "> cluster 1\n> timeout 1\n> settle\n"
    replayed = _replay(script)
    assert "1: leader term=1 leader=1" in replayed
    assert _replay(replayed) == replayed
    assert _replay(replayed.replace("leader term=1", "leader term=2")) == replayed
