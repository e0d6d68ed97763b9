"""Which ports a development cluster gets, and keeps."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from raftd.server import dev
from raftd.server.dev import DevError, choose_ports
from tests.ports import HOST, free_range

SIZE = 23
"""Ports from the first to the last that three nodes take."""


def test_a_folder_keeps_its_ports_until_others_are_asked_for(tmp_path: Path) -> None:
    first = free_range(SIZE)
    chosen = choose_ports(3, tmp_path, first)
    assert chosen[0][0] == first
    assert chosen[2] == (first + 20, first + 21, first + 22)
    assert choose_ports(3, tmp_path, None) == chosen
    assert choose_ports(3, tmp_path, 0) == chosen
    moved = choose_ports(3, tmp_path, free_range(SIZE))
    assert moved != chosen
    assert choose_ports(3, tmp_path, None) == moved


def test_without_a_word_the_first_ports_are_the_documented_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = free_range(SIZE)
    monkeypatch.setattr(dev, "FIRST_PORT", first)
    assert choose_ports(1, tmp_path, None) == [(first, first + 1, first + 2)]


def test_a_port_in_use_and_another_size_are_sentences(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        with pytest.raises(DevError, match="is in use"):
            choose_ports(1, tmp_path, taken.getsockname()[1])
    chosen = choose_ports(1, tmp_path, 0)
    assert len(chosen) == 1
    with pytest.raises(DevError, match="a cluster of 1 nodes, not of 3"):
        choose_ports(3, tmp_path, None)
