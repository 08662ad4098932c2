"""One record that cannot be read, or encoded, does not end a scanner's list."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from broker.probe.orders import Order, Patient, orm_o01
from broker.probe.ris import accepted, send
from broker.store import keys, stored
from broker.store.executors import Store
from broker.store.packing import packed
from broker.worklist.records import Facts
from broker.worklist.records import Order as Stored
from tests.doors.actors import CONFIG, Broker

pytestmark = pytest.mark.peer("redis-server")


@pytest.fixture(scope="module")
def running() -> Iterator[Broker]:
    with Broker(CONFIG).started() as broker:
        yield broker


@pytest.fixture
def broker(running: Broker) -> Broker:
    """One with nothing on its list."""
    running.store.redis.flushall()
    return running


def ordered(broker: Broker, numbers: str) -> None:
    """Place an order for each number, each of another patient."""
    for number in numbers:
        order = Order(
            patient=Patient(patient_id=f"P{number}", name=f"CANARY{number}^ANNA"),
            accession=f"A{number}",
            study_uid=f"1.2.{number}",
            placer=f"PL{number}",
            filler=f"FL{number}",
        )
        [answer] = send(broker.hl7, [orm_o01(order)])
        assert accepted(answer)


def test_a_record_of_a_newer_version_is_left_out_and_said(broker: Broker) -> None:
    """The rest of the list is served; the log says that something is missing, but not who."""
    ordered(broker, "12")
    rewrite(broker.store, "A1", newer)
    found = broker.scanner.find({"AccessionNumber": "", "PatientName": ""})
    assert [item["AccessionNumber"] for item in found] == ["A2"]
    assert "records left out" in broker.log()
    assert "CANARY" not in broker.log()


def test_an_order_with_stored_values_that_no_attribute_holds_is_left_out_and_said(
    broker: Broker,
) -> None:
    """A text where a sequence belongs, or where a number does: the others are served."""
    ordered(broker, "1234")
    spoil(broker.store, "A1", "RequestedProcedureCodeSequence", "CANARY")
    spoil(broker.store, "A2", "PregnancyStatus", "CANARY")
    spoil(broker.store, "A3", "OrderPlacerIdentifierSequence", ["CANARY"])
    asked = {
        "AccessionNumber": "",
        "PregnancyStatus": "",
        "RequestedProcedureCodeSequence": [{"CodeValue": ""}],
        "OrderPlacerIdentifierSequence": [],
    }
    found = broker.scanner.find(asked)
    assert [item["AccessionNumber"] for item in found] == ["A4"]
    log = broker.log()
    for accession in ("A1", "A2", "A3"):
        assert any("answer left out" in x and f'"{accession}"' in x for x in log.splitlines())
    assert "PregnancyStatus" in log
    assert "CANARY" not in log


def spoil(store: Store, accession: str, keyword: str, value: object) -> None:
    """Store a value as a faulty mapping of an earlier release would have."""

    def spoilt(order: Stored) -> Stored:
        first, *others = order.procedures
        facts = Facts(attributes={**first.facts.attributes, keyword: value})
        procedures = (first.model_copy(update={"facts": facts}), *others)
        return order.model_copy(update={"procedures": procedures})

    rewrite(store, accession, lambda order: stored.written(spoilt(order)))


def rewrite(store: Store, accession: str, written: Callable[[Stored], bytes]) -> None:
    """Store an order otherwise, behind the same revision."""
    [name] = [k for k in store.redis.keys(keys.order("*")) if k.endswith(f"|{accession}".encode())]
    raw = store.redis.get(name)
    head = raw[: stored.REVISION_LENGTH]
    store.redis.set(name, head + written(stored.order(raw[len(head) :])))


def newer(order: Stored) -> bytes:
    """What a version with one more field would have written."""
    owner = order.patient.encode()
    text = order.model_dump_json().replace('"schema_version":1', '"schema_version":1,"x":1', 1)
    return b"%04d" % len(owner) + owner + packed(text.encode(), "record")
