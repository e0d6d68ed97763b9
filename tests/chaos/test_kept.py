"""What a round that fails leaves to look at, and that nothing else is named."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.chaos import run
from tests.chaos.__main__ import told_of
from tests.chaos.matrix import Round
from tests.chaos.run import RoundRun

if TYPE_CHECKING:
    from pathlib import Path

_ROUND = Round(number=0, size=3, wants=frozenset(), keeps_log=True, slices=())


def _world(folder: Path, *, is_broken: bool) -> type:
    """Make worlds whose nodes log something and do not come to work."""

    class World:
        def __init__(self, *_: object, **__: object) -> None:
            self.folder = folder

        def start(self) -> None:
            (folder / "n1.log").write_text("I cannot.")
            if is_broken:
                raise OSError("no such device")

        def wait_for_leader(self) -> int:
            return 0

        def close(self) -> None:
            shutil.rmtree(folder)

    return World


@pytest.mark.parametrize(
    ("is_broken", "why"),
    [(False, "nobody came to lead after the start"), (True, "no such device")],
)
async def test_a_round_that_fails_at_its_start_keeps_the_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str, *, is_broken: bool
) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    monkeypatch.setattr(run, "_Recorded", _world(folder, is_broken=is_broken))
    monkeypatch.setattr(run, "make_folder", lambda _: tmp_path)
    report = await RoundRun(_ROUND, {}, 1, 0.0, lambda *_: None).run()
    assert why in report.troubles[0]
    assert not folder.exists(), "the world was closed"
    assert (report.folder / "n1.log").read_text() == "I cannot."
    assert told_of(report.folder) == f"no history, logs of nodes {tmp_path}/n*.log"


def test_only_what_is_there_is_named(tmp_path: Path) -> None:
    assert told_of(tmp_path) == "no history, no logs of nodes"
    (tmp_path / "history.jsonl").touch()
    assert told_of(tmp_path).startswith(f"history {tmp_path}/history.jsonl, no logs")
