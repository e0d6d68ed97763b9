"""Texts that people write: transactions, durations, endpoints, addresses, settings.

Proved: whatever is written is taken or refused in the reader's own words, never by an
error of Python; and what was taken can be sent.

Source: CLI.md; RELIABILITY.md section 6.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from pathlib import Path
from typing import Any, Final, cast

import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from raftclient import InvalidRequest
from raftclient._clock import to_ms
from raftclient._endpoints import parse_endpoints
from raftclient.txn import Transaction
from raftctl.durations import SPAN_S_MAX, format_ms, parse_duration_s
from raftctl.guarded import ON_LOST
from raftctl.kv import _Fence
from raftctl.main import cli
from raftctl.params import BYTES
from raftctl.txn_json import _COMPARES, _OPS, TxnError, fill
from raftd.server.config import ConfigError, load_settings, options
from raftd.transport.address_book import split_address
from tests.fuzz.mutation import harmed
from tests.fuzz.profiles import fuzzed

OPTIONS: Final = options()
JUNK: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([2**31, 2**32, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**400]),
    st.floats(),
    st.sampled_from(["", "text", "==", "<", "\ud800", "\0", "x" * 300]),
    st.sampled_from([{"b64": "AAA="}, {"b64": "!"}, {"b64": 1}, {"b64": "", "a": 1}]),
    st.recursive(st.just([]), lambda inner: st.lists(inner, max_size=2), max_leaves=3),
)
_FIELD_NAMES: Final = sorted(
    {
        field
        for forms in (_COMPARES, _OPS)
        for name, (_, required, optional) in forms.items()
        for field in (*name.split(), *required, *optional)
    }
    | {"nonsense"}
)


@st.composite
def _items(draw: st.DrawFn, forms: Any) -> dict[str, Any]:
    """Return a compare or an operation, often with the fields that it has."""
    name = draw(st.sampled_from(sorted(forms)))
    _, required, optional = forms[name]
    wanted = [*name.split(), *sorted(required)]
    wanted += draw(st.lists(st.sampled_from([*optional, *_FIELD_NAMES]), max_size=2))
    return {field: draw(st.one_of(st.sampled_from(["n", 1]), JUNK)) for field in wanted}


TRANSACTIONS: Final = st.fixed_dictionaries(
    {},
    optional={
        "when": st.one_of(st.lists(_items(_COMPARES), max_size=2), JUNK),
        "then": st.lists(_items(_OPS), max_size=3),
        "else": st.lists(_items(_OPS), max_size=2),
        "other": JUNK,
    },
)


class _Wire:
    """Stands where a client's connection is: takes what would be sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def write(self, request: Any, *_: Any, **__: Any) -> Any:
        self.sent.append(request.SerializeToString())
        raise ConnectionError("nobody is there")


def take(text: str) -> None:
    """Read a transaction and send it, or have it refused."""
    wire = _Wire()
    transaction = Transaction(cast("Any", wire))
    try:
        fill(transaction, text)
    except TxnError:
        return
    with contextlib.suppress(ConnectionError):
        asyncio.run(transaction.commit())
    assert wire.sent


@fuzzed(400, found=st.one_of(TRANSACTIONS, TRANSACTIONS, JUNK))
def test_a_transaction_is_taken_or_refused_in_a_sentence(found: Any) -> None:
    take(json.dumps(found))


@st.composite
def _json_texts(draw: st.DrawFn) -> str:
    text = json.dumps(draw(TRANSACTIONS)).encode()
    return harmed(draw, text).decode("utf-8", "surrogateescape")


@fuzzed(150, text=st.one_of(_json_texts(), st.just("[" * 100_000)))
def test_a_text_that_is_no_transaction_is_refused_in_a_sentence(text: str) -> None:
    take(text)


NUMBERS: Final = st.sampled_from(["0", "5", "0.5", "1e3", "9" * 32, "-1", "inf", "½"])
DURATIONS: Final = st.one_of(
    st.text(max_size=8),
    st.lists(
        st.tuples(NUMBERS, st.sampled_from(["ms", "s", "m", "h", "d", "", "w"])),
        max_size=3,
    ).map(lambda parts: "".join(map("".join, parts))),
)


