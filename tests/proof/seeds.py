"""Fresh seeds that the commit decides: new with each change, and the same on each run.

Rules: a red run is repeated from its commit alone. Where there is no history (an
unpacked archive), the sources themselves decide.

Source: RELIABILITY.md section 6 (budgets).
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["commit_id", "fresh_seeds"]

ROOT: Final = Path(__file__).parents[2]
_SEED_BYTES: Final = 6


def commit_id() -> str:
    """Return the commit that is checked out, or a digest of the sources without one."""
    found = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0 and (ROOT / ".git").exists():
        return found.stdout.strip()
    digest = hashlib.sha256()
    for folder in ("raftd", "client", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:40]


def fresh_seeds(purpose: str, count: int, commit: str | None = None) -> list[int]:
    """Return seeds that nobody chose.

    Args:
        purpose: Keeps what different programs draw apart, such as ``"sim_a"``.
        count: How many; the first ones are the same for any count.
        commit: Of another commit than the one checked out.
    """
    base = commit or commit_id()
    return [
        int.from_bytes(
            hashlib.sha256(f"{base}/{purpose}/{n}".encode()).digest()[:_SEED_BYTES]
        )
        for n in range(count)
    ]
