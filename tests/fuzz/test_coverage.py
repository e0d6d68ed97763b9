"""Which decoder is given bad input by which test; new ones without one are found.

A module decodes if it makes something of bytes or text that others wrote: it has a
function that is named so, or calls a library that does. This is all of them:

module                                  read from          tested, in tests/, by
client/raftclient/_endpoints.py         people             fuzz/test_texts.py
client/raftclient/_status.py            members, proxies   fuzz/test_client_bytes.py
client/raftclient/_wire.py              itself             fuzz/test_client_bytes.py
client/raftctl/backup.py                raftd, its child   cli/test_backup.py
client/raftctl/durations.py             people             fuzz/test_texts.py
client/raftctl/guarded.py               people             fuzz/test_texts.py
client/raftctl/kv.py                    people             fuzz/test_texts.py
client/raftctl/options.py                people             fuzz/test_texts.py
client/raftctl/params.py                people             fuzz/test_texts.py
client/raftctl/txn_json.py              people             fuzz/test_texts.py
raftd/api/kv.py                         clients            fuzz/test_api.py
raftd/api/relay.py                      clients            fuzz/test_api.py
raftd/api/stream.py                     clients            fuzz/test_api.py
raftd/api/unary.py                      clients            fuzz/test_api.py
raftd/consensus/changes.py              members, log.db    fuzz/test_codecs.py
raftd/node/peer_calls.py                members            fuzz/test_codecs.py
raftd/node/peer_service.py              members            fuzz/test_codecs.py
raftd/node/roster.py                    members, state.db  fuzz/test_codecs.py
raftd/server/config.py                  people             fuzz/test_texts.py
raftd/server/dev.py                     itself             fuzz/test_client_bytes.py
raftd/server/option_kinds.py            people             fuzz/test_texts.py
raftd/sockets/cut.py                    strangers          fuzz/test_client_port.py
raftd/statemachine/election_state.py    state.db, members  fuzz/test_rows.py
raftd/statemachine/history.py           state.db, members  fuzz/test_rows.py
raftd/statemachine/kv.py                state.db, members  fuzz/test_rows.py
raftd/statemachine/leases.py            state.db, members  fuzz/test_rows.py
raftd/statemachine/lock_state.py        state.db, members  fuzz/test_rows.py
raftd/statemachine/meta.py              state.db, members  fuzz/test_codecs.py
raftd/statemachine/queues/client_ids.py state.db, members  fuzz/test_rows.py
raftd/statemachine/queues/jobs.py       state.db, members  fuzz/test_rows.py
raftd/statemachine/queues/queue.py      state.db, members  fuzz/test_rows.py
raftd/statemachine/queues/tasks.py      state.db, members  fuzz/test_rows.py
raftd/statemachine/queues/unique.py     state.db, members  fuzz/test_rows.py
raftd/statemachine/schema/entry.py      log.db, members    fuzz/test_codecs.py
raftd/statemachine/rows.py              itself             statemachine/test_rows.py
raftd/statemachine/sessions.py          state.db, members  fuzz/test_rows.py
raftd/statemachine/tables.py            state.db, members  fuzz/test_rows.py
raftd/statemachine/waiters.py           state.db, members  fuzz/test_rows.py
raftd/storage/backup_file.py            operators          storage/test_backup_file.py
raftd/storage/chunks.py                 state.db, members  fuzz/test_codecs.py
raftd/storage/files.py                  log.db, state.db   fuzz/test_codecs.py
raftd/storage/state_reader.py           state.db           fuzz/test_files.py
raftd/storage/wal.py                    log.db-wal         storage/test_damage.py
raftd/transport/address_book.py         members            fuzz/test_texts.py
raftd/transport/frames.py               strangers          fuzz/test_links.py

What commands mean, whatever stands in them, is in test_anything.py and in the machines
of rules beside it.
"""

from __future__ import annotations

import re
from typing import Final

from tests.structure import ROOT, Source, sources

_ROW: Final = re.compile(r"^((?:raftd|client)/\S+) +\S.*? +(\S+\.py)$", re.MULTILINE)
_NAMED: Final = re.compile(
    r"\bdef _?(?:decode|from_bytes|from_text|from_file|parse|unpack)"
)
_LIBRARY: Final = re.compile(
    r"msgpack\.Decoder|msgpack\.decode|FromString\(|json\.loads|json\.decode"
    r"|tomllib\.load|\.unpack\(|unpack_from\(|int\.from_bytes\(token|split_address"
)


def _table() -> dict[str, str]:
    return dict(_ROW.findall(__doc__ or ""))


def _decodes(file: Source) -> bool:
    return bool(_NAMED.search(file.text) or _LIBRARY.search(file.text))


def test_every_module_that_decodes_is_in_the_table() -> None:
    found = {
        file.name
        for file in sources()
        if file.name.startswith(("raftd/", "client/")) and _decodes(file)
    }
    missing = found - _table().keys()
    assert not missing, f"say in the table above what gives these bad bytes: {missing}"
    gone = _table().keys() - found
    assert not gone, f"the table has modules that decode nothing: {gone}"


def test_every_test_of_the_table_exists() -> None:
    for module, test in _table().items():
        assert (ROOT / "tests" / test).is_file(), f"{module}: there is no {test}"
