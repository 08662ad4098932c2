"""`broker conformance` says what the broker does: each statement is held against the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    UID_dictionary,
)
from pynetdicom import AE, build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import ModalityWorklistInformationFind

from broker.cli import run_command
from broker.modality.door import SERVED, handlers
from broker.modality.metrics import ModalityMetrics
from broker.probe.orders import orm_o01
from broker.probe.ris import Sink, listening
from broker.probe.scanner import new_uid
from broker.probe.stilled import stilled
from broker.settings import Settings
from broker.statements import dicom, ihe
from broker.store.executors import AsyncStore
from tests.doors.actors import CONFIG, Broker, accepted, new_order, only, send, until

pytestmark = pytest.mark.peer("redis-server")

NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time
SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
)
ANY_AE = AE("CT1")
NOBODYS: dict[str, Any] = {
    "DA": "19000101",
    "TM": "000001",
    "UI": "1.2.999",
    "DS": "999",
    "AS": "099Y",
    "US": 9,
}
"""A value that no order has; of other representations `NOBODY`."""


@pytest.fixture(scope="module")
def ris() -> Iterator[Sink]:
    with listening() as sink:
        yield sink


@pytest.fixture(scope="module")
def broker(ris: Sink) -> Iterator[Broker]:
    dicom = "dicom: {called_ae: own, aliases: [OLDBROKER], "
    patient = CONFIG.replace("pdu_deadline: 1s", "pdu_deadline: 30s")  # a busy machine is slow
    running = Broker(
        patient.replace("dicom: {", dicom) + f"ris: [{{name: ris, to: '{ris.address}'}}]\n"
    )
    with running.started():
        yield running


@pytest.fixture
def said(broker: Broker, capsys: pytest.CaptureFixture[str]) -> Any:
    """A function that gives the tables of a statement by their headings."""

    def tables(which: str) -> dict[str, list[dict[str, str]]]:
        config = str(broker.folder / "broker.yaml")
        assert run_command(["conformance", which, "--json", "--config", config]) == 0
        document = json.loads(capsys.readouterr().out)
        return {each["heading"]: each["table"] for each in document["sections"]}

    return tables


def associated(broker: Broker, contexts: list[Any], called: str = "BROKER") -> Association:
    return stilled(ANY_AE.associate(*broker.dicom, contexts=contexts, ae_title=called))


def test_each_context_that_is_listed_is_accepted_and_every_other_one_is_not(broker, said):
    listed = {
        (row["UID"], row["Transfer syntax UID"]) for row in said("dicom")["Presentation contexts"]
    }
    classes = [uid for uid, facts in UID_dictionary.items() if facts[1] == "SOP Class"]
    asked = [(uid, ImplicitVRLittleEndian) for uid in classes]
    asked += [(uid, syntax) for uid in {uid for uid, _ in listed} for syntax in SYNTAXES[1:]]
    found = set()
    for at in range(0, len(asked), 120):
        association = associated(broker, [build_context(*each) for each in asked[at : at + 120]])
        found |= {(c.abstract_syntax, c.transfer_syntax[0]) for c in association.accepted_contexts}
        association.release() if association.is_established else association.abort()
    assert len(classes) > 150
    assert found == listed


def test_what_is_served_is_what_is_negotiated():
    store, metrics = AsyncStore("unix:///nowhere"), ModalityMetrics()
    assert set(handlers(Settings(), store, None, metrics)) == set(SERVED)


def test_the_called_ae_titles_are_those_of_the_statement(broker, said):
    policies = {row["What"]: row["Value"] for row in said("dicom")["Association policies"]}
    assert policies["Called AE title"] == "only BROKER, OLDBROKER"
    contexts = [build_context("1.2.840.10008.1.1")]
    for title, answered in (("OLDBROKER", True), ("BROKER", True), ("STRANGER", False)):
        association = associated(broker, contexts, title)
        assert association.is_established is answered
        association.release() if answered else association.abort()
    assert {"1", "7", "called AE title not recognized"} <= {
        cell for row in said("dicom")["Association rejection"] for cell in row.values()
    }


def statuses(association: Association, accession: str, row: dict[str, str]) -> list[int]:
    """What a query for one order by one further key is answered."""
    query = Dataset()
    query.AccessionNumber = accession
    keyword = row["Attribute"]
    value = NOBODYS.get(dictionary_VR(keyword), "NOBODY")
    step = Dataset()
    query.ScheduledProcedureStepSequence = [step]
    setattr(step if row["Within"] else query, keyword, value)
    answers = association.send_c_find(query, ModalityWorklistInformationFind)
    return [status.Status for status, _ in answers]


def test_each_key_is_matched_as_the_statement_says(broker, said):
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    rows = [
        row
        for row in said("dicom")["Modality Worklist: keys"]
        if dictionary_VR(row["Attribute"]) != "SQ" and row["Attribute"] != "AccessionNumber"
    ]
    listed = {row["Status"] for row in said("dicom")["Modality Worklist: statuses"]}
    association = associated(broker, [build_context(ModalityWorklistInformationFind)])
    wrong = []
    for row in rows:
        found = statuses(association, order.accession, row)
        matched = row["Matching"] in ("required", "optional, matched")
        if found != ([0x0000] if matched else [0xFF01, 0x0000]):
            wrong.append((row["Attribute"], row["Matching"], found))
        assert {f"{each:04X}" for each in found} <= listed
    association.release()
    assert len(rows) > 50
    assert wrong == []


def test_each_key_that_is_asked_for_is_returned(broker, said):
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    query, step = Dataset(), Dataset()
    rows = said("dicom")["Modality Worklist: keys"]
    for row in rows:
        empty = [] if dictionary_VR(row["Attribute"]) == "SQ" else None
        setattr(step if row["Within"] else query, row["Attribute"], empty)
    query.AccessionNumber = order.accession
    query.ScheduledProcedureStepSequence = [step]
    association = associated(broker, [build_context(ModalityWorklistInformationFind)])
    (_, answer), _ = list(association.send_c_find(query, ModalityWorklistInformationFind))
    association.release()
    item = answer.ScheduledProcedureStepSequence[0]
    lacking = [
        row["Attribute"]
        for row in rows
        if row["Attribute"] not in (item if row["Within"] else answer)
    ]
    assert lacking == []


def test_an_exam_is_answered_with_statuses_of_the_statement(broker, said):
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    uid, listed = new_uid(), {row["Status"] for row in said("dicom")["MPPS: statuses"]}
    item = only(broker, order)
    found = [
        broker.scanner.mpps_start(item, uid=uid, now=NOW),
        broker.scanner.mpps_start({**item, "PatientSex": "O"}, uid=uid, now=NOW),
        broker.scanner.mpps_complete(new_uid(), now=NOW),
        broker.scanner.mpps_complete(uid, now=NOW),
        broker.scanner.mpps_discontinue(uid, now=NOW),
    ]
    assert [f"{status:04X}" for status in found] == ["0000", "0111", "0112", "0000", "0110"]
    assert {f"{status:04X}" for status in found} <= listed


def header(kind: str, trigger: str) -> bytes:
    return (
        f"MSH|^~\\&|SOMEBODY|SOMEWHERE|||20260316090000||{kind}^{trigger}|X{kind}{trigger}|P|2.5.1\r"
        "PID|1||P1^^^N||MUSTER^MIRJAM\r"
    ).encode()


def test_messages_that_the_profile_lists_have_a_mapping_and_others_have_none(broker, said):
    listed = {
        (row["MSH-9.1"], row["MSH-9.2"])
        for heading, table in said("hl7").items()
        if heading.endswith(": accepted")
        for row in table
    }
    assert {("ORM", "O01"), ("ADT", "A08")} <= listed
    strangers = [("MDM", "T02"), ("ADT", "A99"), ("ORM", "O99"), ("DFT", "P03")]
    assert not listed & set(strangers)
    for kind, trigger in strangers:
        assert send(broker.hl7, header(kind, trigger)).error.split("|")[3][:3] in ("200", "201")
    for kind, trigger in [each for each in sorted(listed) if each[0] in ("ORM", "OMI", "ADT")]:
        answer = send(broker.hl7, header(kind, trigger))
        assert "no mapping accepts" not in answer.error, (kind, trigger)


def test_a_status_message_has_the_fields_of_the_profile_and_no_other(broker, ris, said):
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    uid = new_uid()
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0
    assert broker.scanner.mpps_complete(uid, now=NOW) == 0
    mine = until(
        lambda: [m for m in list(ris.received) if m.field("OBR", 18) == order.accession][1:],
        "the second status message",
    )
    rows = said("hl7")["status-orm: fields written"]
    listed = {re.sub(r"\[\d+\]", "", row["Field"].split(".")[0]) for row in rows} | {
        f"MSH-{number}" for number in (1, 2, 7, 9, 10, 11, 12)
    }
    for message in mine:
        for segment in message.text.split("\r"):
            name, *fields = segment.split("|")
            shift = 2 if name == "MSH" else 1
            written = {f"{name}-{n}" for n, each in enumerate(fields, start=shift) if each}
            assert written <= listed


def test_the_fields_that_are_read_follow_the_trigger(said):
    tables = said("hl7")
    of_adt = next(rows for heading, rows in tables.items() if "fields read of ADT" in heading)
    assert any("PID-5" in row["HL7 fields, the first with a value"] for row in of_adt)
    assert not any("OBR-" in row["HL7 fields, the first with a value"] for row in of_adt)


def test_every_test_that_the_integration_statement_names_is_there(said):
    assert all(Path(test).is_file() for each in ihe.PLAYED for test in each.tests)
    assert said("ihe")["Transactions"][0]["Transaction"] == "RAD-2 Placer Order Management"


def test_it_is_an_scu_where_mpps_is_sent_on():
    forward = [{"name": "pacs", "to": "127.0.0.1:11113", "called": "PACS"}]
    roles = [
        {row[1] for row in dicom.statement(settings, "1").sections[0].rows}
        for settings in (Settings(), Settings(updates={"forward": forward}))
    ]
    assert roles == [{"SCP"}, {"SCP", "SCU"}]


def test_the_documents_are_markdown_without_a_broker(tmp_path, capsys):
    (tmp_path / "broker.yaml").write_text("data: data\n")
    for which in ("dicom", "ihe", "hl7"):
        config = str(tmp_path / "broker.yaml")
        assert run_command(["conformance", which, "--config", config]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("# ")
        rows = [line for line in lines if line.startswith("|")]
        assert all(line.endswith("|") for line in rows)
    assert not (tmp_path / "data").exists()
    assert run_command(["conformance", "ihe", "--config", config]) == 0
    assert "Not Connectathon-tested" in capsys.readouterr().out


def test_mpps_that_is_sent_on_makes_the_broker_an_scu(tmp_path, capsys):
    """Each SCP has its titles and statuses, each RIS what its answers mean."""
    config = tmp_path / "broker.yaml"
    config.write_text(
        "ris: [{name: ris, to: '127.0.0.1:1', answers: {AE: retry}}]\n"
        "updates: {forward: [{name: pacs, to: '127.0.0.1:1', called: ARCHIVE,"
        " statuses: {'0110': retry}}]}\n"
    )
    assert run_command(["conformance", "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "opens no associations" not in said
    assert "| SCU |" in said.replace("  ", " ")
    assert "ARCHIVE" in said
    assert "MPPS sent on to pacs" in said
