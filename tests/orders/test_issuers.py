"""One patient, whichever way the issuer of the ID is written: a namespace, an OID, or both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.store.server import EmbeddedServer
from tests.houses import few_mappings
from tests.orders.said import Ris, hl7, obr, orc

pytestmark = pytest.mark.peer("redis-server")

NAMED, BY_OID, BOTH = "NORTH", "&2.999.7&ISO", "NORTH&2.999.7&ISO"


def pid(issuer: str, name: str = "DOE^JANE") -> str:
    return f"PID|1||4711^^^{issuer}^MR||{name}||19700101|F"


def order(
    issuer: str, accession: str = "A1", sender: str = "RIS|NORTH", name: str = "DOE^JANE"
) -> bytes:
    placed = orc(placer=f"P{accession}", filler=f"F{accession}")
    return hl7("ORM^O01", pid(issuer, name), placed, obr(accession), sender=sender)


def correction(issuer: str, name: str = "ROE^ANN") -> bytes:
    return hl7("ADT^A08", pid(issuer, name), sender="KIS|CENTRAL")


def test_an_issuer_with_an_oid_alone_is_the_same_for_every_sender(ris: Ris) -> None:
    assert ris.send(order(BY_OID), correction(BY_OID)) == ["AA", "AA"]
    assert ris.lines("PatientName", "IssuerOfPatientID") == [("ROE^ANN", "2.999.7")]


@pytest.mark.parametrize("first", [BOTH, BY_OID])
def test_who_says_both_names_lets_either_reach_the_order(ris: Ris, first: str) -> None:
    ris.send(order(first), correction(BOTH, "MID^ANN"), correction(BY_OID))
    assert ris.lines("PatientName", "IssuerOfPatientID") == [("ROE^ANN", "NORTH")]
    ris.send(correction(NAMED), order(BY_OID, "A2", name="LAST^ANN"))
    assert ris.lines("PatientName", "AccessionNumber") == [("LAST^ANN", "A1"), ("LAST^ANN", "A2")]
    assert ris.archived()[0].cause == ""


def test_a_merge_by_the_oid_reaches_who_is_known_by_the_name(ris: Ris) -> None:
    survivor = "PID|1||99^^^NORTH^MR||DOE^JANE"
    ris.send(order(BOTH), hl7("ADT^A40", survivor, "MRG|4711^^^&2.999.7&ISO^MR"))
    assert ris.lines("PatientID") == [("99",)]


def test_a_merge_that_says_both_reaches_who_is_known_by_the_oid(ris: Ris) -> None:
    survivor = "PID|1||99^^^NORTH^MR||DOE^JANE"
    ris.send(order(BY_OID), hl7("ADT^A40", survivor, f"MRG|4711^^^{BOTH}^MR"))
    assert ris.lines("PatientID") == [("99",)]


def test_two_namespaces_that_claim_one_oid_stay_two_people(ris: Ris) -> None:
    other = order("SOUTH&2.999.7&ISO", "A2", sender="OTHER|SOUTH")
    ris.send(order(BOTH), other, correction("SOUTH&2.999.7&ISO"))
    assert ris.lines("AccessionNumber", "PatientName", "IssuerOfPatientID") == [
        ("A1", "DOE^JANE", "NORTH"),
        ("A2", "ROE^ANN", "SOUTH"),
    ]


def test_a_cancel_with_the_oid_is_about_the_patient_of_the_name(ris: Ris) -> None:
    cancel = hl7("ORM^O01", pid(BY_OID), orc("CA", placer="PA1", filler="FA1"), obr())
    assert ris.send(order(NAMED), cancel) == ["AA", "AA"]
    assert ris.lines() == []


@pytest.fixture
def tabled(redis: EmbeddedServer, tmp_path: Path) -> Iterator[Ris]:
    """A site whose table says by which name an OID goes."""
    rules = few_mappings(tmp_path / "mappings")
    with (rules / "tables" / "issuers.csv").open("a") as table:
        table.write("2.999.7,NORTH,\n")
    site = Ris(redis.url, mappings=rules)
    yield site.emptied()
    site.close()


def test_a_row_in_the_table_of_issuers_makes_an_oid_a_namespace(tabled: Ris) -> None:
    tabled.send(order(NAMED), correction(BY_OID))
    assert tabled.lines("PatientName", "IssuerOfPatientID") == [("ROE^ANN", "NORTH")]
    survivor = "PID|1||99^^^NORTH^MR||DOE^JANE"
    tabled.send(hl7("ADT^A40", survivor, "MRG|4711^^^&2.999.7&ISO^MR"))
    assert tabled.lines("PatientID") == [("99",)]
