"""RQ as we use it: nobody who can write to Redis makes us run what is not ours."""

from __future__ import annotations

import pickle
import subprocess
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
from rq import SimpleWorker

from broker.store import engine
from broker.store.executors import Store, StoreUnavailable
from broker.store.server import EmbeddedServer
from broker.updates.queue import DRAIN, MOST_NUDGES, BrokerQueue, BrokerWorker


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.fixture
def queue(server: EmbeddedServer, store: Store) -> Any:
    connection = engine.connection(server.url)
    yield BrokerQueue("ris", connection)
    connection.close()


def run_all(queue: BrokerQueue) -> list[str]:
    """Run what is in the queue as the worker would; returns a mark for each job of ours."""
    ran: list[str] = []
    worker = BrokerWorker(queue, {DRAIN: lambda: ran.append("ours")}, Flag())
    worker._install_signal_handlers = lambda: None  # type: ignore[method-assign]
    worker.work(burst=True)
    return ran


def test_our_keys_share_the_prefix_of_the_store(queue: BrokerQueue) -> None:
    queue.nudge(timeout_s=5)
    assert queue.key == "{broker}:rq:queue:ris"
    assert all(key.startswith(b"{broker}:") for key in queue.connection.keys("*"))


def test_nudges_do_not_pile_up(queue: BrokerQueue) -> None:
    for _ in range(50):
        queue.nudge(timeout_s=5)
    assert queue.count == MOST_NUDGES
    assert run_all(queue) == ["ours"] * MOST_NUDGES


def test_a_finished_nudge_leaves_no_job_behind(queue: BrokerQueue) -> None:
    queue.nudge(timeout_s=5)
    run_all(queue)
    assert queue.connection.keys("*:job:*") == []


def test_a_worker_that_was_killed_is_not_listed_beside_its_successor(queue: BrokerQueue) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed = BrokerWorker(queue, {}, Flag())
    killed.pid = ended.pid
    killed.register_birth()
    elsewhere = BrokerWorker(queue, {}, Flag())
    elsewhere.pid, elsewhere.hostname = ended.pid, "another-machine"
    elsewhere.register_birth()
    worker = BrokerWorker(queue, {}, Flag())
    worker.bootstrap()
    listed = {each.name for each in SimpleWorker.all(queue=queue, queue_class=BrokerQueue)}
    assert listed == {elsewhere.name, worker.name}


def test_a_worker_that_is_stopped_between_a_command_and_its_reply_leaves_at_once(
    queue: BrokerQueue,
) -> None:
    worker = BrokerWorker(queue, {}, Flag())
    worker.bootstrap()
    pool = queue.connection.connection_pool
    waiting = pool.get_connection()
    waiting.send_command("BLPOP", "{broker}:nothing", 0)
    pool.release(waiting)
    # Without a new connection it would wait for this key, for ever.
    worker.teardown()
    assert SimpleWorker.all(queue=queue, queue_class=BrokerQueue) == []


def test_a_function_that_is_not_ours_is_not_run(queue: BrokerQueue, tmp_path: Path) -> None:
    queue.enqueue("os.mkdir", str(tmp_path / "made"))
    queue.nudge(timeout_s=5)
    assert run_all(queue) == ["ours"]
    assert not (tmp_path / "made").exists()
    assert queue.failed_job_registry.count == 1


def test_our_function_with_arguments_is_not_run(queue: BrokerQueue) -> None:
    queue.enqueue(DRAIN, "another ris")
    assert run_all(queue) == []


def test_r11_a_pickle_in_a_job_is_never_opened(queue: BrokerQueue, tmp_path: Path) -> None:
    job = queue.enqueue(DRAIN)
    bomb = pickle.dumps((DRAIN, None, (Bomb(tmp_path / "exploded"),), {}))
    queue.connection.hset(job.key, mapping={"data": bomb, "meta": bomb, "result": bomb})
    queue.nudge(timeout_s=5)
    assert run_all(queue) == ["ours"]
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("function", [DRAIN, "os.getcwd"])
def test_callbacks_in_a_job_are_not_run(
    queue: BrokerQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    (tmp_path / "planted.py").write_text(
        f"import pathlib\ndef run(*_): pathlib.Path({str(tmp_path)!r}, 'ran').touch()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    job = queue.enqueue(function)
    names = ("success_callback_name", "failure_callback_name", "stopped_callback_name")
    queue.connection.hset(job.key, mapping=dict.fromkeys(names, "planted.run"))
    run_all(queue)
    assert not (tmp_path / "ran").exists()


def test_a_store_that_is_away_is_said_so(tmp_path: Path) -> None:
    queue = BrokerQueue("ris", engine.connection(f"unix://{tmp_path}/nobody"))
    with pytest.raises(StoreUnavailable):
        queue.nudge(timeout_s=5)
    with pytest.raises(StoreUnavailable):
        BrokerWorker(queue, {}, Flag())
