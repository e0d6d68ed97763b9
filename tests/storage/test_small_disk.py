"""The stores on a disk of a few megabytes that fills up, as `full_disk` has it."""

from pathlib import Path

import pytest

from tests.storage import small_disk
from tests.storage.full_disk import MIB, SCENARIOS

SIZES = {"fold_without_room": 64 * MIB}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_on_a_disk_that_is_really_full(tmp_path: Path, scenario: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        small_disk.run(scenario, disk, SIZES.get(scenario, 12 * MIB))
    except small_disk.WhyNot as reason:
        pytest.skip(f"{reason}; `test_refused_writes` plants the errors instead")
