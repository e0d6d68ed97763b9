"""Keys, ranges, watches, compaction, transactions and leases, against the model.

After every step: each revision that may be read reads as the model has it, from the
front, in pages and by count; every watch from every readable revision sees all events,
once, in order, with what they replaced; the size is right to the byte. A restart in
between changes nothing, and the log from the start gives the same rows.

Source: SEMANTICS.md sections 1 to 3; RELIABILITY.md section 4 (watch).
"""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from raftd.statemachine.answers import Answer
from raftd.statemachine.kv import KeyPage
from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Fence, FenceKind, Reason, Refusal
from raftd.statemachine.schema.kv import (
    CompactHistory,
    DeleteKey,
    DeleteRange,
    GetKey,
    HistoryCompacted,
    IncrementKey,
    KeyValue,
    PutKey,
)
from raftd.statemachine.schema.leases import (
    GrantLease,
    LeaseGranted,
    LeaseRevoked,
    RevokeLease,
)
from raftd.statemachine.schema.txn import (
    Compare,
    CompareOp,
    CompareTarget,
    Transact,
    Transacted,
)
from tests.fuzz.models_kv import KeyOp, KvModel, No
from tests.fuzz.profiles import FuzzMachine, case_of
from tests.fuzz.replay import check_replay, restarted
from tests.statemachine.harness import Harness

KEPT_REVISIONS: Final = 40
KEPT_MS: Final = 2000
LIMITS: Final = Limits(
    state_bytes_max=3000,
    lease_attachments_max=3,
    range_delete_keys_max=4,
    history_revisions_min=KEPT_REVISIONS,
    history_ms_max=KEPT_MS,
    work_rows_max=4,
)
_FEW: Final = [b"a", b"a\0", b"b", b"ba", b"c", b"\xff"]
KEYS: Final = st.sampled_from([*_FEW, *_FEW, b""])
KEYS_AND_END: Final = st.sampled_from([*_FEW, b""])
VALUES: Final = st.sampled_from(
    [b"", b"0", b"-1", b"+1", b"- 1", b"9223372036854775807", b"x" * 300, b"1\n"]
)
PICKS: Final = st.integers(0, 4)
REVISIONS: Final = st.one_of(st.none(), st.none(), st.integers(0, 3))
TARGETS: Final = st.sampled_from([it for it in CompareTarget if it <= 7])
WRITES: Final = st.one_of(
    st.builds(PutKey, KEYS, VALUES, PICKS, REVISIONS, st.booleans()),
    st.builds(PutKey, KEYS, VALUES, st.just(0)),
    st.builds(DeleteKey, KEYS, REVISIONS, st.booleans()),
    st.builds(DeleteRange, KEYS, KEYS_AND_END),
    st.builds(IncrementKey, KEYS, st.sampled_from([1, -3, 1 << 62]), PICKS),
)
OPS: Final = st.one_of(WRITES, WRITES, st.builds(GetKey, KEYS))
_TWO: Final = st.sampled_from([b"a", b"b"])
CROWDED: Final = st.one_of(
    st.builds(PutKey, _TWO, st.sampled_from([b"0", b"text"])),
    st.builds(DeleteKey, _TWO),
    st.builds(DeleteKey, _TWO),
    st.builds(IncrementKey, _TWO, st.just(1)),
)
COMPARES: Final = st.builds(
    Compare,
    TARGETS,
    st.sampled_from(CompareOp),
    KEYS,
    st.just(""),
    st.just(0),
    st.integers(0, 3),
    VALUES,
)


