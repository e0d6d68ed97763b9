"""The longer measurements run, at small sizes, and tell when something is not there.

Counts and digests are asserted, times are not: the least of a state machine's cost, a
pause or a size says nothing on a machine that others use.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raftclient import aio
from raftctl.bench_workloads import VALUE, WorkloadFailed
from raftd.statemachine.limits import DEFAULT_LIMITS
from raftd.statemachine.machine import Machine
from tests.bench import failover, growth, scale, sizes, soak
from tests.bench.fill import QUEUE, WAITERS_PER_LOCK, Filler, Kind, key_of
from tests.bench.fill_clients import idle_clients
from tests.bench.fill_cluster import await_in_sync, filled_cluster
from tests.bench.growth_cluster import WATCHES, Pace, measure_growth
from tests.bench.growth_machine import measure_kind, measure_watches, name_of_size
from tests.bench.growth_workloads import Done, FilledJobCycles, FilledPuts
from tests.bench.measure import measure
from tests.bench.peers.base import PeerMissing
from tests.bench.peers.etcd import Etcd
from tests.bench.sections import SectionRow, table_of


def _quiet(_: str) -> None:
    """Tell nobody: nobody waits for a test."""


# --- states of any size --------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
def test_a_state_holds_as_many_as_were_asked_for(kind: Kind) -> None:
    filler, again = Filler(), Filler()
    for one in (filler, again):
        one.fill(kind, 300)
        one.fill(kind, 1200)
        one.settle()
    assert filler.found(kind) == 1200
    assert filler.digest() == again.digest()
    again.fill(kind, 1201)
    assert filler.digest() != again.digest()


@pytest.mark.parametrize("kind", Kind)
def test_a_state_is_loaded_as_it_was_filled(kind: Kind) -> None:
    filler = Filler()
    filler.fill(kind, 500)
    rows = [*filler.checkpoint()]
    loaded = Filler()
    own = filler.machine
    machine = Machine.load(
        DEFAULT_LIMITS, rows, index=own.applied_index, digest=own.digest
    )
    loaded.machine.become(machine)
    loaded.counts.update(filler.counts)
    loaded.sessions.extend(filler.sessions)
    loaded.now_ms = filler.now_ms
    assert loaded.found(kind) == 500
    assert loaded.digest() == filler.digest()


@pytest.mark.parametrize("kind", Kind)
def test_every_probe_leaves_what_it_found(kind: Kind) -> None:
    rows = measure_kind(kind, [1000, 1500], _quiet, rounds=1)
    assert rows
    assert all("1k us" in row.figures for row in rows)


def test_watches_are_all_open_when_an_event_comes() -> None:
    row = measure_watches([10, 20], _quiet)
    assert set(row.figures) == {"10 us", "20 us", "last/first"}


def test_sizes_end_where_a_kind_has_to() -> None:
    sizes_wanted = (1000, 10_000, 1_000_000)
    assert growth.sizes_of(Kind.KEYS, sizes_wanted) == [*sizes_wanted]
    assert growth.sizes_of(Kind.LINE, sizes_wanted) == [1000, 9000]
    assert growth.sizes_of(WATCHES, sizes_wanted) == [1000, 10_000]
    named = [name_of_size(size) for size in (999, 1000, 990_000, 1_000_000)]
    assert named == ["999", "1k", "990k", "1M"]


# --- clusters ------------------------------------------------------------------------


@pytest.mark.e2e
async def test_a_cluster_begins_with_what_was_filled_and_its_members_agree() -> None:
    counts = {
        Kind.KEYS: 700,
        Kind.JOBS: 300,
        Kind.SESSIONS: 200,
        Kind.WAITERS: 10 * WAITERS_PER_LOCK,
    }
    flags = ("--checkpoint-interval-ms", "200", "--checkpoint-log-bytes", "65536")
    async with (
        filled_cluster(counts, flags) as cluster,
        idle_clients(cluster.nodes.endpoints, 2, watches=3),
        aio.connect(cluster.nodes.endpoints, timeout_s=30) as client,
    ):
        assert cluster.filled.counts == counts
        for number in range(3):
            key = await client.get(key_of(number), stale=bool(number))
            assert key is not None
            assert (key.value, key.version) == (VALUE, 1)
        assert await client.count(prefix="k/") == 700
        assert (await client.queue(QUEUE).stats()).ready == 300
        await await_in_sync(client)
        status = await client.status()
        sessions = [member.sessions for member in status.members]
        # Ours, and those of the idle clients.
        assert sessions == [200 + 3] * 3
        locks = [lock async for lock in client.locks(prefix="l/")]
        assert [len(lock.waiters) for lock in locks] == [WAITERS_PER_LOCK] * 10
        await _run_and_verify(client)
        await _see_digests_compared(client, cluster.filled.index)


async def _run_and_verify(client: aio.Client) -> None:
    for make, size in ((FilledPuts, 700), (FilledJobCycles, 300)):
        so_far = Done(size)
        workload = make(client, "filled", 4, so_far)
        await workload.prepare()
        await measure(workload, {}, warm_up_s=0.0, measured_s=0.1)
        assert sum(workload.done) > 0
        await workload.verify(client)
        so_far.puts[workload.number(0, 0)] += 1
        so_far.jobs += 1
        with pytest.raises(WorkloadFailed, match="filled"):
            await workload.verify(client)


async def _see_digests_compared(client: aio.Client, index: int) -> None:
    """Write until all members have compared a state that came after the filled one."""
    while True:
        await client.put("more", b"")
        status = await client.status()
        assert not any(member.trouble for member in status.members)
        if min(member.compared_index for member in status.members) > index:
            break
    await await_in_sync(client)


@pytest.mark.e2e
async def test_two_clusters_take_turns_and_a_ratio_is_told() -> None:
    rows = await measure_growth(
        Kind.KEYS, [1000, 2000], Pace(1, warm_up_s=0.05, measured_s=1.0), _quiet
    )
    assert [row.name for row in rows] == ["2k keys: put", "2k keys: get"]
    for row in rows:
        assert len(row.samples["ratio"]) == 1


@pytest.mark.e2e
async def test_a_killed_leader_is_followed_and_no_write_is_lost() -> None:
    plan = failover.Plan(runs=1, faults=["leader killed"], has_etcd=False)
    (row,) = await failover.run(plan, _quiet)
    assert row.name == "leader killed: raftd"
    assert row.figures["runs"] == 1
    (twice,) = failover.merge([row], [row])
    assert twice.figures["runs"] == 2


@pytest.mark.e2e
async def test_a_peer_that_is_missing_is_one_sentence_beside_our_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def start(_self: Etcd, _folder: Path) -> None:
        raise PeerMissing("etcd is not here: install it")

    monkeypatch.setattr(Etcd, "start", start)
    plan = failover.Plan(runs=1, faults=["leader killed"])
    said: list[str] = []

    ours, theirs = await failover.run(plan, said.append)

    assert ours.figures["runs"] == 1
    assert ours.is_met is None
    assert (theirs.name, theirs.figures) == ("leader killed: etcd", {})
    assert theirs.note == "etcd is not here: install it"
    assert said[0] == "etcd: etcd is not here: install it"


@pytest.mark.e2e
async def test_memory_is_told_for_things_and_for_clients() -> None:
    plan = sizes.Plan(
        [Kind.KEYS, sizes.CLIENTS], 500, 1000, few_clients=1, clients=3, rest_s=0.1
    )
    keys, clients = await sizes.run(plan, _quiet)
    assert {"loaded B", "grown B"} <= set(keys.figures)
    assert clients.figures["to"] == 3


@pytest.mark.e2e
async def test_a_soak_proves_what_it_did_and_tells_each_minute() -> None:
    plan = soak.Plan(minutes=2, minute_s=0.5, search_s=0.2)
    rows = await soak.run(plan, _quiet)
    assert [row.name for row in rows] == ["minute 1", "minute 2", "rate", "all"]
    assert rows[0].figures["op/s"] > 0


@pytest.mark.e2e
async def test_checkpoint_join_and_restart_lose_no_key_and_elect_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nor does a machine that is busy.
    flags = (*scale._FLAGS, "--election-ms", "3000")  # noqa: SLF001  # and more patience
    monkeypatch.setattr(scale, "_FLAGS", flags)
    rows = await scale.run(scale.Plan(keys=2000, quiet_s=0.5), _quiet)
    assert [row.name for row in rows] == [
        "filled by clients",
        "quiet",
        "checkpoint of all keys",
        "an empty member joins until it votes",
        "restart to serving",
    ]


# --- what is told --------------------------------------------------------------------


def _minutes(grows: float) -> list[SectionRow]:
    names = ("leader MiB", "largest follower MiB", "client MiB", "p50 ms", "p99 ms")
    return [
        SectionRow(
            "soak",
            f"minute {n}",
            dict.fromkeys((*names, "log.db MiB", "state.db MiB"), 100 + grows * n),
        )
        for n in range(30)
    ]


def test_a_soak_that_stays_as_it_is_is_flat_and_one_that_grows_is_not() -> None:
    assert all(row.is_met for row in soak.verdicts(_minutes(0.0)))
    assert not any(row.is_met for row in soak.verdicts(_minutes(20.0)))
    assert soak.line_of([1.0, 3.0, 5.0]) == pytest.approx(2.0)


def test_pauses_are_told_beside_those_of_etcd() -> None:
    ours, theirs = (
        SectionRow("failover", f"leader killed: {name}", samples={"pause s": pauses})
        for name, pauses in (("raftd", [0.2, 0.1, 0.3]), ("etcd", [1.0, 2.0, 3.0]))
    )
    told, other = failover.merge([ours], [theirs])
    assert told.is_met
    assert told.figures["p50 / etcd's"] == pytest.approx(0.1)
    assert other.is_met is None
    slow, _ = failover.merge([_with_pauses(ours, [0.9])], [theirs])
    assert not slow.is_met


def _with_pauses(row: SectionRow, pauses: list[float]) -> SectionRow:
    return SectionRow(row.section, row.name, samples={"pause s": pauses})


def test_a_table_has_the_columns_that_somebody_fills() -> None:
    rows = [
        SectionRow("s", "one", {"us": 1.0}),
        SectionRow("s", "other", {"ms": 2.0}, goal="<= 3 ms", is_met=True),
    ]
    drawn = [line.strip("|").split("|") for line in table_of(rows).splitlines()]
    head, _, one, other = [[cell.strip() for cell in cells] for cells in drawn]
    assert head == ["s", "us", "ms", "goal", "met"]
    assert one == ["one", "1", "", "", ""]
    assert other == ["other", "", "2", "<= 3 ms", "yes"]


def test_the_program_prints_its_rows_and_writes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    arguments = ["--level", "apply", "--only", "sessions", "--sizes", "1000,2000"]
    assert growth.main([*arguments, "--json", str(file)]) == 0
    assert "sessions: renewal" in capsys.readouterr().out
    rows = json.loads(file.read_bytes())["rows"]
    assert [row["name"] for row in rows] == [
        "sessions: numbered put",
        "sessions: renewal",
        "sessions: open and close",
    ]
