"""How each member is to be spoken to: in a plain stream, or through gRPC.

Rules:

* A plain stream is tried first. Who answers in other words is spoken to through gRPC
  for a while.
* Silence says nothing by itself: a member that stops hangs up, one that stands still
  lets wait. Who has not greeted back twice in a row is asked through gRPC. Only when
  that is answered, one more plain try decides.

Source: docs/adr/0018.
"""

from __future__ import annotations

from typing import Final

import msgspec

__all__ = ["Dialects"]

ASK_AGAIN_S: Final = 60.0
"""For so long somebody is taken at its word that it knows no plain streams."""
_FAILURES_MAX: Final = 2


class _Heard(msgspec.Struct):
    """What is known of one address.

    Attributes:
        failures: Plain tries in a row that were not greeted back.
        answers_rpc: Whether gRPC was answered after that.
        until_s: Until when it is spoken to through gRPC; the clock is the loop's.
    """

    failures: int = 0
    answers_rpc: bool = False
    until_s: float = float("-inf")


class Dialects:
    """What one client knows of all addresses."""

    def __init__(self) -> None:
        self._heard: Final[dict[str, _Heard]] = {}

    def is_plain(self, address: str, now_s: float) -> bool:
        """Tell whether the next stream to an address is to be a plain one."""
        heard = self._heard.get(address)
        if heard is None:
            return True
        if now_s < heard.until_s:
            return False
        return heard.answers_rpc or heard.failures < _FAILURES_MAX

    def note_greeted(self, address: str) -> None:
        """Somebody greeted back."""
        self._heard.pop(address, None)

    def note_other(self, address: str, now_s: float) -> None:
        """Somebody answered in other words."""
        self._heard[address] = _Heard(until_s=now_s + ASK_AGAIN_S)

    def note_unheard(self, address: str, now_s: float) -> None:
        """A plain try was not greeted back, or did not even get there."""
        heard = self._heard.setdefault(address, _Heard())
        if heard.answers_rpc:
            self.note_other(address, now_s)
        else:
            heard.failures += 1

    def note_rpc(self, address: str, now_s: float, *, is_answered: bool) -> bool:
        """Take what became of a stream through gRPC.

        Returns:
            Whether a plain one is worth a try instead.
        """
        heard = self._heard.get(address)
        if heard is None or now_s < heard.until_s:
            return False
        if not is_answered:
            del self._heard[address]
            return False
        heard.answers_rpc = True
        return heard.failures > 0
