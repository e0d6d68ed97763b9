"""Refusals that several modules make: one place for their sentences and details.

Source: ERRORS.md; SEMANTICS.md section 0 ("refused naming the limit and the size").
"""

from raftd.statemachine.schema.base import Reason, Refusal

__all__ = [
    "check_name",
    "check_text",
    "compacted",
    "fenced",
    "lease_expired",
    "quota_reached",
    "session_expired",
    "too_large",
    "too_many",
]


def too_large(what: str, size: int, limit_name: str, limit: int) -> Refusal:
    """Refuse a thing over its limit."""
    return Refusal(
        Reason.TOO_LARGE,
        f"{what} is {size}, over the limit of {limit} ({limit_name})",
        {"limit": str(limit), "limit_name": limit_name, "size": str(size)},
    )


def too_many(what: str, limit_name: str, limit: int) -> Refusal:
    """Refuse one more of a bounded number of things."""
    return Refusal(
        Reason.TOO_MANY,
        f"there are already {limit} {what} ({limit_name})",
        {"limit": str(limit), "limit_name": limit_name, "size": str(limit + 1)},
    )


def quota_reached(size_bytes: int, limit_bytes: int) -> Refusal:
    """Refuse a growing write on a full state."""
    return Refusal(
        Reason.QUOTA,
        f"the state would hold {size_bytes} bytes, over state_bytes_max {limit_bytes}",
        {
            "limit": str(limit_bytes),
            "limit_name": "state_bytes_max",
            "size": str(size_bytes),
        },
    )


def lease_expired(lease: int) -> Refusal:
    """Refuse a claim on a lease that is not alive."""
    return Refusal(
        Reason.LEASE_EXPIRED,
        f"lease {lease} has ended or never was",
        {"lease": str(lease)},
    )


def session_expired(session: int) -> Refusal:
    """Refuse a new write in a session that has ended: never applied, never will be."""
    return Refusal(
        Reason.SESSION_EXPIRED,
        f"session {session} has ended",
        {"session": str(session)},
    )


def fenced(what: str, token: int, current: int) -> Refusal:
    """Refuse a token that is not, or no longer, current (0 = nobody holds)."""
    return Refusal(
        Reason.FENCED,
        f"token {token} of {what} is not current",
        {"token": str(token), "current": str(current)},
    )


def check_text(
    what: str, text: str, limit_name: str, limit_bytes: int
) -> Refusal | None:
    """Refuse a text that is too long."""
    # A character has at most four bytes; usually that is all there is to check.
    if len(text) * 4 <= limit_bytes:
        return None
    size_bytes = len(text.encode())
    if size_bytes <= limit_bytes:
        return None
    return too_large(what, size_bytes, limit_name, limit_bytes)


def check_name(what: str, name: str, limit_bytes: int) -> Refusal | None:
    """Refuse a name that is empty, too long or holds control characters."""
    if name.isascii() and name.isprintable() and 0 < len(name) <= limit_bytes:
        return None
    size_bytes = len(name.encode())
    whose = f"the name of {'an' if what[0] in 'aeiou' else 'a'} {what}"
    if size_bytes == 0:
        return Refusal(Reason.INVALID_NAME, f"{whose} is empty")
    if size_bytes > limit_bytes:
        return Refusal(
            Reason.INVALID_NAME,
            f"{whose} has {size_bytes} bytes, over the limit of {limit_bytes}",
            {"limit": str(limit_bytes), "size": str(size_bytes)},
        )
    if any(_is_control(character) for character in name):
        return Refusal(Reason.INVALID_NAME, f"{whose} holds a control character")
    return None


def _is_control(character: str) -> bool:
    # By code point and not by the Unicode tables of the running Python: members
    # may run different ones, and must agree.
    code = ord(character)
    return code < 0x20 or 0x7F <= code < 0xA0 or code in {0x2028, 0x2029}


def compacted(rev: int, compacted_rev: int) -> Refusal:
    """Refuse to look below the compaction revision."""
    return Refusal(
        Reason.COMPACTED,
        f"revision {rev} is compacted; the oldest readable one is {compacted_rev}",
        {"compacted_revision": str(compacted_rev)},
    )
