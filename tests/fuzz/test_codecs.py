"""Codecs: what they encode they decode; what is not theirs they refuse by name.

Source: RELIABILITY.md section 6 ("round-trip of every row codec").
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import strategies as st

from raftd.statemachine.schema.entry import Batch
from tests.fuzz.codecs import BATCHES, CODECS, Codec, encode_sealed
from tests.fuzz.mutation import bad
from tests.fuzz.profiles import fuzzed

ALL = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)


@ALL
@fuzzed(40, data=st.data())
def test_what_is_encoded_is_decoded(codec: Codec, data: st.DataObject) -> None:
    value = data.draw(codec.values)
    encoded = codec.encode(value)
    assert codec.decode(encoded) == value
    assert codec.encode(codec.decode(encoded)) == encoded


@fuzzed(60, batch=BATCHES)
def test_a_request_that_was_sealed_is_part_of_its_batch(batch: Batch) -> None:
    assert encode_sealed(batch) == msgspec.msgpack.encode(batch)


@ALL
@fuzzed(120, data=st.data())
def test_bad_bytes_are_refused_or_mean_something(
    codec: Codec, data: st.DataObject
) -> None:
    wire = data.draw(bad(codec.values.map(codec.encode)))
    try:
        value = codec.decode(wire)
    except codec.refuses:
        return
    for each in value if isinstance(value, list) else [value]:
        whole = [each] if codec.is_list else each
        assert codec.decode(codec.encode(whole)) == whole
