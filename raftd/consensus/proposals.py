"""Proposals: appended by a leader, committed, or reported as failed.

Rules:

* A refusal is definite: nothing was appended.
* What a leader appended and did not see committed when it lost leadership is reported
  at once as indefinite: a later leader may still commit it.
* It is definitely lost when an entry of another term is *committed* at its index: then
  so is everything behind it. Being overwritten proves nothing, since the entry that
  overwrote it may itself be lost while a third node still holds this one.
* Commit never falls.

Source: rules 12, 21 and 22.
"""

from raftd.consensus.state import State
from raftd.consensus.types import (
    Entry,
    EntryKind,
    Index,
    Proposal,
    RefusalReason,
    Refused,
    Role,
    Term,
)

__all__ = [
    "advance_commit",
    "append_proposal",
    "forget_orphans_until",
    "orphan_proposals",
    "propose",
    "refusal",
]


def propose(s: State, payload: bytes) -> Proposal | Refused:
    """Append `payload` as one entry of this leader's term, or say why not."""
    refused = refusal(s, len(payload))
    return refused or append_proposal(s, EntryKind.NORMAL, payload)


def refusal(s: State, size: int) -> Refused | None:
    """Say why nothing, or nothing of this size, can be proposed here now."""
    if s.role is not Role.LEADER:
        return Refused(RefusalReason.NOT_LEADER, s.leader)
    if s.transfer_to is not None:
        return Refused(RefusalReason.TRANSFERRING, s.leader)
    is_over = s.uncommitted_bytes + size > s.config.uncommitted_bytes_max
    if is_over and s.uncommitted_bytes and size:
        return Refused(RefusalReason.TOO_MUCH_UNCOMMITTED, s.leader)
    return None


def append_proposal(s: State, kind: EntryKind, payload: bytes) -> Proposal:
    """Append one entry of this leader's term."""
    index = Index(s.log.last_index + 1)
    s.log.append(Entry(index, s.term, kind, payload))
    s.uncommitted_bytes += len(payload)
    s.is_flush_due = True
    return Proposal(s.term, index)


def advance_commit(s: State, index: Index) -> None:
    """Move the commit index forward to `index`."""
    old = s.commit
    assert old < index <= s.log.last_index, "commit rises, within the log"
    if s.role is Role.LEADER:
        for entry in s.log.in_memory(old + 1, index):
            s.uncommitted_bytes -= len(entry.payload)
        assert s.uncommitted_bytes >= 0
    s.commit = index
    if s.orphans:
        _settle_orphans(s)


def orphan_proposals(s: State) -> None:
    """Leadership ends: the outcome of what is not committed is unknown from here on."""
    first = Index(max(s.term_start_index, s.commit) + 1)
    last = s.log.last_index
    if first > last:
        return
    s.orphans.append((s.term, first, last))
    for index in range(first, last + 1):
        s.failed[Proposal(s.term, Index(index))] = False


def forget_orphans_until(s: State, index: Index) -> None:
    """What stood up to `index` is behind a snapshot: nobody here can tell any more."""
    s.orphans = [
        (term, max(first, Index(index + 1)), last)
        for term, first, last in s.orphans
        if last > index
    ]


def _settle_orphans(s: State) -> None:
    left: list[tuple[Term, Index, Index]] = []
    for term, first, last in s.orphans:
        index = first
        while index <= min(last, s.commit) and s.log.term_at(index) == term:
            index = Index(index + 1)
        if index > last:
            continue
        if index > s.commit:
            left.append((term, index, last))
            continue
        for lost in range(index, last + 1):
            s.failed[Proposal(term, Index(lost))] = True
    s.orphans = left
