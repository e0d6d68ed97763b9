"""The doors for clients: translate and refuse, nothing else.

Every RPC is one entry of a table (``calls``), written once per primitive: how its
request becomes a command, a query or a watch, and how the answer becomes its response.
Unary calls (``unary``) and session streams (``stream``) both run from that table, so
the two doors cannot differ.

Trade-off. Handlers take raw bytes and parse them here, instead of the generated
servicers: malformed and oversized requests then end in a row of the error table like
every other refusal, and no RPC has a handler of its own.

Source: DESIGN.md sections 3 and 7.
"""

from __future__ import annotations

__all__: list[str] = []
