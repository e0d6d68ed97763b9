"""Working out the next Ready.

Rules: asked twice in a row, the second answer is empty. What was gathered is sent
together; what promises something waits for its write (see `ready` and `outbox`).
Entries handed out to be applied stay within a byte limit until `applied` catches up.

Source: thesis 10.2.1; rules 21 and 23.
"""

from raftd.consensus import reads, replication, transfer
from raftd.consensus.log import entry_bytes
from raftd.consensus.messages import AppendReply, Message
from raftd.consensus.ready import Ready, SoftState, Write
from raftd.consensus.state import State
from raftd.consensus.types import Entry, Install, NodeId, Role

__all__ = ["has_ready", "take_ready"]


def has_ready(s: State) -> bool:
    """Tell whether `take_ready` would give anything; nothing is worked out."""
    out, log = s.out, s.log
    return bool(
        s.is_flush_due
        or log.staged < log.last_index
        or (s.handed < s.commit and s.apply_room_bytes > 0)
        or out.now
        or out.guarded
        or out.ack_to is not None
        or log.truncate_from is not None
        or s.reads.done
        or s.reads.failed
        or s.failed
        or _is_hard_state_new(s)
        or _is_soft_state_new(s)
    )


def take_ready(s: State) -> Ready:
    """Take everything that became due."""
    if s.is_flush_due:
        s.is_flush_due = False
        _flush(s)
    write = _take_write(s)
    send_after = _route_guarded(s, write)
    send_now = tuple(s.out.now)
    s.out.now.clear()
    done, failed = tuple(s.reads.done), tuple(s.reads.failed)
    s.reads.done.clear()
    s.reads.failed.clear()
    proposals = tuple(s.failed.items())
    s.failed.clear()
    snapshots: tuple[NodeId, ...] = ()
    if s.snapshots_wanted:
        snapshots = tuple(s.snapshots_wanted)
        s.snapshots_wanted.clear()
    return Ready(
        send_now=send_now,
        write=write,
        send_after=send_after,
        commit=_take_committed(s),
        reads=done,
        reads_failed=failed,
        soft=_take_soft(s),
        failed=proposals,
        snapshots=snapshots,
    )


def _flush(s: State) -> None:
    if s.role is Role.LEADER:
        replication.flush(s)
        reads.flush_leader(s)
        transfer.flush(s)
    else:
        reads.flush_follower(s)


def _is_hard_state_new(s: State) -> bool:
    staged = s.out.staged_state
    return staged.term != s.term or staged.vote != s.vote


def _take_write(s: State) -> Write | None:
    log = s.log
    is_state_new = _is_hard_state_new(s)
    if log.staged == log.last_index and log.truncate_from is None and not is_state_new:
        return None
    if log.install is not None:
        return _take_install(s, log.install)
    hard_state = s.hard_state if is_state_new else None
    write_id = s.out.issue(hard_state or s.out.staged_state, log.last_index)
    truncate_from, log.truncate_from = log.truncate_from, None
    return Write(write_id, hard_state, truncate_from, log.take_unstaged(), s.commit)


def _take_install(s: State, install: Install) -> Write:
    """Write the log's new beginning; what follows it goes with the next write."""
    s.log.install = None
    s.log.staged = install.index
    hard_state = s.hard_state if _is_hard_state_new(s) else None
    write_id = s.out.issue(hard_state or s.out.staged_state, install.index)
    return Write(write_id, hard_state, None, (), s.commit, install)


def _route_guarded(s: State, write: Write | None) -> tuple[Message, ...]:
    """Send what promises nothing new; return what waits for `write`; hold the rest."""
    out = s.out
    durable = out.durable_state
    after: list[Message] = []
    if out.guarded:
        is_durable = durable.term == s.term and durable.vote == s.vote
        for message in out.guarded:
            _route(s, message, after, write, is_durable=is_durable)
        out.guarded.clear()
    if out.ack_to is not None and out.ack_index <= s.log.staged:
        reply = AppendReply(
            s.id,
            out.ack_to,
            s.term,
            True,
            out.ack_index,
            wall_ms=s.local_wall_ms,
        )
        out.ack_to = None
        is_durable = out.ack_index <= s.log.durable and durable.term == s.term
        _route(s, reply, after, write, is_durable=is_durable)
    return tuple(after)


def _route(
    s: State,
    message: Message,
    after: list[Message],
    write: Write | None,
    *,
    is_durable: bool,
) -> None:
    if is_durable:
        s.out.now.append(message)
    elif write is not None:
        after.append(message)
    else:
        s.out.hold(message)


def _take_committed(s: State) -> tuple[Entry, ...]:
    if s.handed == s.commit or s.apply_room_bytes <= 0:
        return ()
    entries = s.log.slice(s.handed + 1, s.commit + 1, s.apply_room_bytes)
    s.handed = entries[-1].index
    s.apply_room_bytes -= sum(map(entry_bytes, entries))
    if s.handed < s.commit:
        # The next entry did not fit: it waits until these are applied.
        s.apply_room_bytes = 0
    return entries


def _is_soft_state_new(s: State) -> bool:
    told = s.soft_told
    return told.role is not s.role or told.leader != s.leader or told.term != s.term


def _take_soft(s: State) -> SoftState | None:
    if not _is_soft_state_new(s):
        return None
    s.soft_told = SoftState(s.role, s.leader, s.term)
    return s.soft_told
