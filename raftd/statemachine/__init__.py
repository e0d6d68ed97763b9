"""What committed commands mean: pure, synchronous, deterministic.

Knows no term, no peer, no socket and no clock: stamps come with each entry.
"""

from __future__ import annotations

__all__: list[str] = []
