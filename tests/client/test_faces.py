"""The public namespace, and that both faces of the client are one."""

from __future__ import annotations

import ast
import inspect
import textwrap
import threading
from collections.abc import Iterator
from types import ModuleType

import pytest

import raftclient
from raftclient import InvalidRequest, LeaseLost, _handles, _sync, aio, txn
from raftclient._blocking import PORTAL, Face
from raftclient.errors import LockHeld
from tests.client.fake_server import FakeCluster

FACES: list[tuple[type, type]] = [
    (_sync.Client, aio.Client),
    (_handles.Election, aio.Election),
    (_handles.Feed, aio.Feed),
    (_handles.Grant, aio.Grant),
    (_handles.Leadership, aio.Leadership),
    (_handles.Lease, aio.Lease),
    (_handles.Lock, aio.Lock),
    (_handles.Queue, aio.Queue),
    (_handles.Reservation, aio.Reservation),
    (_handles.ReservedJob, aio.ReservedJob),
    (_handles.Session, aio.Session),
    (_handles.Transaction, aio.Transaction),
    (_handles.Worker, aio.Worker),
]

# What asyncio objects offer to this library's own modules only.
INTERNAL = {
    "Feed": {"request", "take", "may_pause", "push", "on_reply", "fail"},
    "Lock": {"bound_to"},
}


@pytest.fixture
def sync_client(cluster: FakeCluster) -> Iterator[raftclient.Client]:
    with raftclient.connect(cluster.endpoints) as client:
        yield client


@pytest.mark.parametrize("module", [raftclient, aio, txn])
def test_the_public_namespace_is_flat_sorted_and_true(module: ModuleType) -> None:
    names = module.__all__
    assert len(set(names)) == len(names)
    for name in names:
        assert hasattr(module, name), name
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }
    assert public <= set(names)


def members(kind: type) -> set[str]:
    """Return the public names that an object of this class has."""
    names = set(dir(kind))
    for each in kind.__mro__[:-1]:
        if each.__module__.startswith("raftclient"):
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
            names |= {
                node.attr
                for node in ast.walk(tree)
                if isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            }
    public = {name for name in names if not name.startswith("_")}
    return public - INTERNAL.get(kind.__name__, set())


@pytest.mark.parametrize(("face", "inner"), FACES)
def test_both_faces_have_the_same_names(face: type, inner: type) -> None:
    assert issubclass(face, Face)
    assert members(face) == members(inner)


def test_a_method_shows_the_signature_and_text_of_its_asyncio_twin() -> None:
    assert inspect.signature(_sync.Client.put) == inspect.signature(aio.Client.put)
    assert _sync.Client.put.__doc__ == aio.Client.put.__doc__


def test_calls_block_for_their_result(
    cluster: FakeCluster, sync_client: raftclient.Client
) -> None:
    sync_client.put("a", "1")
    found = sync_client.get("a")
    assert found is not None
    assert found.value == b"1"
    assert list(sync_client.range(prefix="")) == []
    with sync_client.lock("x") as grant:
        assert cluster.state.lock_holders == {"x": grant.token}
    assert not cluster.state.lock_holders
    with sync_client.lease(5) as lease:
        sync_client.put("b", "1", lease=lease)
    assert cluster.state.of_kind("put_key")[-1].lease_id == lease.lease_id


def test_threads_share_a_client(
    cluster: FakeCluster, sync_client: raftclient.Client
) -> None:
    def work() -> None:
        for _ in range(20):
            sync_client.incr("n")

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cluster.state.keys[b"n"] == b"200"
    assert len(cluster.state.sessions) == 1


def test_errors_come_through(
    cluster: FakeCluster, sync_client: raftclient.Client
) -> None:
    cluster.state.lock_holders["x"] = 1
    with pytest.raises(LockHeld):
        sync_client.lock("x", wait_s=0).acquire()
    with pytest.raises(InvalidRequest):
        raftclient.connect("")


@pytest.mark.usefixtures("_often")
def test_a_block_that_lost_its_lock_ends_with_lease_lost(
    cluster: FakeCluster, sync_client: raftclient.Client
) -> None:
    told = threading.Event()

    def hold() -> None:
        with sync_client.lock("x", on_lost=told.set) as grant:
            cluster.state.expire_all()
            assert told.wait(60)
            assert grant.is_lost

    with pytest.raises(LeaseLost):
        hold()


def test_closing_a_watch_from_another_thread_ends_the_iteration(
    cluster: FakeCluster, sync_client: raftclient.Client
) -> None:
    watch = sync_client.watch(prefix="")
    cluster.state.until(lambda: cluster.watches)
    threading.Thread(target=watch.close).start()
    assert list(watch) == []


def test_a_worker_runs_its_handlers_in_threads(
    cluster: FakeCluster, sync_client: raftclient.Client
) -> None:
    both = threading.Barrier(2, timeout=60)

    def handler(job: raftclient.ReservedJob) -> bytes:
        both.wait()
        return job.payload.upper()

    worker = sync_client.worker("q", handler, concurrency=2)
    running = threading.Thread(target=worker.run)
    running.start()
    cluster.state.enqueue(b"a", b"b")
    cluster.state.until(lambda: len(cluster.state.of_kind("complete_job")) == 2)
    worker.stop()
    running.join()
    results = {body.result for body in cluster.state.of_kind("complete_job")}
    assert results == {b"A", b"B"}


def test_a_callback_on_the_loops_own_thread_may_not_wait_for_it(
    sync_client: raftclient.Client,
) -> None:
    with pytest.raises(InvalidRequest, match="callback"):
        PORTAL.call(lambda: sync_client.put("a", "1"))


def test_the_background_thread_ends_with_the_last_client(
    cluster: FakeCluster,
) -> None:
    def is_running() -> bool:
        return any(each.name == "raftclient-loop" for each in threading.enumerate())

    first = raftclient.connect(cluster.endpoints)
    second = raftclient.connect(cluster.endpoints)
    first.close()
    first.close()
    assert is_running()
    second.put("a", "1")
    second.close()
    assert not is_running()
