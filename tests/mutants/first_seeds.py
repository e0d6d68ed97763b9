"""From which seed on the gate looks for each planted bug.

Written by ``python -m tests.mutants --freeze``; to be written anew when the draws of a
finder have changed and the gate says that it misses a bug.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FIRST_SEEDS"]

FIRST_SEEDS: Final[dict[str, int]] = {
    "vote-forgotten": 14,
    "term-forgotten": 1,
    "votes-for-everybody": 27,
    "no-up-to-date-check": 1,
    "quorum-off-by-one": 32,
    "elected-by-half": 2,
    "ack-before-sync": 57,
    "leader-counts-itself": 15,
    "aba-completion": 9,
    "commit-past-match": 11,
    "stale-truncation": 2,
    "old-leader-unanswered": 6,
    "lost-window": 4,
    "read-of-a-follower": 32,
    "read-before-noop": 2,
    "read-before-apply": 12,
    "change-before-the-no-op": 12,
    "two-changes-at-once": 12,
    "change-without-apply": 1,
    "joint-half": 6,
    "joint-for-ever": 5,
    "learner-counted": 18,
    "removed-counts-itself": 5,
    "id-reused": 1,
    "told-too-early": 16,
    "install-acked-early": 3,
    "install-keeps-suffix": 16,
    "old-state-over-new": 12,
    "snapshot-without-sessions": 12,
    "snapshot-without-members": 3,
    "window-not-in-checkpoint": 2,
    "log-cut-too-far": 38,
    "another's-answer": 26,
    "clock-uncapped": 6,
    "clock-of-the-machine": 25,
    "renewed-early": 7,
    "full-disk-swallowed": 12,
    "sync-error-swallowed": 35,
    "applied-index-apart": 10,
    "window-ignored": 11,
    "closed-session-writes": 13,
    "dead-waiter": 10,
    "lost-waiter": 20,
    "expiry-of-an-old-deadline": 4,
    "timers-before-renewals": 8,
    "renewal-shortens": 11,
    "lock-token-unchecked": 16,
    "job-token-unchecked": 4,
    "double-reserve": 6,
    "reserve-not-kept": 6,
    "client-id-forgotten": 6,
    "job-lost-with-its-worker": 6,
    "watch-begins-late": 4,
    "watch-passes-over": 3,
    "fence-unchecked": 4,
    "retry-under-a-new-number": 2,
    "unknown-told-as-not-applied": 3,
    "watch-resumed-late": 6,
    "watch-resumed-early": 6,
}
