"""The self-test goes all the way through a broker that runs, and leaves nothing but its result."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.mapping.text.nodes import Complaints
from broker.probe import timer
from broker.probe.orders import Envelope, Patient, Step, orm_o01
from broker.probe.ris import Sink, listening
from broker.probe.scanner import Scanner, worklist_keys
from broker.settings import Settings
from broker.store import keys, selftest, sightings
from broker.store.executors import Store
from broker.store.selftest import Result
from broker.store.server import EmbeddedServer
from broker.worklist import canary
from broker.worklist.directory import Directory, Unrecognised
from tests.doors.actors import CONFIG, Broker, accepted, find, new_order, until
from tests.doors.commands import Command, command_of
from tests.ports import free_port
from tests.tls.authority import Authority
from tests.updates.pacs import Pacs, pacs

pytestmark = pytest.mark.peer("redis-server")


@pytest.fixture(scope="module")
def ris() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def scp() -> Iterator[Pacs]:
    with pacs() as running:
        yield running


@pytest.fixture(scope="module")
def started(ris: Sink, scp: Pacs) -> Iterator[tuple[Broker, Result]]:
    """A broker, and what the first self-test found, which its supervisor has run."""
    running = Broker(
        f"{CONFIG}ris: [{{name: ris, to: '{ris.address}'}}]\n"
        f"updates: {{forward: [{{name: pacs, to: '{scp.address}'}}]}}\n"
        f"selftest: {{every: 1h, sink: '127.0.0.1:{free_port()}', deadline: 5s}}\n"
    )
    try:
        running.start()
        first = until(lambda: running.store.run(selftest.last()), "the first self-test")
        until(lambda: not running.store.redis.exists(keys.SELFTEST_RUNS), "its end")
        yield running, first
    finally:
        running.end()


@pytest.fixture(scope="module")
def broker(started: tuple[Broker, Result]) -> Broker:
    return started[0]


@pytest.fixture
def command(
    broker: Broker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    bound = {"hl7": str(broker.hl7), "dicom": str(broker.dicom), "console": str(broker.console)}
    monkeypatch.setenv("BROKER_BOUND", json.dumps(bound))
    return command_of(broker, capsys)


def held(broker: Broker) -> set[str]:
    """Every key of the store that a self-test could add to.

    What the modality door has noted of real AEs is written a second after they called.
    """
    redis = broker.store.redis
    passing = (keys.METRICS, keys.WAKE, keys.PREFIX + "rq:", "writable", "probe", keys.SELFTEST)
    noted = (keys.AES, keys.REJECTED_AES, keys.asked(""), keys.sightings(""))
    names = [key.decode() for key in redis.keys("*")]
    own = {n for n in names if canary.MARK in n or canary.AE in n}
    return own | {n for n in names if not any(each in n for each in (*passing, *noted))}


def deep(broker: Broker) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://{broker.console}/health/deep", timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        return refused.code, json.load(refused)


def test_the_supervisor_has_run_it_through_every_hop(
    started: tuple[Broker, Result], ris: Sink, scp: Pacs
) -> None:
    _, found = started
    assert [(hop.name, hop.fault, hop.skipped) for hop in found.hops] == [
        (name, "", "")
        for name in ("orders", "store", "modality", "begin", "complete", "updates", "removed")
    ]
    assert found.last_ok == found.at
    assert all(hop.ms > 0 for hop in found.hops)
    assert not [each for each in ris.received if canary.MARK in each.text]
    assert not scp.got


def test_it_leaves_nothing_behind_and_is_not_counted(
    broker: Broker, ris: Sink, command: Command
) -> None:
    accepted(broker.hl7, orm_o01(new_order()))
    before, archived = held(broker), broker.archived()
    size = broker.store.redis.get(keys.ARCHIVE_BYTES)
    code, said, complaint = command("selftest", "--json")
    assert (code, complaint) == (0, ""), said
    assert json.loads(said)["ok"] is True
    assert held(broker) == before
    assert broker.archived() == archived
    assert broker.store.redis.get(keys.ARCHIVE_BYTES) == size
    assert canary.AE not in {ae.title for ae in broker.store.run(sightings.known_aes(0))}
    assert broker.metric("broker_orders_messages_total", source="BROKER|SELFTEST") == 0
    assert "another worker" not in broker.log()
    assert broker.metric("broker_updates_sent_total", ris=canary.DESTINATION) == 0
    assert not [each for each in ris.received if canary.MARK in each.text]


def test_it_is_seen_by_its_own_ae_alone_which_sees_nothing_else(
    broker: Broker, command: Command
) -> None:
    real, number = new_order(), f"{canary.MARK}TEST"
    own = new_order(
        Step(step_id=number), patient=Patient(number, "CANARY^BROKER"), accession=number
    )
    accepted(broker.hl7, orm_o01(real), orm_o01(own))
    assert [i["AccessionNumber"] for i in find(broker, accession=real.accession)]
    assert not find(broker, accession=number)
    _, listed, _ = command("list", "--json")
    assert real.accession in listed
    assert number not in listed
    seen = Scanner(broker.dicom, calling=canary.AE).find(worklist_keys())
    assert [each["AccessionNumber"] for each in seen] == [number]
    traces = selftest.Traces(number, "1.2.3", 0)
    selftest.removed(broker.store, traces, datetime.now(UTC))
    assert not Scanner(broker.dicom, calling=canary.AE).find(worklist_keys())


def test_two_do_not_run_at_once_and_what_one_that_died_has_left_is_removed(
    broker: Broker, command: Command
) -> None:
    number = f"{canary.MARK}DEAD"
    own = new_order(patient=Patient(number, "CANARY^BROKER"), accession=number)
    accepted(broker.hl7, orm_o01(own, envelope=Envelope(number)))
    broker.store.run(selftest.leave(selftest.Traces(number, "1.2.3", 0)))
    assert broker.store.run(selftest.begin("other"))
    assert command("selftest")[0] == os.EX_TEMPFAIL
    broker.store.run(selftest.end())
    assert command("selftest")[0] == 0
    assert not broker.store.redis.keys(f"*{number}*")
    assert broker.store.run(selftest.left()) is None


def test_a_hop_that_fails_is_named_and_what_went_before_is_removed(
    broker: Broker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("selftest")[0] == 0
    assert deep(broker)[0] == 200
    before = held(broker)
    with closing(socket.create_server(("127.0.0.1", 0))) as nobody:
        place = "{}:{}".format(*nobody.getsockname())
        bound = {"hl7": str(broker.hl7), "dicom": place}
        monkeypatch.setenv("BROKER_BOUND", json.dumps(bound))
        monkeypatch.setenv("BROKER_SELFTEST__DEADLINE", "1s")
        code, said, complaint = command("selftest")
    assert code == 1
    assert complaint == "the self-test failed at the hop modality\n"
    assert [line.split()[0] for line in said.splitlines()] == [
        *("orders", "store", "modality", "removed")
    ]
    assert held(broker) == before
    status, told = deep(broker)
    assert (status, told["ok"], told["selftest"]["failing"]) == (503, False, "modality")
    assert broker.metric("broker_selftest_ok") == 0
    assert broker.metric("broker_selftest_last_ok_timestamp_seconds") > 0
    assert broker.metric("broker_selftest_hop_seconds", hop="orders") > 0


def test_a_message_that_is_refused_is_removed_as_well(
    broker: Broker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, archived = held(broker), broker.archived()
    monkeypatch.setattr(
        "broker.probe.canary.orm_o01", lambda *a, **k: orm_o01(*a, **k).replace(b"|NW|", b"|QQ|")
    )
    code, _, complaint = command("selftest")
    assert (code, complaint) == (1, "the self-test failed at the hop orders\n")
    assert held(broker) == before
    assert broker.archived() == archived


def test_the_last_result_is_judged_without_another_run(
    broker: Broker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("selftest")[0] == 0
    found = broker.store.run(selftest.last())
    code, said, _ = command("selftest", "--last", "--json")
    assert (code, json.loads(said)["at"]) == (0, found.at)

    broker.store.run(selftest.keep(replace(found, at=found.at - 4 * 3600)))
    code, _, complaint = command("selftest", "--last")
    assert (code, "three times" in complaint) == (1, True)
    monkeypatch.setenv("BROKER_SELFTEST__EVERY", "2h")
    assert command("selftest", "--last")[0] == 0

    hop = replace(found.hops[0], fault="no answer")
    broker.store.run(selftest.keep(replace(found, hops=(hop,))))
    code, said, complaint = command("selftest", "--last")
    assert (code, complaint) == (1, "the self-test failed at the hop orders\n")
    assert "! no answer" in said

    broker.store.redis.delete(keys.SELFTEST)
    code, said, complaint = command("selftest", "--last")
    assert (code, said, complaint[:22]) == (1, "", "no self-test has run; ")
    assert command("selftest")[0] == 0


def test_its_ae_calls_from_this_machine_and_where_the_site_says() -> None:
    directory = Directory()
    assert directory.recognise(canary.AE, "10.1.2.3") is Unrecognised.ELSEWHERE
    for here in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert directory.profile(canary.AE, here).title == canary.AE
    directory = Settings.model_validate({"selftest": {"peers": ["10.1.2.0/24"]}}).directory
    for there in ("10.1.2.3", "::ffff:10.1.2.3", "127.0.0.1"):
        assert directory.profile(canary.AE, there).title == canary.AE
    assert directory.recognise(canary.AE, "10.1.3.3") is Unrecognised.ELSEWHERE


def test_a_destination_may_not_have_its_name(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text("ris: [{name: selftest, to: 'h:1'}]\n")
    with pytest.raises(Complaints, match="the broker's own name"):
        Settings.load(path, {})


def test_a_broker_that_speaks_nothing_but_tls_is_tested_by_tls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    file, own = authority.issue("broker", "127.0.0.1"), authority.issue("own", "selftest")
    both = f"certificate: '{file}', ca: '{authority.ca}'"
    running = Broker(
        "data: data\nconsole: {listen: '127.0.0.1:0'}\n"
        f"hl7: {{listeners: [{{listen: '127.0.0.1:0', tls: {{{both}}}}}]}}\n"
        f"dicom: {{plain: false, tls: {{listen: '127.0.0.1:0', {both}}}}}\n"
    )
    try:
        where = running.launch().ready()
        bound = {name: str(place) for name, place in where.items()}
        monkeypatch.setenv("BROKER_BOUND", json.dumps(bound))
        command = command_of(running, capsys)
        code, said, complaint = command("selftest")
        assert (code, complaint) == (1, "the self-test failed at the hop orders\n")
        assert "say selftest.tls" in said
        monkeypatch.setenv("BROKER_SELFTEST__TLS__CA", str(authority.ca))
        monkeypatch.setenv("BROKER_SELFTEST__TLS__CERTIFICATE", str(own))
        code, said, complaint = command("selftest", "--json")
        assert code == 0, (said, complaint)
        skipped = {hop["hop"]: hop["skipped"] for hop in json.loads(said)["hops"] if hop["skipped"]}
        assert skipped == {"updates": "no RIS is told of anything"}
    finally:
        running.end()


def test_doors_apart_are_tested_by_the_one_that_has_the_console(
    own_server: EmbeddedServer,
) -> None:
    """One `broker run` a door over a Redis that they share, as units and containers have it."""
    ports = {name: free_port() for name in ("hl7", "dicom", "console", "sink")}
    with ExitStack() as doors:
        told = (
            f"redis: {{url: '{own_server.url}', accept_loss: true}}\n"
            f"hl7: {{listen: '127.0.0.1:{ports['hl7']}'}}\n"
            f"dicom: {{listen: '127.0.0.1:{ports['dicom']}'}}\n"
            f"console: {{listen: '127.0.0.1:{ports['console']}'}}\n"
            f"ris: [{{name: ris, to: '127.0.0.1:1'}}]\n"
            f"selftest: {{every: 1h, deadline: 10s, sink: '127.0.0.1:{ports['sink']}',\n"
            f"  orders: 'localhost:{ports['hl7']}', modality: 'localhost:{ports['dicom']}'}}\n"
        )
        for role in ("orders", "modality", "updates", "console"):
            door = Broker(told)
            doors.callback(door.end)
            door.launch("--role", role)
            until(lambda door=door: door.said().startswith("ready"), role)
        store = doors.enter_context(closing(Store(own_server.url)))
        found = until(lambda: store.run(selftest.last()), "the self-test")
        assert [(hop.name, hop.fault, hop.skipped) for hop in found.hops] == [
            (name, "", "")
            for name in ("orders", "store", "modality", "begin", "complete", "updates", "removed")
        ]


def test_another_machine_of_the_same_configuration_leaves_it_alone() -> None:
    def at(place: str) -> Settings:
        return Settings.model_validate({"selftest": {"every": "1h", "sink": place}})

    assert timer.is_ours(at("127.0.0.1:2577"))
    assert timer.is_ours(at("localhost:2577"))
    assert not timer.is_ours(at("192.0.2.1:2577"))  # RFC 5737: nobody's


def test_the_watchdog_is_asked_for_a_new_start_only_after_what_had_held() -> None:
    course = timer.Course(patience=2)
    for code in (1, 1, 1):
        course.note(code)
    assert course.illness == ""
    for code in (0, 1, os.EX_TEMPFAIL, os.EX_UNAVAILABLE):
        course.note(code)
    assert course.illness == ""
    course.note(os.EX_SOFTWARE)
    assert course.illness == "the self-test failed 2 times in a row"
    course.note(0)
    assert course.illness == ""
    never = timer.Course(patience=0, held=True, failed=9)
    assert never.illness == ""
