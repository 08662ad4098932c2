"""Who can write to Redis gets no code run: nothing of ours, or of our libraries, unpickles."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from broker.probe.orders import orm_o01
from broker.probe.scanner import QueryFailed, new_uid
from broker.store.executors import Store
from tests.doors.actors import CONFIG, Broker, Closed, new_order, of_accession, only, send, until

ROOT = Path(__file__).parents[2]
BY_VALUE = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
BY_NAME = {"eval", "exec", "compile", "__import__"}
POISON = """\
import pickle, traceback

def opened(*_, **__):
    with open({told!r}, "a") as file:
        traceback.print_stack(file=file)
    raise RuntimeError("something was unpickled")

pickle.load = pickle.loads = pickle._load = pickle._loads = opened
class Unpickler:
    __init__ = opened
pickle.Unpickler = pickle._Unpickler = Unpickler
"""


class Touch:
    """Creates a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


def test_nothing_of_ours_makes_objects_or_code_of_what_it_reads() -> None:
    found = []
    for path in (ROOT / "broker").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found += [(path.name, node.func.id)] if node.func.id in BY_NAME else []
            found += [(path.name, name) for name in names if name.partition(".")[0] in BY_VALUE]
    assert found == []


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Path]]:
    """A broker in whose processes unpickling anything is an error, and where that is told."""
    folder = tmp_path_factory.mktemp("poison")
    told = folder / "told"
    (folder / "sitecustomize.py").write_text(POISON.format(told=str(told)))
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(folder)
    broker = Broker(f"{CONFIG}ris: [{{name: north, to: '127.0.0.1:9'}}]\n")  # nobody is there
    try:
        yield broker.start(), told
    finally:
        broker.end()
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def test_the_poison_works(poisoned: tuple[Broker, Path], tmp_path: Path) -> None:
    _, told = poisoned
    code = f"import pickle; pickle.loads({pickle.dumps(1)!r})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode
    assert told.exists()
    told.unlink()


@pytest.mark.peer("redis-server")
def test_r11_pickles_planted_in_every_key_are_opened_by_nobody(
    poisoned: tuple[Broker, Path], tmp_path: Path
) -> None:
    broker, told = poisoned
    first = new_order()
    assert send(broker.hl7, orm_o01(first)).code == "AA"
    uid = new_uid()
    assert not broker.scanner.mpps_start(only(broker, first), uid=uid, now=first.start)
    until(lambda: any(broker.store.redis.scan_iter("*rq:job:*")), "a job is there")
    planted = _plant(broker.store, pickle.dumps(Touch(tmp_path / "run")))
    assert planted > 10
    # What was planted in breaks answers, and nothing else.
    for message in (orm_o01(first, control="XO"), orm_o01(new_order())):
        try:
            send(broker.hl7, message)
        except Closed:
            continue
    with suppress(QueryFailed):
        of_accession(broker, first)
    broker.scanner.mpps_complete(uid, now=first.start)
    for verb in (["list"], ["status"], ["log"], ["dead", "list"], ["ae", "list"], ["mpps", "list"]):
        subprocess.run(
            [sys.executable, "-m", "broker", *verb, "--config", broker.folder / "broker.yaml"],
            capture_output=True,
            timeout=50,
            check=False,
        )
    broker.store.redis.flushall()
    until(lambda: _answers(broker), "the broker works once what was planted is gone")
    assert not told.exists(), told.read_text()
    assert not (tmp_path / "run").exists()


def _answers(broker: Broker) -> bool:
    order = new_order()
    try:
        return send(broker.hl7, orm_o01(order)).code == "AA" and bool(of_accession(broker, order))
    except Closed:
        return False


def _plant(store: Store, payload: bytes) -> int:
    """Put it in place of, or beside, whatever is there; how many keys were written."""
    planted = 0
    for key in store.redis.scan_iter("*"):
        kind = store.redis.type(key)
        match kind:
            case b"string":
                store.redis.set(key, payload)
            case b"hash":
                for name in store.redis.hkeys(key):
                    store.redis.hset(key, name, payload)
            case b"list":
                store.redis.lpush(key, payload)
            case b"set":
                store.redis.sadd(key, payload)
            case b"zset":
                store.redis.zadd(key, {payload: 0})
            case b"stream":
                store.redis.xadd(key, {b"r": payload})
        planted += 1
    for queue in store.redis.scan_iter("*rq*"):
        if store.redis.type(queue) == b"hash":
            store.redis.hset(queue, "data", payload)
    return planted
