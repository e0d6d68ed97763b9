"""The pages on backups and disasters show what the commands print, and do it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from raftd.server.main import main
from tests.server.backups import MEMBERS
from tests.server.survivors import Old
from tests.structure import ROOT

_BACKUP = ROOT / "docs" / "backup.md"
_DISASTER = ROOT / "docs" / "disaster.md"
_GOLDEN = ROOT / "tests" / "golden" / "backup_v1.raftdb"

# What differs from one machine and day to the next.
_VARIABLE = re.compile(r"/[\w./-]+|\b[0-9a-f]{32,}\b|\d+")


def _blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", page.read_text())


def _shown(page: Path, command: str) -> str:
    """Return the output that a page shows for a command."""
    for block in _blocks(page, "console"):
        first, _, output = block.partition("\n")
        if first.startswith(f"$ {command}") and output:
            return output
    raise AssertionError(f"{page} shows no output of {command}")


def _plain(output: str) -> list[str]:
    return [_VARIABLE.sub("#", line).rstrip() for line in output.splitlines()]


def _run(*words: str) -> str:
    return CliRunner().invoke(main, words, catch_exceptions=False).output


def test_a_look_prints_what_the_page_shows() -> None:
    shown = _shown(_BACKUP, "raftctl backup info").splitlines()
    printed = _run("backup-info", str(_GOLDEN)).splitlines()
    assert printed[1:] == shown[1:], "only the file has another place"


def test_a_restore_prints_what_the_page_shows(tmp_path: Path) -> None:
    printed = _run(
        *("restore", str(_GOLDEN), "--node-id", "1", "--members", MEMBERS),
        *("--cluster", "prod", "--data-dir", str(tmp_path / "n1")),
    )
    assert _plain(printed) == _plain(_shown(_BACKUP, "raftctl backup restore"))


def test_the_program_on_the_page_checks_a_file(tmp_path: Path) -> None:
    (program,) = (block for block in _blocks(_BACKUP, "python") if "zlib" in block)
    file = tmp_path / "file"
    shutil.copy(_GOLDEN, file)
    words = [sys.executable, "-c", program, str(file)]
    good = subprocess.run(words, capture_output=True, text=True, check=True)
    assert int(good.stdout) == _GOLDEN.stat().st_size
    data = bytearray(file.read_bytes())
    for place in range(0, len(data), 97):
        data[place] ^= 1
        file.write_bytes(data)
        bad = subprocess.run(words, capture_output=True, check=False)
        assert bad.returncode, place
        data[place] ^= 1


def test_a_recovery_prints_what_the_page_shows(tmp_path: Path) -> None:
    old = Old(tmp_path)
    told = old.run()
    recover = "raftd recover --force-single --cluster test --config /etc/raftd.toml"
    assert _plain(told.output) == _plain(_shown(_DISASTER, recover))
    done = old.run("--others-are-gone-for-good")
    shown = _plain(_shown(_DISASTER, f"{recover} --others-are-gone-for-good"))
    assert _plain(done.output)[-len(shown) :] == shown


@pytest.mark.parametrize("page", [_BACKUP, _DISASTER])
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(
        r"\]\((\w+\.md)(#([\w-]+))?\)", page.read_text()
    ):
        text = (page.parent / target).read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        anchors = [heading.lower().replace(" ", "-") for heading in headings]
        assert not anchor or anchor in anchors, (target, anchor)
