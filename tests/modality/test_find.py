"""One record that cannot be read, or encoded, does not end a scanner's list."""

from __future__ import annotations

import pytest

from broker.probe.orders import Order, Patient, orm_o01
from broker.probe.ris import accepted, send
from broker.store import keys
from broker.store.executors import Store
from tests.doors.actors import CONFIG, Broker

pytestmark = pytest.mark.peer("redis-server")


def test_a_record_of_a_newer_version_is_left_out_and_said(tmp_path):
    """The rest of the list is served; the log says that something is missing, but not who."""
    broker = Broker(CONFIG)
    try:
        broker.start()
        for number in ("1", "2"):
            patient = Patient(patient_id=f"P{number}", name=f"CANARY{number}^ANNA")
            order = Order(
                patient=patient,
                accession=f"A{number}",
                study_uid=f"1.2.{number}",
                placer=f"PL{number}",
                filler=f"FL{number}",
            )
            [answer] = send(broker.hl7, [orm_o01(order)])
            assert accepted(answer)
        store: Store = broker.store
        [name] = [k for k in store.redis.keys(keys.order("*")) if k.endswith(b"|A1")]
        newer = store.redis.get(name).replace(b'"schema_version":1', b'"schema_version":1,"x":1', 1)
        store.redis.set(name, newer)
        found = broker.scanner.find({"AccessionNumber": "", "PatientName": ""})
        assert [item["AccessionNumber"] for item in found] == ["A2"]
        assert "records left out" in broker.log()
        assert "CANARY" not in broker.log()
    finally:
        broker.end()
