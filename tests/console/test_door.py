"""The console door as its visitors see it: a real process, a real Redis, a real HTTP client."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any

import pytest

from broker.orders.metrics import OrdersMetrics
from broker.store import bundles, keys, metrics
from broker.store.commit import Commit, commit
from broker.store.executors import Store
from broker.store.outbox import Event
from broker.store.server import EmbeddedServer

pytestmark = pytest.mark.peer("redis-server")

EVENT = Event("ris", "N|A1", "1", 0.0, "status-orm", "IN PROGRESS", b"MSH|")


@contextmanager
def console(
    server: EmbeddedServer, listen: str = "127.0.0.1:0"
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The door as a process, and HOST:PORT where it listens; with port 0 it is asked for that."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("BROKER_")}
    environ |= {
        "BROKER_REDIS__URL": server.url,
        "BROKER_CONSOLE__LISTEN": listen,
        "BROKER_RIS": "[{name: ris, to: '127.0.0.1:1'}, {name: pacs, to: '127.0.0.1:1'}]",
    }
    command = [sys.executable, "-m", "broker", "door", "console"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            if listen.endswith(":0"):
                listen = json.loads(process.stdout.readline())["console"]
            yield process, listen
        finally:
            process.kill()


def get(place: str, page: str, data: bytes | None = None) -> tuple[int, str]:
    """Status and body of a page; with data it is a POST."""
    try:
        with urllib.request.urlopen(f"http://{place}/{page}", data, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()


def get_json(place: str, page: str) -> tuple[int, Any]:
    """Status and parsed body of a page."""
    status, body = get(place, page)
    return status, json.loads(body)


def test_every_hop_is_reported_and_the_sum_of_all_processes_is_served(
    server: EmbeddedServer, store: Store
) -> None:
    """Two orders processes have counted, one order waits for one RIS, nothing is open."""
    for instance, repeats in enumerate((1, 2)):
        counted = OrdersMetrics()
        for _ in range(repeats):
            counted.repeat()
        metrics.publish_once(store, counted.registry, f"orders:{instance}@here")
    long_ago = metrics.snapshot(OrdersMetrics().registry, at=time.time() - metrics.STALE_S - 1)
    store.run(metrics.publish("orders:9@gone", long_ago))
    store.run(commit(Commit(at=datetime.now(UTC), events=[EVENT])))
    store.run(bundles.put("v1", {}))
    store.run(bundles.activate("v1", at=5.0, by="start"))
    store.run(bundles.note_failure(bundles.Failure(6.0, "watch", "a mistake")))

    with console(server) as (_, place):
        assert get(place, "healthz") == (200, "ok\n")
        status, ready = get_json(place, "readyz")
        _, text = get(place, "metrics")
        assert get(place, "nothing")[0] == 404
        assert get(place, "readyz", data=b"x")[0] == 405

    assert status == 200
    doors = ready.pop("doors")
    assert ready == {
        "ready": True,
        "store": {"writable": True, "why": ""},
        "orders": {"held": 0, "refused": 0},
        "worklist": {"open_steps": 0},
        "mpps": {"exceptions": 0},
        "updates": {
            "pending": {"ris": 1, "pacs": 0},
            "dead_letters": 0,
            "stopped": {"ris": 0, "pacs": 0},
            "paused": {},
            "away": {},
        },
        "mappings": {"version": "v1", "since": 5.0, "by": "start", "reload_failed": 6.0},
    }
    assert [(name, seen["heard"]) for name, seen in doors.items()] == [
        ("orders:0@here", True),
        ("orders:1@here", True),
    ]
    lines = text.splitlines()
    for line in (
        "broker_orders_repeats_total 3.0",
        "broker_store_up 1.0",
        "broker_store_writable 1.0",
        "broker_orders_held 0.0",
        "broker_store_open_steps 0.0",
        "broker_store_archive_messages 0.0",
        "broker_store_archive_bytes 0.0",
        'broker_updates_pending{destination="ris"} 1.0',
        'broker_updates_pending{destination="pacs"} 0.0',
        "broker_updates_dead_letters 0.0",
        'broker_updates_paused{destination="pacs"} 0.0',
        'broker_updates_stopped{destination="ris"} 0.0',
        'broker_updates_away{destination="ris"} 0.0',
        "broker_store_mapping_reload_ok 0.0",
        "broker_store_mapping_active_timestamp_seconds 5.0",
    ):
        assert line in lines


def test_the_first_page_leads_to_all_others(server: EmbeddedServer) -> None:
    with console(server) as (_, place):
        status, page = get(place, "")
        links = re.findall('<a href="/([^"]+)">', page)
        assert (status, links) == (200, ["readyz", "health/deep", "metrics", "healthz"])
        assert 404 not in {get(place, link)[0] for link in links}


def test_without_redis_it_lives_says_why_it_is_not_ready_and_recovers(
    own_server: EmbeddedServer,
) -> None:
    """Alive and ready are two things."""
    with console(own_server) as (_, place):
        own_server.stop()
        assert get(place, "healthz") == (200, "ok\n")
        status, ready = get_json(place, "readyz")
        assert (status, ready["ready"], ready["store"]["writable"]) == (503, False, False)
        assert ready["store"]["why"]
        status, text = get(place, "metrics")
        assert status == 200
        assert "broker_store_up 0.0" in text.splitlines()
        assert "broker_store_open_steps" not in text
        own_server.start()
        assert get_json(place, "readyz")[0] == 200


def test_a_store_that_takes_no_writes_is_up_but_not_ready(own_server: EmbeddedServer) -> None:
    """The disk is nearly full and the supervisor forbids them; or Redis itself is full."""
    store = Store(own_server.url)
    store.redis.set(keys.REFUSE_WRITES, "disk nearly full")
    with console(own_server) as (_, place):
        status, ready = get_json(place, "readyz")
        assert (status, ready["store"]["why"]) == (503, "disk nearly full")
        store.redis.delete(keys.REFUSE_WRITES)
        assert get_json(place, "readyz")[0] == 200
        store.redis.config_set("maxmemory", "1")
        status, ready = get_json(place, "readyz")
        assert (status, ready["store"]["writable"]) == (503, False)
        assert ready["worklist"] == {"open_steps": 0}
        lines = get(place, "metrics")[1].splitlines()
    store.close()
    assert "broker_store_up 1.0" in lines
    assert "broker_store_writable 0.0" in lines


def test_it_ends_by_itself_when_asked_although_a_visitor_stays(server: EmbeddedServer) -> None:
    """SIGTERM: exit code 0, soon, and a connection kept open does not hold it."""
    with console(server) as (process, place):
        visitor = HTTPConnection(place, timeout=30)
        visitor.request("GET", "/healthz")
        assert visitor.getresponse().read() == b"ok\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        visitor.close()


def test_begun_without_redis_it_is_alive_and_not_ready(own_server: EmbeddedServer) -> None:
    """It says that it is ready only when the store has answered, and ends when asked before."""
    own_server.stop()
    with socket.create_server(("127.0.0.1", 0)) as free:
        listen = f"127.0.0.1:{free.getsockname()[1]}"
    with console(own_server, listen) as (process, place):
        while True:
            with suppress(urllib.error.URLError):
                assert get(place, "healthz") == (200, "ok\n")
                break
            time.sleep(0.05)
        assert get(place, "readyz")[0] == 503
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=30)
        assert (process.returncode, said) == (0, "")
