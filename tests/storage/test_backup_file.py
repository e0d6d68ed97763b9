"""A backup proves itself whole: every byte counts, and old files stay readable."""

from pathlib import Path

import msgspec
import pytest

from raftd.storage.backup_file import (
    BACKUP_VERSION,
    BackupError,
    BackupHeader,
    BackupReader,
    BackupWriter,
)
from raftd.storage.chunks import Row, pack
from raftd.storage.errors import DiskFailed
from tests.structure import ROOT

_GOLDEN = ROOT / "tests" / "golden" / "backup_v1.raftdb"
_ROWS: list[Row] = [(0, b"machine", b"\x94\x01\x02\x07\x04"), (30, b"k", b"v" * 40)]


def _header(chunks: list[bytes]) -> BackupHeader:
    return BackupHeader(
        release="0.1.0",
        cluster_name="sample",
        cluster_id=b"i" * 16,
        node_id=2,
        wall_ms=1_700_000_000_000,
        index=41,
        term=3,
        revision=7,
        digest=b"d" * 32,
        roster=b"r",
        chunk_count=len(chunks),
        chunk_bytes=sum(map(len, chunks)),
    )


def _pieces(chunks: list[bytes]) -> list[bytes]:
    writer = BackupWriter()
    begin = writer.begin(_header(chunks))
    return [begin, *map(writer.add, chunks), writer.finish()]


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _read(path: Path) -> list[Row]:
    with BackupReader(path) as reader:
        return list(reader.rows())


_CHUNKS = [*pack(_ROWS), *pack([(30, b"k", None), (30, b"l", b"w")])]
_WHOLE = b"".join(_pieces(_CHUNKS))


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    with BackupReader(_file(tmp_path / "b", _WHOLE)) as reader:
        assert reader.version == BACKUP_VERSION
        assert reader.header == _header(_CHUNKS)
        assert list(reader.chunks()) == _CHUNKS
        assert len(reader.digest) == 32
    empty = b"".join(_pieces([]))
    assert _read(_file(tmp_path / "empty", empty)) == []


def test_every_flipped_bit_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for place in range(len(_WHOLE)):
        data = bytearray(_WHOLE)
        data[place] ^= 1 << place % 8
        path = _file(tmp_path / "b", bytes(data))
        with pytest.raises(BackupError) as raised:
            _read(path)
        sentence = str(raised.value)
        assert sentence.startswith(str(path)), place
        assert sentence.endswith("."), place


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for length in range(len(_WHOLE)):
        with pytest.raises(BackupError):
            _read(_file(tmp_path / "b", _WHOLE[:length]))


def test_frames_cannot_be_left_out_doubled_exchanged_or_added(tmp_path: Path) -> None:
    begin, first, second, end = _pieces(_CHUNKS)
    for wrong in (
        [begin, second, end],
        [begin, first, first, second, end],
        [begin, second, first, end],
        [begin, first, second, end, end],
        [begin, first, second, end, b"x"],
        [begin, begin[14:], first, second, end],
        [begin, *_pieces(_CHUNKS[:1])[1:]],
    ):
        with pytest.raises(BackupError):
            _read(_file(tmp_path / "b", b"".join(wrong)))


def test_other_files_and_later_versions_are_told_as_such(tmp_path: Path) -> None:
    for foreign in (b"", b"\n", b"SQLite format 3\x00" * 9, b"\x8araft"):
        with pytest.raises(BackupError, match="is not a raftd backup"):
            BackupReader(_file(tmp_path / "b", foreign))
    with pytest.raises(DiskFailed, match="Cannot read"):
        BackupReader(tmp_path / "none")
    with pytest.raises(DiskFailed, match="Cannot read"):
        BackupReader(tmp_path)


def test_a_later_version_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raftd.storage.backup_file.BACKUP_VERSION", BACKUP_VERSION + 1)
    path = _file(tmp_path / "b", b"".join(_pieces(_CHUNKS)))
    monkeypatch.undo()
    with pytest.raises(BackupError, match="made by a later raftd"):
        BackupReader(path)


def test_fields_that_a_later_release_adds_are_passed_over(tmp_path: Path) -> None:
    class Later(BackupHeader, frozen=True, kw_only=True):
        colour: str = "blue"

    header = Later(**msgspec.structs.asdict(_header(_CHUNKS)))
    writer = BackupWriter()
    pieces = [writer.begin(header), *map(writer.add, _CHUNKS), writer.finish()]
    assert b"colour" in pieces[0]
    with BackupReader(_file(tmp_path / "b", b"".join(pieces))) as reader:
        assert reader.header.revision == 7
        assert list(reader.chunks()) == _CHUNKS


def test_the_first_version_ever_released_is_still_read() -> None:
    """The file stays as it is for ever; a new version gets a file of its own."""
    with BackupReader(_GOLDEN) as reader:
        assert reader.version == 1
        header = reader.header
        assert (header.release, header.cluster_name) == ("0.1.0", "sample")
        assert header.cluster_id == b"sample cluster 1"
        assert (header.node_id, header.term) == (2, 3)
        rows = list(reader.rows())
        assert reader.digest.hex()[:16] == "81f9310113af583e"
    assert len(rows) == 24
