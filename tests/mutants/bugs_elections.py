"""Planted bugs of elections: terms, votes, pre-votes, transfers.

Source: RELIABILITY.md rules 1 to 12, 23 and 27; section 6.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from raftd.consensus import core, quorum, transfer, voting
from raftd.consensus.config import Config
from raftd.consensus.messages import PreVote
from raftd.consensus.state import Persisted, State
from raftd.consensus.types import HardState, Index, NodeId, Term
from tests.mutants.bug import Bug
from tests.mutants.finders import Scripted, Simulated
from tests.sim.focus import BUSY, QUIET

__all__ = ["ELECTIONS"]

_init_state = State.__init__
_step_older = core._step_older  # noqa: SLF001  # put back in its own place


def _forget_vote(self: State, config: Config, persisted: Persisted, rng: Any) -> None:
    hard_state = HardState(persisted.hard_state.term, None)
    _init_state(
        self, config, dataclasses.replace(persisted, hard_state=hard_state), rng
    )


def _forget_term(self: State, config: Config, persisted: Persisted, rng: Any) -> None:
    runs = persisted.term_runs
    term = runs[-1][1] if runs else persisted.prev_term
    hard_state = HardState(Term(term), None)
    _init_state(
        self, config, dataclasses.replace(persisted, hard_state=hard_state), rng
    )


def _is_always_up_to_date(_: State, __: Index, ___: int) -> bool:
    return True


def _vote_for_everybody(s: State, _: NodeId) -> bool:
    return s.leader is None


def _minority_index(voters: tuple[NodeId, ...], matches: dict[NodeId, Index]) -> Index:
    rising = sorted([matches.get(voter, Index(0)) for voter in voters])
    return rising[min(len(rising) - 1, (len(rising) + 1) // 2)]


def _half_is_enough(
    voters: tuple[NodeId, ...], votes: dict[NodeId, bool]
) -> quorum.VoteResult:
    granted = sum(votes.get(voter) is True for voter in voters)
    refused = sum(votes.get(voter) is False for voter in voters)
    if 2 * granted >= len(voters):
        return quorum.VoteResult.WON
    if 2 * refused > len(voters):
        return quorum.VoteResult.LOST
    return quorum.VoteResult.PENDING


def _leave_old_pre_votes(s: State, m: Any) -> None:
    if not isinstance(m, PreVote):
        _step_older(s, m)


def _never_give_up(_: State) -> None:
    """Leave the transfer as it is, although its time is over."""


ELECTIONS: Final = (
    Bug(
        name="vote-forgotten",
        does="a node that restarts has forgotten for whom it voted",
        breaks=("ES",),
        repeats="PySyncObj#84, scenario 1",
        patches=((State, "__init__", _forget_vote),),
        finder=Simulated(
            BUSY,
            size=5,
            faults=("restart", "crash"),
            fault_interval_us=30_000,
            latency_us=20_000,
            pre_vote=False,
            clients=1,
        ),
    ),
    Bug(
        name="term-forgotten",
        does="a node that restarts is in the term of its last entry again",
        breaks=("LC", "DUR"),
        repeats="PySyncObj#202, scenario 2",
        patches=((State, "__init__", _forget_term),),
        finder=Simulated(),
    ),
    Bug(
        name="votes-for-everybody",
        does="a voter gives its vote of one term to each who asks",
        breaks=("ES",),
        repeats="rule 7",
        patches=((voting, "_has_vote_for", _vote_for_everybody),),
        finder=Simulated(),
    ),
    Bug(
        name="no-up-to-date-check",
        does="a candidate with a shorter log gets votes",
        breaks=("LC", "DUR"),
        repeats="Raft paper 5.4.1, rule 7",
        patches=((voting, "_is_up_to_date", _is_always_up_to_date),),
        finder=Simulated(),
    ),
    Bug(
        name="quorum-off-by-one",
        does="an entry is committed when one voter too few has it",
        breaks=("LC", "DUR"),
        repeats="Raft paper 5.3",
        patches=((quorum, "_majority_index", _minority_index),),
        finder=Simulated(),
    ),
    Bug(
        name="elected-by-half",
        does="half of the voters elect a leader",
        breaks=("ES",),
        repeats="Raft paper 5.2",
        patches=((quorum, "_half_result", _half_is_enough),),
        finder=Simulated(),
    ),
    Bug(
        name="pre-vote-silent",
        does="a pre-vote of a lower term is not answered, so that nobody can win",
        breaks=("LIV",),
        repeats="etcd#8501, openraft#1796, rule 3",
        patches=((core, "_step_older", _leave_old_pre_votes),),
        finder=Simulated(
            QUIET,
            pre_vote=True,
            check_quorum=True,
            loss=0.5,
            faults=("partition", "crash", "transfer"),
        ),
        script=Scripted("rule_03_pre_vote_refusal"),
    ),
    Bug(
        name="transfer-stuck",
        does="a transfer whose target is gone is never given up, and writes are"
        " refused as long as it lasts",
        breaks=("LIV",),
        repeats="hashicorp#696, scenario 45",
        patches=((transfer, "_give_up", _never_give_up),),
        finder=Simulated(
            QUIET,
            faults=("transfer",) * 6 + ("crash",),
            downtime_us=3_000_000,
            fault_interval_us=100_000,
        ),
        script=Scripted("rule_12_transfer_fails"),
    ),
)
