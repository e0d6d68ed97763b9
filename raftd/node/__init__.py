"""Where the core, the machine and the store meet.

``replica`` is synchronous and decides; ``driver`` is asyncio and carries out.
"""

from __future__ import annotations

__all__: list[str] = []
