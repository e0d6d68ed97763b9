"""Sessions and keys against a naive model, by random steps that shrink."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from raftd.statemachine.answers import Answer
from raftd.statemachine.kv import KeyPage
from raftd.statemachine.limits import Limits
from raftd.statemachine.schema.base import Reason, Refusal
from raftd.statemachine.schema.entry import AnyCommand
from raftd.statemachine.schema.kv import (
    DeleteKey,
    DeleteRange,
    IncrementKey,
    KeyDeleted,
    KeyIncremented,
    KeyPut,
    PutKey,
    RangeDeleted,
)
from raftd.statemachine.schema.txn import Op, Transact, Transacted
from tests.statemachine.harness import Harness

_LIMITS = Limits(window_answers_max=6, dedup_ms=4000)
_TTL_MS = 3000
_KEYS = st.sampled_from([b"a", b"b", b"b\x00", b"c"])
_NUMBERS = st.integers(1, 12)
_PUTS = st.builds(PutKey, _KEYS, st.sampled_from([b"", b"x", b"5"]))
_COMPARED = st.builds(
    PutKey, _KEYS, st.just(b"cas"), st.just(0), st.integers(0, 8), st.just(False)
)
_OPS: st.SearchStrategy[PutKey | DeleteKey | DeleteRange | IncrementKey] = st.one_of(
    _PUTS,
    _COMPARED,
    st.builds(DeleteKey, _KEYS),
    st.builds(DeleteRange, _KEYS, _KEYS),
    st.builds(IncrementKey, _KEYS, st.integers(-2, 3)),
)


class _Model:
    """Keys as a dict of (value, mod_rev), and every old state by revision."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.keys: dict[bytes, tuple[bytes, int]] = {}
        self.states: dict[int, dict[bytes, bytes]] = {revision: {}}

    def run(self, ops: list[AnyCommand]) -> bool:
        """Apply all operations under one revision, or none."""
        before, rev, changed = dict(self.keys), self.revision + 1, False
        for op in ops:
            outcome = self._apply(op, rev)
            if outcome is None:
                self.keys = before
                return False
            changed = changed or outcome
        if changed:
            self.revision = rev
            self.states[rev] = {key: value for key, (value, _) in self.keys.items()}
        return True

    def _apply(self, op: AnyCommand, rev: int) -> bool | None:
        match op:
            case PutKey(key=key, value=value, if_mod_rev=expected):
                if expected is not None and self.keys.get(key, (b"", 0))[1] != expected:
                    return None
                self.keys[key] = (value, rev)
                return True
            case IncrementKey(key=key, by=by):
                old = self.keys.get(key, (b"0", 0))[0]
                if not old.removeprefix(b"-").isdigit():
                    return None
                self.keys[key] = (b"%d" % (int(old) + by), rev)
                return True
            case DeleteKey(key=key):
                return self.keys.pop(key, None) is not None
            case DeleteRange(start=start, end=end):
                gone = [key for key in self.keys if start <= key < end]
                for key in gone:
                    del self.keys[key]
                return bool(gone)
            case _:
                raise AssertionError(op)


class SessionsAndKeys(RuleBasedStateMachine):
    """One session of numbered writes, re-sent and reordered at will."""

    @initialize()
    def begin(self) -> None:
        self.harness = Harness(_LIMITS)
        self.session = self.harness.open(ttl_ms=_TTL_MS)
        self.model = _Model(self.harness.machine.revision)
        self.acknowledged = 0
        self.first: dict[int, tuple[AnyCommand, Answer]] = {}
        self.idle_ms = 0

    @property
    def is_closed(self) -> bool:
        return self.idle_ms >= _TTL_MS

    @rule(number=_NUMBERS, command=_OPS, up_to=st.integers(0, 11))
    def send(self, number: int, command: AnyCommand, up_to: int) -> None:
        self._send(number, command, up_to)

    @precondition(lambda self: self.first)
    @rule(data=st.data())
    def send_again(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.first)))
        self._send(number, self.first[number][0], 0)

    @rule(number=_NUMBERS, ops=st.lists(_OPS, max_size=4))
    def send_transaction(
        self, number: int, ops: list[PutKey | DeleteKey | DeleteRange | IncrementKey]
    ) -> None:
        then: tuple[Op, ...] = tuple(ops)
        self._send(number, Transact((), then), 0)

    @rule(after_ms=st.sampled_from([1, 1000, 4000]), is_renewed=st.booleans())
    def time_passes(self, after_ms: int, is_renewed: bool) -> None:
        renewals = (self.session,) if is_renewed else ()
        self.harness.entry(renewals=renewals, after_ms=after_ms)
        if is_renewed and not self.is_closed:
            self.idle_ms = 0
            return
        if self.is_closed:
            self.idle_ms += after_ms
        else:
            # Closed by the first entry that finds it due: memory counts from there.
            self.idle_ms += after_ms
            if self.is_closed:
                self.idle_ms = _TTL_MS

    @rule()
    def restart(self) -> None:
        self.harness.save()
        self.harness = self.harness.reload(_LIMITS)

    @invariant()
    def every_state_is_readable(self) -> None:
        if not hasattr(self, "model"):
            return
        kv = self.harness.machine.kv
        for rev, state in self.model.states.items():
            page = kv.range(b"", b"", 99, rev)
            assert isinstance(page, KeyPage)
            assert {item.key: item.value for item in page.items} == state
            assert kv.count(b"", b"", rev) == len(state)
        now = kv.range(b"", b"", 99)
        assert isinstance(now, KeyPage)
        assert {item.key: (item.value, item.mod_rev) for item in now.items} == (
            self.model.keys
        )

    def _send(self, number: int, command: AnyCommand, up_to: int) -> None:
        is_known = self.idle_ms < _TTL_MS + _LIMITS.dedup_ms
        answer = self.harness.send(self.session, number, command, up_to)
        if not is_known:
            assert _reason(answer) is Reason.SESSION_UNKNOWN
            return
        self.acknowledged = max(self.acknowledged, up_to)
        self.first = {
            n: kept for n, kept in self.first.items() if n > self.acknowledged
        }
        if number <= self.acknowledged:
            assert _reason(answer) is Reason.STALE_NUMBER
        elif number in self.first:
            first_command, first = self.first[number]
            if first_command == command:
                assert answer == first
            else:
                assert _reason(answer) is Reason.NUMBER_REUSED
        elif self.is_closed:
            assert _reason(answer) is Reason.SESSION_EXPIRED
        elif len(self.first) >= _LIMITS.window_answers_max:
            assert _reason(answer) is Reason.TOO_MANY
        else:
            ops = list(command.then) if isinstance(command, Transact) else [command]
            self._judge(answer, self.model.run(_commands(ops)))
            self.first[number] = (command, answer)

    def _judge(self, answer: Answer, is_applied: bool) -> None:
        if not is_applied:
            assert _reason(answer) is Reason.PRECONDITION
            return
        assert isinstance(
            answer, KeyPut | KeyDeleted | RangeDeleted | KeyIncremented | Transacted
        )
        assert self.harness.machine.revision == self.model.revision


def _reason(answer: Answer) -> Reason:
    assert isinstance(answer, Refusal), answer
    return answer.reason


def _commands(ops: object) -> list[AnyCommand]:
    assert isinstance(ops, list)
    return ops


TestSessionsAndKeys = SessionsAndKeys.TestCase
TestSessionsAndKeys.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
