"""Scenarios as text: commands in, the whole trace out, read as a diff.

A script in `scripts/` is a list of `> command` lines, each followed by what it made
happen. After a wanted change of behaviour, write the traces anew and review the diff:

    RAFTD_REWRITE=1 python -m pytest tests/consensus/test_scripts.py

Commands (A, B are nodes; a link is A>B):

    cluster SIZE [logA=TERM,..] [termA=TERM] [setting=NUMBER|on|off ..]
    tick A [TIMES]      let time pass, nothing else      timeout A   until it campaigns
    ready A             take and carry out one Ready     store A     finish one write
    deliver A>B [N]     the oldest messages of a link    drop A>B    lose all of them
    settle              everything, until nothing moves
    propose A TEXT      read A      transfer A B      forget A      unreachable A B
    cut A>B ..          hold A>B ..      isolate A ..      heal      restart A
    status              every node in one line
    quietly COMMAND     without a trace
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raftd.consensus import Config, NodeId, Refused, Role
from tests.consensus.network import Network, entries_of_terms

_SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.txt"))
_TICKS_MAX = 100


class Script:
    """Runs the commands of one file."""

    def __init__(self) -> None:
        self.net = Network(1)

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
        answer = getattr(self, "_" + verb)(*words)
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
        settings: dict[str, Any] = {
            name: value == "on" if value in ("on", "off") else int(value)
            for name, value in options.items()
        }
        self.net = Network(
            len(nodes),
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

    def _propose(self, node: str, text: str) -> list[str]:
        answer = self.net.core(int(node)).propose(text.encode())
        if isinstance(answer, Refused):
            return [f"refused: {answer.reason.value}"]
        return [f"proposed at {answer.term}/{answer.index}"]

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

    def _restart(self, node: str) -> None:
        self.net.restart(int(node))

    def _status(self) -> Iterator[str]:
        for node in self.net.ids:
            core = self.net.core(node)
            terms = " ".join(str(entry.term) for entry in self.net[node].log)
            line = f"{node}: {core.role.value} term={core.term} leader={core.leader}"
            line += f" commit={core.commit_index} log=[{terms}]"
            if core.role is Role.LEADER:
                states = core.progress_states().items()
                matches = core.match_indexes()
                shown = [f"{n}:{s.value}@{matches[n]}" for n, s in states]
                line += " " + " ".join(shown)
            yield line


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
    names = {path.stem for path in _SCRIPTS}
    assert names >= {
        "backoff",
        "election",
        "figure_8",
        "new_leader_read",
        "pre_vote_refusal",
        "transfer",
    }


def test_a_changed_trace_is_noticed() -> None:
    script = "> cluster 1\n> timeout 1\n> settle\n"
    replayed = _replay(script)
    assert "1: leader term=1 leader=1" in replayed
    assert _replay(replayed) == replayed
    assert _replay(replayed.replace("leader term=1", "leader term=2")) == replayed
