"""Statement 100: one audit message for each event of a whole broker, and no patient in its log."""

from __future__ import annotations

import socket
import tempfile
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from broker.probe.orders import adt_a08, orm_o01
from broker.probe.scanner import Scanner, new_uid, to_dataset, worklist_keys
from broker.probe.secure import Secure
from broker.settings import Address
from tests.audit.reading import event, kind, objects, participants, read, said
from tests.dicom.requestor import implicit
from tests.doors.actors import CONFIG, Broker, new_order, of_accession, only, send, until
from tests.doors.test_refusals import edited
from tests.tls.authority import Authority

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 30)  # noqa: DTZ001 - a scanner writes local time
QUERY, EXAM, PATIENT, ORDER = "110112", "110111", "110110", "110109"
ACTIVITY, ALERT = "110100", "110113"


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with tempfile.TemporaryDirectory() as folder:
        yield Authority(Path(folder))


@pytest.fixture(scope="module")
def broker(authority: Authority) -> Iterator[Broker]:
    server = authority.issue("server", "localhost")
    tls = f"{{listen: '127.0.0.1:0', certificate: {server}, ca: {authority.ca}}}"
    aes = "[{title: CT1}, {title: CT9, certificate: ct9.example}]"
    dicom = f"dicom: {{listen: '127.0.0.1:0', tls: {tls}, aes: {aes}}}\n"
    config = "".join(line for line in CONFIG.splitlines(True) if not line.startswith("dicom"))
    with Broker(
        f"{config}{dicom}site: North\naudit: {{to: file, path: trail}}\n"
    ).started() as running:
        yield running


def trail(broker: Broker) -> list[Xml.Element]:
    """All messages so far, each read against the schema."""
    return [read(line) for line in (broker.folder / "trail").read_bytes().splitlines()]


def since(broker: Broker, before: int, *expected: str) -> list[Xml.Element]:
    """What has come since then, which must be these events and no others."""
    until(lambda: len(trail(broker)) >= before + len(expected), "it is in the trail")
    found = trail(broker)[before:]
    assert Counter(map(event, found)) == Counter(expected)
    return found


def since_start(broker: Broker) -> list[Xml.Element]:
    """What these processes have told: they count from their own start."""
    found = trail(broker)
    starts = [at for at, each in enumerate(found) if kind(each) == "110120"]
    return found[starts[-1] + 1 :]


def test_every_door_has_started(broker: Broker) -> None:
    started = [each for each in trail(broker) if kind(each) == "110120"]
    assert {participants(each)[0]["UserID"].rpartition(":")[0] for each in started} >= {
        "orders:0",
        "orders:1",
        "modality:0",
        "updates:0",
    }


def test_statement_100_each_order_query_exam_and_patient_message_is_one_message(
    broker: Broker,
) -> None:
    order = new_order()
    before = len(trail(broker))
    assert send(broker.hl7, orm_o01(order)).code == "AA"
    (told,) = since(broker, before, ORDER)
    assert said(told)["EventActionCode"] == "C"
    assert participants(told)[0]["NetworkAccessPointID"] == "127.0.0.1"
    patient = objects(told)["Patient Number"].attrib["ParticipantObjectID"]
    assert patient == order.patient.patient_id
    assert [each.attrib["Number"] for each in told.iter("Accession")] == [order.accession]

    before += 1
    keys = worklist_keys(accession=order.accession)
    (item,) = broker.scanner.find(keys)
    (told,) = since(broker, before, QUERY)
    query = objects(told)["SOP Class UID"].findtext("ParticipantObjectQuery") or ""
    assert b64decode(query) == implicit(to_dataset(keys)), "the identifier, byte for byte"
    assert participants(told)[0]["AlternativeUserID"] == "AETITLES=CT1"

    before += 1
    uid = new_uid()
    assert broker.scanner.mpps_start(item, uid=uid, now=NOW) == 0
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0
    assert broker.scanner.mpps_complete(uid, now=NOW.replace(minute=31)) == 0x0110
    begun, ended, late = since(broker, before, EXAM, EXAM, EXAM)
    assert [said(each)["EventActionCode"] for each in (begun, ended, late)] == ["C", "U", "U"]
    assert [said(each)["EventOutcomeIndicator"] for each in (begun, ended, late)] == ["0", "0", "4"]
    for each in (begun, ended):
        study = objects(each)["Study Instance UID"]
        assert study.attrib["ParticipantObjectID"] == order.study_uid
        assert [one.attrib["UID"] for one in study.iter("MPPS")] == [uid]
        assert objects(each)["Patient Number"].attrib["ParticipantObjectID"] == patient

    before += 3
    assert send(broker.hl7, adt_a08(order.patient)).code == "AA"
    (told,) = since(broker, before, PATIENT)
    assert objects(told)["Patient Number"].attrib["ParticipantObjectID"] == patient


def test_what_is_refused_is_told_as_a_failure_and_nonsense_is_about_nobody(broker: Broker) -> None:
    before = len(trail(broker))
    assert send(broker.hl7, edited(orm_o01(new_order()), ("OBR", 24, b"NONE"))).code == "AE"
    assert send(broker.hl7, b"no HL7 at all").code == "AR"
    (told,) = since(broker, before, ORDER)
    assert said(told)["EventOutcomeIndicator"] == "4"


def test_statement_100_a_failed_handshake_and_a_stranger_are_security_alerts(
    broker: Broker, authority: Authority
) -> None:
    places = dict(word.split("=") for word in (broker.folder / "out").read_text().split()[1:])
    host, port = places["dicom-tls"].rsplit(":", 1)
    secure = Address(host, int(port))
    before = len(trail(broker))
    with socket.create_connection(secure, 5) as peer:
        peer.sendall(b"plain")
        peer.sendall(b"text, and more of it")
    (told,) = since(broker, before, ALERT)
    assert (kind(told), said(told)["EventOutcomeIndicator"]) == ("110126", "8")
    assert participants(told)[1]["UserID"] == "127.0.0.1"

    context = authority.client(authority.issue("ct8", "ct8.example"))
    scanner = Scanner(secure, calling="CT9", secure=Secure(context, "localhost"))
    with pytest.raises(Exception, match="rejected"):
        scanner.echo()
    (told,) = since(broker, before + 1, ALERT)
    fact = told.findtext("EventIdentification/EventOutcomeDescription")
    assert fact == "calling AE title not that of its certificate"
    assert participants(told)[1]["UserID"] == "CT9"


def test_what_was_counted_is_what_was_written_and_no_name_is_in_the_log(broker: Broker) -> None:
    order = new_order()
    assert send(broker.hl7, orm_o01(order)).code == "AA"
    assert only(broker, order)
    before = len(trail(broker))
    of_accession(broker, order)
    since(broker, before, QUERY)

    def agree(metric: str, name: str, kind: str) -> bool:
        return broker.metric(metric, event=name) == Counter(map(event, since_start(broker)))[kind]

    until(lambda: agree("broker_modality_audit_total", "Query", QUERY))
    until(lambda: agree("broker_orders_audit_total", "Order Record", ORDER))
    assert broker.metric("broker_modality_audit_lost_total") == 0
    assert order.patient.name.partition("^")[0] not in broker.log()


def test_every_door_that_has_started_stops(broker: Broker) -> None:
    assert broker.stop() == 0
    found = Counter(kind(each) for each in trail(broker) if event(each) == ACTIVITY)
    assert found["110121"] == found["110120"] >= 4
    broker.start()  # for whichever test comes next
