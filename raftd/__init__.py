"""raftd: leases, locks, elections, jobs and keys on one replicated log.

The packages inside, and who may import whom, are in docs/ARCHITECTURE.md.
"""