class Keys(FuzzMachine):
    """One machine and one model, told the same."""

    @initialize()
    def begin(self) -> None:
        self.harness = Harness(LIMITS)
        self.model = KvModel(
            state_bytes_max=LIMITS.state_bytes_max,
            attachments_max=LIMITS.lease_attachments_max,
            range_keys_max=LIMITS.range_delete_keys_max,
        )
        self.model.now_ms = self.harness.now_ms
        self.compacted = self.told = 0
        self.record_ms: dict[int, int] = {}
        """When the entry was applied that brought each revision."""

    # --- rules -------------------------------------------------------------------

    @rule(ops=st.lists(WRITES, min_size=1, max_size=8))
    def do_some(self, ops: list[KeyOp]) -> None:
        for op in ops:
            self.do_one(op)

    def do_one(self, op: KeyOp) -> None:
        op = self.with_real_ids(op)
        assert not isinstance(op, GetKey), "a read is no entry"
        answer = self.harness.do(op)
        try:
            (expected,) = self.model.run(op)
        except No as no:
            self.refused(answer, no)
        else:
            assert answer == expected

    @rule(
        compares=st.lists(COMPARES, max_size=2),
        then=st.lists(OPS, max_size=5),
        orelse=st.lists(OPS, max_size=2),
        fence=st.sampled_from([None, None, None, 1, 4]),
    )
    def transact(
        self,
        compares: list[Compare],
        then: list[KeyOp],
        orelse: list[KeyOp],
        fence: int | None,
    ) -> None:
        compares = [self.with_real_number(compare) for compare in compares]
        then = [self.with_real_ids(op) for op in then]
        orelse = [self.with_real_ids(op) for op in orelse]
        fences: tuple[Fence, ...] = ()
        if fence is not None:
            fences = (Fence(FenceKind.LEASE, "", self.lease(fence)),)
        answer = self.harness.do(
            Transact(tuple(compares), tuple(then), tuple(orelse)), *fences
        )
        if fences and fences[0].token not in self.model.leases:
            self.refused(answer, No(Reason.LEASE_EXPIRED))
            return
        is_met = all(self.model.holds(compare) for compare in compares)
        try:
            results = self.model.run(*(then if is_met else orelse))
        except No as no:
            self.refused(answer, no)
        else:
            assert answer == Transacted(is_met, tuple(results))

    @rule(ops=st.lists(CROWDED, min_size=2, max_size=6))
    def rewrite(self, ops: list[KeyOp]) -> None:
        """Many changes of few keys at one revision are one change of each."""
        self.transact([], ops, [], None)

    @rule(ttl_ms=st.sampled_from([1000, 3000]))
    def grant(self, ttl_ms: int) -> None:
        answer = self.harness.do(GrantLease(ttl_ms, "me"))
        try:
            lease = self.model.grant(ttl_ms)
        except No as no:
            self.refused(answer, no)
        else:
            assert answer == LeaseGranted(lease, ttl_ms)

    @rule(pick=PICKS)
    def revoke(self, pick: int) -> None:
        lease = self.lease(pick)
        answer = self.harness.do(RevokeLease(lease))
        try:
            attachments = self.model.revoke(lease)
        except No as no:
            self.refused(answer, no)
        else:
            assert answer == LeaseRevoked(attachments)

    @rule(
        spans=st.lists(
            st.tuples(
                st.sampled_from([1, 900, 900, 2500]), st.lists(PICKS, max_size=3)
            ),
            min_size=1,
            max_size=4,
        )
    )
    def time_passes(self, spans: list[tuple[int, list[int]]]) -> None:
        for span_ms, picks in spans:
            self.pass_ms(span_ms, picks)

    def pass_ms(self, span_ms: int, picks: list[int]) -> None:
        renewals = tuple(self.lease(pick) for pick in picks)
        applied = self.harness.entry(renewals=renewals, after_ms=span_ms)
        self.settle()
        assert list(applied.lost) == self.model.pass_ms(span_ms, renewals)

    @rule(behind=st.integers(-1, 60))
    def compact(self, behind: int) -> None:
        revision = max(0, self.model.revision - behind)
        answer = self.harness.do(CompactHistory(revision))
        if revision > self.model.revision:
            self.refused(answer, No(Reason.PRECONDITION))
            return
        assert isinstance(answer, HistoryCompacted)
        assert answer.revision >= revision
        self.compacted = max(self.compacted, revision)

    @rule()
    def restart(self) -> None:
        self.harness = restarted(self.harness, LIMITS)

    # --- what must hold ----------------------------------------------------------

    @invariant()
    def all_is_well(self) -> None:
        if hasattr(self, "harness"):
            self.counted_right()
            self.only_the_old_is_forgotten()
            self.events_are_told()
            self.all_that_may_be_read_reads_right()

    def counted_right(self) -> None:
        machine = self.harness.machine
        assert machine.context.size_bytes == self.model.size_bytes
        assert machine.revision == self.model.revision
        assert machine.kv.count_all == len(self.model.keys)
        self.record_ms.setdefault(machine.revision, self.harness.now_ms)
        for lease in self.model.leases:
            view = machine.leases.view(lease)
            assert view is not None
            assert view.attachments == len(self.model.attached(lease))

    def events_are_told(self) -> None:
        if self.told >= self.compacted:
            self.watch_from(self.told + 1, 9)
        self.told = self.model.revision

    def only_the_old_is_forgotten(self) -> None:
        """Compaction takes what a command named, or is old in both ways."""
        machine = self.harness.machine
        found = machine.kv.compacted_rev
        assert found >= self.compacted
        assert found == self.compacted or found <= machine.revision - KEPT_REVISIONS
        self.compacted = found
        if machine.has_backlog:
            return
        for rev, at_ms in self.record_ms.items():
            is_old = at_ms < self.harness.now_ms - KEPT_MS
            if is_old and rev <= machine.revision - KEPT_REVISIONS:
                named = [it for it in self.model.events if it.mod_rev <= rev]
                assert not named or found >= named[-1].mod_rev

    def all_that_may_be_read_reads_right(self) -> None:
        kv = self.harness.machine.kv
        for rev in range(max(0, self.compacted - 2), self.model.revision + 2):
            page = kv.range(b"", b"", 99, rev)
            if rev and rev < self.compacted:
                self.refused(page, No(Reason.COMPACTED))
            elif rev > self.model.revision:
                self.refused(page, No(Reason.PRECONDITION))
            elif rev:
                state = self.model.at(rev)
                assert isinstance(page, KeyPage)
                assert page.items == [state[key] for key in sorted(state)]
                assert kv.count(b"", b"", rev) == len(state)

    @rule(start=KEYS, end=KEYS_AND_END, limit=st.integers(1, 3), behind=PICKS)
    def page_through(self, start: bytes, end: bytes, limit: int, behind: int) -> None:
        kv = self.harness.machine.kv
        rev = max(self.compacted, self.model.revision - behind) if behind else 0
        state = self.model.at(rev or self.model.revision)
        wanted = [
            state[key]
            for key in sorted(state)
            if start <= key and (not end or key < end)
        ]
        found: list[KeyValue] = []
        place: bytes | None = start
        while place is not None:
            page = kv.range(place, end, limit, rev)
            assert isinstance(page, KeyPage)
            assert len(page.items) <= limit
            found += page.items
            place = page.next_start
        assert found == wanted
        assert kv.count(start, end, rev) == len(wanted)
        for key in [b"a", b"c", start]:
            assert kv.get(key, rev) == state.get(key)

    @rule(behind=st.integers(0, 40), records=st.integers(1, 3))
    def watch(self, behind: int, records: int) -> None:
        self.watch_from(max(1, self.model.revision + 1 - behind), records)

    @rule(behind=st.integers(0, 1), records=st.integers(1, 3))
    def watch_at_the_edge(self, behind: int, records: int) -> None:
        self.watch_from(max(1, self.compacted + 1 - behind), records)

    def watch_from(self, from_rev: int, records: int) -> None:
        machine = self.harness.machine
        seen: list[KeyValue] = []
        place = from_rev
        while True:
            batch = machine.history.read(place, records)
            if isinstance(batch, Refusal):
                assert batch.reason is Reason.COMPACTED
                assert place == from_rev <= self.compacted
                return
            assert place > self.compacted
            assert len(batch) <= records
            events = [event for record in batch for event in record.events]
            seen += [it for it in events if isinstance(it, KeyValue)]
            if not batch:
                break
            place = batch[-1].last_rev + 1
        seen = [event for event in seen if event.mod_rev >= from_rev]
        assert seen == self.model.events_from(from_rev)
        for event in seen:
            if event.mod_rev > self.compacted:
                before = self.model.at(event.mod_rev - 1).get(event.key)
                assert machine.kv.previous(event) == before

    def teardown(self) -> None:
        if not hasattr(self, "harness"):
            return
        check_replay(self.harness, LIMITS)

    # --- helpers -----------------------------------------------------------------

    def settle(self) -> None:
        while self.harness.machine.has_backlog:
            self.harness.entry()

    def refused(self, answer: Answer | KeyPage, no: No) -> None:
        assert isinstance(answer, Refusal), (answer, no)
        assert answer.reason is no.reason, (answer, no)

    def lease(self, pick: int) -> int:
        """Return 0 for none, a lease that is alive, or (4) one that is not."""
        leases = list(self.model.leases)
        return leases[pick % len(leases)] if 0 < pick < 4 and leases else pick * 7777

    def with_real_ids(self, op: KeyOp) -> KeyOp:
        match op:
            case PutKey():
                rev = self.real_rev(op.if_mod_rev, op.key)
                lease = self.lease(op.lease)
                return PutKey(op.key, op.value, lease, rev, op.want_previous)
            case IncrementKey():
                return IncrementKey(op.key, op.by, self.lease(op.lease))
            case DeleteKey():
                rev = self.real_rev(op.if_mod_rev, op.key)
                return DeleteKey(op.key, rev, op.want_previous)
            case _:
                return op

    def real_rev(self, wanted: int | None, key: bytes) -> int | None:
        found = self.model.keys.get(key)
        return found.mod_rev if wanted == 1 and found is not None else wanted

    def with_real_number(self, compare: Compare) -> Compare:
        number = compare.number
        item = self.model.keys.get(compare.key)
        match compare.target:
            case CompareTarget.LEASE_ALIVE:
                number = self.lease(number)
            case CompareTarget.MOD_REV if item is not None:
                number += item.mod_rev - 1
            case CompareTarget.CREATE_REV if item is not None:
                number += item.create_rev - 1
            case CompareTarget.LEASE:
                number = self.lease(number)
            case _:
                pass
        return Compare(
            compare.target, compare.op, compare.key, "", 0, number, compare.value
        )


TestKeys = case_of(Keys, 200, 40)
