"""A caller of everything: keys, claims and jobs.

Source: DESIGN.md section 9.
"""

from __future__ import annotations

from tests.workload.claim_calls import ClaimCalls
from tests.workload.job_calls import JobCalls
from tests.workload.kv_calls import KvCalls

__all__ = ["Caller"]


class Caller(KvCalls, ClaimCalls, JobCalls):
    """One caller, with all recorded calls."""
