"""Planted bugs of the client library: numbers, outcomes, watches, beliefs.

Source: RELIABILITY.md rules 38, 47 and 48; section 4 (client belief, watch); section 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raftclient import _held, _session
from raftclient._watch import KeyWatch
from raftclient._window import Call, Window
from raftclient.errors import OutcomeUnknown, RaftError, Unavailable
from tests.mutants.bug import Bug
from tests.mutants.finders import Played, Served
from tests.mutants.plays_service import a_holder_is_cut_off_while_another_waits
from tests.service.wires import NetOptions

if TYPE_CHECKING:
    from raftpb.v1.sessions_pb2 import StreamReply

__all__ = ["CLIENT"]

_take = KeyWatch.take


def _send_under_new_numbers(self: Window) -> None:
    """Number what is unanswered anew on a new stream."""
    calls = list(self._unanswered.values())
    self._unanswered.clear()
    self._unsent.clear()
    self._acknowledged_sent = 0
    self._bytes = 0
    for call in calls:
        self._admit(call)


def _say_not_applied(_: Call) -> RaftError:
    return Unavailable("the cluster did not take the request before the deadline")


def _say_unknown(_: Call) -> RaftError:
    return OutcomeUnknown("no answer came before the deadline")


def _resume_late(self: KeyWatch, reply: StreamReply) -> None:
    before = self._from_rev
    _take(self, reply)
    if self._from_rev != before:
        self._from_rev += 1


def _resume_early(self: KeyWatch, reply: StreamReply) -> None:
    before = self._from_rev
    _take(self, reply)
    if self._from_rev != before:
        self._from_rev -= 1


def _no_margin(ttl_s: float) -> float:
    """Believe for three times the ttl."""
    return -2 * ttl_s


CLIENT: Final = (
    Bug(
        name="retry-under-a-new-number",
        does="the client sends an unanswered write again under another number",
        breaks=("XO",),
        repeats="jetcd 0.8.2, rule 48",
        patches=((Window, "restart", _send_under_new_numbers),),
        finder=Served(
            clients=6,
            rate=400,
            net=NetOptions(latency_us=20_000, loss=0, breaks=0.02, silent=0),
        ),
    ),
    Bug(
        name="unknown-told-as-not-applied",
        does="the client says of a write without an answer that it was not applied",
        breaks=("LIN",),
        repeats="RedisRaft and jetcd (aborted read), rule 48, scenario 19",
        patches=((_session, "_too_late", _say_not_applied),),
        finder=Served(timeout_ms=500),
    ),
    Bug(
        name="watch-resumed-late",
        does="a watch goes on one revision too late after its stream broke",
        breaks=("WAT",),
        repeats="etcd#15220, scenario 55",
        patches=((KeyWatch, "take", _resume_late),),
        finder=Served(),
    ),
    Bug(
        name="watch-resumed-early",
        does="a watch tells its last revision again after its stream broke",
        breaks=("WAT",),
        repeats="etcd#15271 and #20221, scenario 55",
        patches=((KeyWatch, "take", _resume_early),),
        finder=Served(),
    ),
    Bug(
        name="lock-believed-too-long",
        does="a client believes in its session for three times as long as it lives",
        breaks=("MEX", "LSE"),
        repeats="rule 38 (count from the sending, less a margin)",
        patches=((_held, "margin_s", _no_margin),),
        finder=Served(
            seconds=6.0,
            clients=4,
            rate=200,
            ttl_ms=1000,
            faults=("client-pause", "cut-client"),
            fault_interval_us=400_000,
            downtime_us=2_500_000,
            net=NetOptions(latency_us=1000, loss=0, breaks=0, silent=1),
            node={"loss": 0, "check_quorum": False},
        ),
        script=Played(a_holder_is_cut_off_while_another_waits),
    ),
)