@fuzzed(200, text=DURATIONS)
def test_a_duration_is_a_number_of_seconds_that_can_be_sent(text: str) -> None:
    with contextlib.suppress(ValueError):
        seconds = parse_duration_s(text)
        assert math.isfinite(seconds)
        assert 0 <= to_ms(seconds) < 1 << 64


@fuzzed(100, span_ms=st.integers(0, SPAN_S_MAX * 1000))
def test_a_duration_that_was_written_reads_back_within_its_units(span_ms: int) -> None:
    read_ms = parse_duration_s(format_ms(span_ms)) * 1000
    assert span_ms * 0.9 - 60 <= read_ms <= span_ms + 60


HOSTS: Final = st.sampled_from(["h", "", "::1", "[::1]", "a b", "1.2.3.4", "é", "\0"])
PORTS: Final = st.sampled_from(["7400", "", "0", "65536", "-1", "٣", "1 ", "9" * 9])
ADDRESSES: Final = st.one_of(
    st.tuples(HOSTS, st.sampled_from([":", "", ":::"]), PORTS).map("".join),
    st.text(max_size=10),
)


@fuzzed(200, texts=st.lists(ADDRESSES, max_size=3))
def test_endpoints_are_addresses_or_are_refused(texts: list[str]) -> None:
    with contextlib.suppress(InvalidRequest):
        for endpoint in parse_endpoints(",".join(texts)):
            host, _, port = endpoint.rpartition(":")
            assert host
            assert 0 < int(port) < 65536


@fuzzed(150, text=ADDRESSES)
def test_an_address_in_the_log_is_split_or_is_none(text: str) -> None:
    found = split_address(text)
    if found is not None:
        assert found[0]
        assert 0 < found[1] < 65536


@fuzzed(100, text=st.one_of(ADDRESSES, st.text(max_size=6)))
def test_flags_of_a_command_are_taken_or_refused(text: str) -> None:
    for kind in (BYTES, _Fence(), ON_LOST):
        with contextlib.suppress(ValueError):
            kind.parse(text)


@pytest.mark.parametrize(
    "line",
    [
        ["lease", "get", "99999999999999999999"],
        ["lease", "get", "--", "-1"],
        ["job", "wait", str(1 << 63)],
        ["ls", "--limit", str(1 << 32)],
        ["get", "k", "--rev", str(1 << 64)],
        ["incr", "k", str(1 << 63)],
        ["lock", "get", "\udcff"],
        ["put", "k", "v", "--fence", "l:" + "9" * 30],
    ],
    ids=lambda line: " ".join(line)[:24].encode("ascii", "replace").decode(),
)
def test_what_no_request_can_carry_is_refused_as_usage(line: list[str]) -> None:
    ran = CliRunner().invoke(cli, line)
    assert ran.exit_code == 2, ran.output
    assert isinstance(ran.exception, SystemExit)


MEMBERS: Final = st.sampled_from(
    ["1=n@h:1/h:2", "2=m@[::1]:1/h:3", "0=n@h:1/h:2", "1=n@h:1", "x", ""]
)
OPTION_TEXTS: Final = st.one_of(
    ADDRESSES,
    NUMBERS,
    st.lists(MEMBERS, max_size=3).map(",".join),
    st.sampled_from(["", "true", "9" * 5000, "\0", "a\nb", " n "]),
)


@fuzzed(250, option=st.sampled_from(OPTIONS), text=OPTION_TEXTS)
def test_a_setting_is_taken_or_refused_from_text(option: Any, text: str) -> None:
    with contextlib.suppress(ValueError):
        option.kind.from_text(text)


@fuzzed(250, option=st.sampled_from(OPTIONS), value=JUNK)
def test_a_setting_is_taken_or_refused_from_the_file(option: Any, value: Any) -> None:
    with contextlib.suppress(ValueError):
        option.kind.from_file(value)


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    lines = []
    for _ in range(draw(st.integers(0, 4))):
        option = draw(st.sampled_from(OPTIONS))
        value = draw(
            st.sampled_from(
                ['"n"', "1", "-1", "1.5", "true", "[]", '"h:1"', "2020-01-01"]
            )
        )
        lines.append(f"{option.name} = {value}")
    text = "\n".join(lines).encode()
    return harmed(draw, text) if draw(st.booleans()) else text


@fuzzed(150, content=_files())
def test_a_file_of_settings_is_taken_or_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "raftd.toml"
    file.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load_settings(file, environ={}, flags={"node_id": "1"})
