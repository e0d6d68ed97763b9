"""What the machine of one queue draws: jobs, settings, times.

No two times add up to a third, so that little falls due at one instant.
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.jobs import JobSpec, OnConflict, UniqueSpec, UniqueUntil

__all__ = ["LIMITS", "PICKS", "SETTINGS", "SPECS", "Q"]

Q: Final = "q"
LIMITS: Final = Limits(done_kept_max=2, dead_kept_max=3)
PICKS: Final = st.integers(0, 5)
UNIQUES: Final = st.one_of(
    st.none(),
    st.none(),
    st.builds(
        UniqueSpec,
        st.sampled_from("uvw"),
        st.sampled_from(UniqueUntil),
        st.just(3307),
        st.sampled_from(OnConflict),
    ),
)
SPECS: Final = st.builds(
    JobSpec,
    st.just(Q),
    st.sampled_from([b"", b"payload"]),
    type=st.sampled_from(["", "t"]),
    priority=st.sampled_from([0, 5, 5]),
    delay_ms=st.sampled_from([None, None, None, 0, 811]),
    max_attempts=st.sampled_from([None, None, 1]),
    reservation_ms=st.sampled_from([None, None, 1409]),
    max_runtime_ms=st.sampled_from([None, None, 2003]),
    deadline_ms=st.sampled_from([None, None, None, None, 1117]),
    unique=UNIQUES,
)
SETTINGS: Final = st.fixed_dictionaries(
    {},
    optional={
        "depth_max": st.sampled_from([3, 1000]),
        "max_attempts": st.integers(1, 3),
        "max_crashes": st.integers(1, 3),
        "backoff_base_ms": st.sampled_from([0, 500, 1301]),
        "reservation_ms": st.sampled_from([1801, 4000]),
        "grace_ms": st.sampled_from([0, 0, 607]),
        "concurrency_max": st.sampled_from([0, 0, 1, 2]),
        "may_complete_late": st.booleans(),
        "done_retention_ms": st.sampled_from([5003, 20_000]),
        "dead_retention_ms": st.sampled_from([7001, 30_000]),
    },
)
