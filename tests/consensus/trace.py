"""One line of text per event of a core, for scripts and failure reports."""

from typing import assert_never

from raftd.consensus import (
    ChangeKind,
    Entry,
    EntryKind,
    Input,
    InstallSnapshot,
    Membership,
    Proposal,
    Ready,
    SoftState,
    Write,
    decode_change,
)
from raftd.consensus.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    ReadIndexRequest,
    TimeoutNow,
    Vote,
    VoteReply,
)

__all__ = [
    "show_entries",
    "show_membership",
    "show_message",
    "show_ready",
    "show_write",
]

_SIGNS = {ChangeKind.ADD_LEARNER: "~", ChangeKind.PROMOTE: "+", ChangeKind.REMOVE: "-"}


def show_entries(entries: tuple[Entry, ...]) -> str:
    """Show entries as term/index, with their payload if there is any."""
    shown = []
    for entry in entries:
        text = _show_payload(entry)
        shown.append(f"{entry.term}/{entry.index}" + (f":{text}" if text else ""))
    return "[" + " ".join(shown) + "]"


def _show_payload(entry: Entry) -> str:
    if entry.kind is EntryKind.NORMAL:
        return entry.payload.decode()
    change = decode_change(entry.payload)
    steps = [f"{_SIGNS[step.kind]}{step.node}" for step in change.steps]
    return "change(" + " ".join(["leave"] if change.is_leave else steps) + ")"


def show_membership(membership: Membership) -> str:
    """Show who votes, in both halves of it, and who learns."""
    text = "voters " + ",".join(map(str, membership.voters))
    if membership.outgoing:
        text += " outgoing " + ",".join(map(str, membership.outgoing))
    if membership.learners:
        text += " learners " + ",".join(map(str, membership.learners))
    return text


def show_message(m: Input) -> str:
    """Show a message as sender, addressee, kind, term and what matters in it."""
    return f"{m.src}->{m.dst} {type(m).__name__} term={m.term}{_show_fields(m)}"


def _show_fields(m: Input) -> str:
    match m:
        case PreVote():
            return f" last={m.last_term}/{m.last_index}"
        case Vote():
            flag = " transfer" if m.transfer else ""
            return f" last={m.last_term}/{m.last_index}{flag}"
        case PreVoteReply() | VoteReply():
            known = f" commit={m.commit_term}/{m.commit}" if m.commit else ""
            return (" granted" if m.granted else " refused") + known
        case Append():
            prev = f" prev={m.prev_term}/{m.prev_index}"
            return f"{prev} {show_entries(m.entries)} commit={m.commit}"
        case AppendReply() if m.accepted:
            return f" match={m.index}"
        case AppendReply():
            return f" rejected={m.index} hint={m.hint_term}/{m.hint_index}"
        case Heartbeat():
            return f" commit={m.commit} read={m.read_id}"
        case HeartbeatReply():
            return f" read={m.read_id}"
        case ReadIndexReply():
            return f" index={m.index}"
        case InstallSnapshot():
            return f" last={m.index_term}/{m.index} {show_membership(m.membership)}"
        case ReadIndexRequest() | TimeoutNow():
            return ""
        case _:
            assert_never(m)


def show_write(write: Write) -> str:
    """Show a write: its id, and what it changes."""
    parts = [f"write {write.id}"]
    if write.hard_state is not None:
        parts.append(f"term={write.hard_state.term} vote={write.hard_state.vote}")
    if write.install is not None:
        parts.append(f"install={write.install.term}/{write.install.index}")
    if write.truncate_from is not None:
        parts.append(f"truncate-from={write.truncate_from}")
    if write.entries:
        parts.append(show_entries(write.entries))
    return " ".join(parts)


def _show_soft(soft: SoftState) -> str:
    return f"{soft.role.value} term={soft.term} leader={soft.leader}"


def _show_failed(failed: tuple[tuple[Proposal, bool], ...]) -> list[str]:
    return [
        f"failed {proposal.term}/{proposal.index} "
        + ("definite" if is_definite else "indefinite")
        for proposal, is_definite in failed
    ]


def show_ready(ready: Ready) -> list[str]:
    """Show everything that a Ready asks for, in the order of its fields."""
    lines = [] if ready.soft is None else [_show_soft(ready.soft)]
    lines += [f"send {show_message(m)}" for m in ready.send_now]
    if ready.write is not None:
        lines.append(show_write(ready.write))
    lines += [f"after write: {show_message(m)}" for m in ready.send_after]
    if ready.commit:
        lines.append(f"commit {show_entries(ready.commit)}")
    lines += [f"read at {index}" for _, index in ready.reads]
    lines += [f"{follower} needs a snapshot" for follower in ready.snapshots]
    lines += ["read failed" for _ in ready.reads_failed]
    return lines + _show_failed(ready.failed)
