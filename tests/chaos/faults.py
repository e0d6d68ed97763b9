"""Every fault that the matrix lists, by name.

Source: RELIABILITY.md section 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.chaos.clocks import CLOCK_FAULTS
from tests.chaos.fault import Broken, Fault, Want
from tests.chaos.faults_disks import DISK_FAULTS
from tests.chaos.faults_files import FILE_FAULTS
from tests.chaos.faults_members import MEMBER_FAULTS
from tests.chaos.faults_network import NETWORK_FAULTS
from tests.chaos.faults_processes import PROCESS_FAULTS

__all__ = ["FAULTS", "Broken", "Fault", "Want", "why_not_here"]

_ALL: Final[tuple[type[Fault], ...]] = (
    *PROCESS_FAULTS,
    *NETWORK_FAULTS,
    *DISK_FAULTS,
    *CLOCK_FAULTS,
    *MEMBER_FAULTS,
    *FILE_FAULTS,
)

FAULTS: Final[Mapping[str, type[Fault]]] = MappingProxyType(
    {kind.name: kind for kind in _ALL}
)
"""Make one for each time: ``FAULTS["kill_leader"]()``."""


def why_not_here(name: str) -> str | None:
    """Say in a sentence why a fault is not possible on this machine; None if it is."""
    return FAULTS[name]().needs()
