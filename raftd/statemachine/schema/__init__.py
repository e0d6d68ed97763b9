"""The vocabulary of the log: commands in, results out.

One file per primitive, no behaviour; ``entry`` closes the unions.
"""

from __future__ import annotations

__all__: list[str] = []
