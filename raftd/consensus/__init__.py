"""Raft and nothing else: a pure core that carries bytes.

It knows no lock, no clock and no socket. Messages, ticks, proposals and disk
completions go in; `Core.ready` is the only way out. The same inputs give the same
outputs, in the same order.

Inside, one direction of imports, each file one idea:
`core` (the face) > `output` > `voting` > `following`, `transfer`, `reads`,
`replication` > `roles` > `state` > `progress`, `log`, `quorum` > `messages`, `types`.

Source: Ongaro and Ousterhout, "In search of an understandable consensus algorithm"
(the paper); Ongaro, "Consensus: bridging theory and practice" (the thesis);
RELIABILITY.md sections 1 and 2 (the numbered rules).
"""

__all__: list[str] = []
