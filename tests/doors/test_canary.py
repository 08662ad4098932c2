"""Invented people go every way, good and bad; nothing that operators see has heard of them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from broker import mishaps
from broker.probe.address import Unreachable
from broker.probe.orders import Envelope, Order, Patient, Step, adt_a08, omi_o23, orm_o01
from broker.probe.ris import Answer, Sink, listening
from broker.probe.scanner import STEP, QueryFailed, Scanner, new_uid
from tests.doors.actors import CONFIG, Broker, Closed, find, new_order, only, send, until
from tests.doors.test_refusals import edited

pytestmark = [
    pytest.mark.peer("redis-server"),
    pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length"),
]

NOW = datetime(2026, 3, 16, 9, 30)  # noqa: DTZ001 - a scanner writes local time
BIRTH = "19310507"
CANARIES = [
    "KANARIENVOGEL",
    "ZEISIGFINK",
    "PIDCNRY",
    BIRTH,
    "1931-05-07",
    "GIRLITZWEG",
    "STIEGLITZ",
]
"""Family and given name, patient ID, birth date, street, what is examined."""


class Bird:
    """Orders of people with canary values, each with numbers of its own."""

    def __init__(self) -> None:
        self.count = 0

    def order(self, **changes: object) -> Order:
        self.count += 1
        name = f"KANARIENVOGEL{self.count}^ZEISIGFINK"
        person = Patient(f"PIDCNRY{self.count:04d}", name, birth_date=BIRTH)
        return new_order(patient=person, description="STIEGLITZ of the head", **changes)


def orm(order: Order, *fields: tuple[str, int, bytes], **said: str) -> bytes:
    """An order that holds every canary."""
    street = ("PID", 11, b"GIRLITZWEG 7^^NORTH")
    return edited(orm_o01(order, **said), street, *fields)


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """A RIS that quotes the patient back, says nonsense, and hangs up."""
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def sung_to(sink: Sink) -> Iterator[Broker]:
    told = f"{CONFIG}ris: [{{name: north, to: '{sink.address}', ack_timeout_s: 0.5}}]\n"
    with Broker(f"{told}log: {{level: debug}}\n").started() as running:
        yield running


@pytest.fixture
def broker(sung_to: Broker) -> Broker:
    """The same one, whose doors are open again whatever the test before has killed."""
    until(lambda: _taken(sung_to, Bird()) and _asked(sung_to), "doors that are open")
    return sung_to


def silent(broker: Broker) -> None:
    """Nothing that operators see holds a canary: log, metrics, health, titles, environments."""
    seen, at = {"log": broker.log()}, broker.console
    for page in ("metrics", "healthz", "readyz"):
        with suppress(OSError), urllib.request.urlopen(f"http://{at}/{page}", timeout=30) as answer:
            seen[page] = answer.read().decode()
    for pid in broker.children():
        for what in ("cmdline", "environ"):
            with suppress(OSError):
                raw = Path(f"/proc/{pid}/{what}").read_bytes()
                seen[f"{what} of {pid}"] = raw.decode(errors="replace")
    assert "metrics" in seen
    for where, text in seen.items():
        told = [
            line for line in text.splitlines() if any(name in line.upper() for name in CANARIES)
        ]
        assert told == [], where


def test_r16_orders_good_and_bad_are_told_without_a_patient(broker: Broker) -> None:
    bird = Bird()
    order = bird.order()
    good = [orm(order), orm(order), orm(order, control="XO"), orm(bird.order(), control="CA")]
    good += [omi_o23(bird.order(steps=(Step("S1"), Step("S2")))), adt_a08(order.patient)]
    merged = adt_a08(order.patient, envelope=Envelope()).replace(b"ADT^A08", b"ADT^A40")
    good.append(merged + b"MRG|PIDCNRY9999^^^NORTH^PI\r")
    bad = [
        orm(bird.order(), ("OBR", 24, b"KANARIENVOGEL")),
        orm(bird.order(), ("OBR", 18, b"")),
        orm(bird.order(), ("PID", 3, b"")),
        orm(bird.order(), ("PID", 3, b"PIDCNRY" * 20)),
        orm(bird.order(), ("PID", 3, b"PIDCNRY\\X0D\\^^^NORTH")),
        orm(bird.order(), ("PID", 7, b"KANARIENVOGEL")),
        orm(bird.order(), ("PID", 8, b"ZEISIGFINK")),
        orm(bird.order(), ("ORC", 1, b"KANARIENVOGEL")),
        orm(bird.order(), ("OBR", 36, b"ZEISIGFINK")),
        orm(bird.order(), ("MSH", 18, b"KANARIENVOGEL")),
        orm(bird.order(), ("PID", 5, b"KANARIENVOGEL^\xff\xfe\x81")),
        orm(bird.order(), ("PID", 5, b"ZEISIGFINK^" + b"KANARIENVOGEL" * 300)),
        orm(bird.order(accession=order.accession)),  # another patient's number
        orm(bird.order()).replace(b"ORM^O01", b"ZZZ^Z99"),
        orm(bird.order())[9:],
        b"PID|1||PIDCNRY\rKANARIENVOGEL",
        b"FHS|^~\\&\rBHS|^~\\&\r" + orm(bird.order()) + b"BTS|7\rFTS|1\r",
        b"BHS|^~\\&\r" + orm(bird.order()) + b"KANARIENVOGEL\r" + orm(bird.order()),
    ]
    for message in good + bad:
        with suppress(Closed):
            send(broker.hl7, message)
    for raw in (
        orm(bird.order()),  # no frame
        b"\x0b" + orm(bird.order()),  # no end
        b"\x0b" + orm(bird.order()) + b"\x0b" + orm(bird.order()) + b"\x1c\r",
        b"KANARIENVOGEL" * 10_000,
    ):
        # It may have closed before all is sent.
        with socket.create_connection(broker.hl7, timeout=30) as sender, suppress(OSError):
            sender.sendall(raw)
            sender.shutdown(socket.SHUT_WR)
            while sender.recv(65536):
                pass
    assert broker.log().count('"event": "message"') >= len(good + bad) - 2
    silent(broker)


def test_r16_scanners_and_their_mistakes_are_told_without_a_patient(
    broker: Broker, sink: Sink
) -> None:
    order = Bird().order()
    assert send(broker.hl7, orm(order)).code == "AA"
    for asked in (
        {"patient_name": "KANARIENVOGEL*"},
        {"patient_id": order.patient.patient_id},
        {"patient_id": "PIDCNRY\\*"},
        {"date": "KANARIENVOGEL"},
        {"date": f"{BIRTH}-{BIRTH}"},
        {"modality": "KANARIENVOGEL"},
        {"station_ae": "ZEISIGFINK"},
    ):
        with suppress(QueryFailed):
            find(broker, **asked)
    scanner: Scanner = broker.scanner
    item, uid = only(broker, order), new_uid()
    sink.answer_next(Answer.AE, Answer.GARBAGE, Answer.CLOSE, Answer.WRONG_CONTROL_ID)
    assert scanner.mpps_start(item, uid=uid, now=NOW) == 0
    scanner.mpps_start(item, uid=uid, now=NOW.replace(minute=31))
    scanner.mpps_set(uid, {"PatientName": "KANARIENVOGEL^OTHER", "PatientID": "PIDCNRYX"})
    scanner.mpps_set(uid, {"PerformedProcedureStepStatus": "ZEISIGFINK"})
    scanner.mpps_set("1.2.3.4", {"PatientName": "KANARIENVOGEL"})
    lonely = {**item, "AccessionNumber": "", "PatientName": "KANARIENVOGEL^NOBODY"}
    lonely[STEP] = []
    with suppress(Unreachable):
        scanner.mpps_create(new_uid(), {**lonely, "PatientBirthDate": BIRTH})
    assert scanner.mpps_complete(uid, now=NOW) == 0
    scanner.mpps_complete(uid, now=NOW.replace(hour=11))
    until(lambda: len(sink.received) >= 4, "the RIS is told, and told again")
    silent(broker)


def test_a_store_that_fails_and_doors_that_are_killed_tell_nothing(broker: Broker) -> None:
    bird = Bird()
    for victim in ("redis-server", "door orders", "door modality", "door updates"):
        broker.kill(victim)
        for _ in range(3):
            with suppress(Closed, OSError, QueryFailed, Unreachable):
                send(broker.hl7, orm(bird.order()))
                find(broker, patient_name="KANARIENVOGEL*")
    until(lambda: _taken(broker, bird), "orders are taken again")
    silent(broker)


def test_rubbish_in_the_store_is_told_without_its_words(broker: Broker) -> None:
    """Records, outbox, jobs: what cannot be read is named by its key or its kind."""
    order = Bird().order()
    assert send(broker.hl7, orm(order)).code == "AA"
    uid = new_uid()
    broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW)
    rubbish = b'000000000001{"PatientName": "KANARIENVOGEL", "attributes": ["ZEISIGFINK"]}'
    redis = broker.store.redis
    for key in redis.scan_iter("*"):
        match redis.type(key):
            case b"string":
                redis.set(key, rubbish)
            case b"hash":
                for name in redis.hkeys(key):
                    redis.hset(key, name, rubbish)
            case b"list":
                redis.lpush(key, rubbish)
            case b"zset":
                redis.zadd(key, {rubbish: 0})
    for doing in (
        lambda: send(broker.hl7, orm(order, control="XO")),
        lambda: send(broker.hl7, adt_a08(order.patient)),
        lambda: find(broker),
        lambda: find(broker, accession=order.accession),
        lambda: broker.scanner.mpps_complete(uid, now=NOW),
    ):
        with suppress(Closed, QueryFailed, Unreachable):
            doing()
    redis.flushall()
    until(lambda: _taken(broker, Bird()), "orders are taken again")
    silent(broker)


def _taken(broker: Broker, bird: Bird) -> bool:
    with suppress(Closed, OSError):
        return send(broker.hl7, orm(bird.order())).code == "AA"
    return False


def _asked(broker: Broker) -> bool:
    with suppress(QueryFailed, Unreachable):
        return bool(find(broker))
    return False


def test_a_bug_is_told_by_its_kind_and_place(tmp_path: Path) -> None:
    """Caught or not, in a group or behind another one: never in its words."""

    def bug() -> None:
        try:
            int("KANARIENVOGEL")
        except ValueError as first:
            raise ExceptionGroup("ZEISIGFINK", [KeyError("PIDCNRY"), first]) from first

    with pytest.raises(ExceptionGroup) as caught:
        bug()
    said = mishaps.told(caught.value)
    assert "ValueError" in said
    assert "KeyError" in said
    assert "test_canary.py:" in said
    assert [name for name in CANARIES if name in said] == []


@pytest.mark.parametrize("style", ["json", "text"])
def test_no_kind_of_log_prints_the_words_of_a_bug(style: str) -> None:
    program = (
        "import logging, structlog\n"
        "from broker.cli import logs\n"
        "from broker.settings import Log\n"
        f"logs.configure(Log(format='{style}'), door='orders')\n"
        "try:\n    int('KANARIEN' + 'VOGEL')\n"
        "except ValueError as bug:\n"
        "    structlog.get_logger().exception('it failed')\n"
        "    structlog.get_logger().error('it failed', exc_info=bug)\n"
        "    logging.getLogger('asyncio').exception('it failed')\n"
        "int('KANARIEN' + 'VOGEL')\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert told.returncode == 1
    assert told.stderr.count("ValueError") == 4
    assert "KANARIENVOGEL" not in told.stderr
