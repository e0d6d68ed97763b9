"""How quick-checks run, and the definition of a majority.

A loaded machine is no failure: there are no deadlines.
"""

from itertools import combinations

from hypothesis import HealthCheck, settings

from raftd.consensus import NodeId

__all__ = ["QUICK", "majorities"]

QUICK = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def majorities(voters: tuple[NodeId, ...]) -> list[frozenset[NodeId]]:
    """Every subset of more than half."""
    sizes = [n for n in range(len(voters) + 1) if 2 * n > len(voters)]
    return [frozenset(c) for n in sizes for c in combinations(voters, n)]
