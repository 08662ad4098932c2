"""Each AE gets its own list in its own form: the rules of `dicom.aes`, over the wire."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broker import pacing
from tests.modality.site import (
    AET,
    DATE,
    STEPS,
    TIME,
    Site,
    asked,
    in_step,
    plan,
    private_redis,
    site_of,
)

pytestmark = pytest.mark.peer("redis-server")

CONFIG = """
timezone: Europe/Berlin
dicom:
  rules: {modalities: [CT, MR, US]}
  aes:
    - {title: CT1, aliases: [CT1_OLD], group: ct}
    - {title: CT2, group: ct, own_station: true}
    - {title: MR1, own_station: true}
    - {title: ALL, modalities: []}
    - {title: WARD, locations: ['Ward *']}
    - {title: NIGHT, labels: [night]}
    - {title: NEAR, labels: [days], past_days: 1, ahead_days: 1}
    - {title: OPEN, hide: [CANCELLED]}
    - {title: HISTORY, hide: [CANCELLED], labels: [history]}
    - {title: NAMED, labels: [sorted], order: name}
    - {title: NUMBERED, labels: [sorted], order: accession}
    - title: SHORT
      lengths: {PatientName: 12, RequestedProcedureDescription: 6}
      name_groups: alphabetic
    - {title: SHOUT, name_case: upper, name_components: 2, name_groups: alphabetic}
    - title: SHAPED
      extra: [StudyInstanceUID, Modality]
      omit: [MedicalAlerts]
      constants: {ScheduledStationAETitle: SHAPED, InstitutionName: North}
    - {title: EAGER, queries_per_second: 0.5}
    - {title: TWIN, addresses: [192.0.2.1], labels: [night]}
    - {title: TWIN, addresses: [127.0.0.1], labels: [sorted]}
"""


def day(days: int) -> str:
    return f"{datetime.now(ZoneInfo('Europe/Berlin')).date() + timedelta(days=days):%Y%m%d}"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with private_redis() as redis, site_of(redis, CONFIG) as site:
        plan(site.store, "CT1", **{AET: "CT1"})
        plan(site.store, "CT2", **{AET: "CT2"})
        plan(site.store, "OLD", **{AET: "CT1_OLD"})
        plan(site.store, "MR1", **{AET: "MR1", "Modality": "MR", DATE: "20260105"})
        plan(site.store, "XA1", **{AET: "XA1", "Modality": "XA", "WorklistLabel": "xa"})
        plan(site.store, "WARD3", ScheduledProcedureStepLocation="Ward 3", WorklistLabel="night")
        for number in (-2, -1, 0, 1, 2):
            when = {DATE: day(number), TIME: "1200"}
            plan(site.store, f"DAY{number}", WorklistLabel="days", **when)
        for accession, name, time in (
            ("S3", "Adam^A", "0900"),
            ("S1", "zeta^Z", "0800"),
            ("S2", "Émile^E", "1000"),
        ):
            plan(site.store, accession, WorklistLabel="sorted", PatientName=name, **{TIME: time})
        plan(site.store, "STARTED", status="STARTED")
        for status in ("STARTED", "COMPLETED", "CANCELLED", "SCHEDULED"):
            plan(site.store, f"H{status}", status=status, WorklistLabel="history")
        plan(
            site.store, "LONG", WorklistLabel="long", MedicalAlerts="latex",
            PatientName="Featherstone^Anne^Q=東^一", RequestedProcedureDescription="CT of the head",
        )  # fmt: skip
        yield site


def seen(site: Site, calling: str, **keys: Any) -> list[str]:
    """The accession numbers on an AE's list."""
    return sorted(site.ask(in_step(**keys), calling).values("AccessionNumber"))


def test_an_ae_without_rules_of_its_own_has_the_general_ones(site: Site) -> None:
    """Also one that is in no directory; a rule of its own stands above them, an empty one too."""
    assert "XA1" not in seen(site, "STRANGER")
    assert "XA1" not in seen(site, "CT1")
    assert "XA1" in seen(site, "ALL")
    assert seen(site, "STRANGER", **{AET: "MR1"}) == ["MR1"]


@pytest.mark.parametrize("calling", ["CT1", "CT1_OLD", "ct1_old"])
def test_an_ae_of_a_group_that_asks_for_itself_gets_the_list_of_the_group(
    site: Site, calling: str
) -> None:
    found = seen(site, calling, **{AET: "CT1"})
    assert {"CT1", "CT2", "OLD"} <= set(found)
    assert "MR1" not in found
    assert seen(site, calling, **{AET: "MR1"}) == ["MR1"]


def test_own_station_restricts_whatever_the_query_says(site: Site) -> None:
    assert seen(site, "MR1") == ["MR1"]
    assert seen(site, "MR1", **{AET: "CT1"}) == []
    assert {"CT1", "CT2", "OLD"} <= set(seen(site, "CT2"))
    assert "MR1" not in seen(site, "CT2")


def test_locations_and_labels_restrict(site: Site) -> None:
    assert seen(site, "WARD") == seen(site, "NIGHT") == ["WARD3"]


def test_a_window_moves_with_the_day(site: Site) -> None:
    assert seen(site, "NEAR") == ["DAY-1", "DAY0", "DAY1"]
    assert seen(site, "NEAR", **{DATE: f"{day(1)}-"}) == ["DAY1"]
    assert site.ask(asked("DAY2"), "NEAR").answers == []


def test_what_is_hidden_is_a_rule_of_the_ae(site: Site) -> None:
    assert "STARTED" in seen(site, "OPEN")
    assert "STARTED" not in seen(site, "ALL")
    assert seen(site, "HISTORY") == ["HCOMPLETED", "HSCHEDULED", "HSTARTED"]
    assert seen(site, "HISTORY", **{AET: "CT1"}) == ["HCOMPLETED", "HSCHEDULED", "HSTARTED"]


def test_a_list_comes_in_the_order_that_an_ae_wants(site: Site) -> None:
    assert site.ask(in_step(), "NAMED").accessions == "S3 S2 S1"
    assert site.ask(in_step(), "NUMBERED").accessions == "S1 S2 S3"
    assert site.ask({**in_step(), "WorklistLabel": "sorted"}, "ANY").accessions == "S1 S3 S2"


@pytest.mark.parametrize(
    ("calling", "name", "description"),
    [
        ("ANY", "Featherstone^Anne^Q=東^一", "CT of the head"),
        ("SHORT", "Featherstone", "CT of"),
        ("SHOUT", "FEATHERSTONE^ANNE", "CT of the head"),
    ],
)
def test_names_and_texts_come_in_the_form_that_an_ae_shows(
    site: Site, calling: str, name: str, description: str
) -> None:
    keys = asked("LONG", PatientName="", RequestedProcedureDescription="")
    (item,) = site.ask(keys, calling).items
    assert (item["PatientName"], item["RequestedProcedureDescription"]) == (name, description)


def test_answers_are_shaped_and_matching_is_not(site: Site) -> None:
    """The station that is asked for is the scheduled one, not the constant that is put in."""
    keys = asked("LONG", MedicalAlerts="", InstitutionName="", **{STEPS: [{AET: "CT1"}]})
    (item,) = site.ask(keys, "SHAPED").items
    assert set(item) == {"AccessionNumber", "InstitutionName", "StudyInstanceUID", STEPS}
    assert item["InstitutionName"] == "North"
    assert item[STEPS] == [{AET: "SHAPED", "Modality": "CT"}]


def test_two_devices_with_one_title_are_told_apart_by_their_address(site: Site) -> None:
    assert seen(site, "TWIN") == ["S1", "S2", "S3"]


def test_what_is_kept_for_one_ae_is_not_given_to_another(site: Site) -> None:
    """The same query, one after the other, and the other way round."""
    for _ in range(2):
        answers = {
            c: site.ask(asked("LONG", PatientName=""), c).items for c in ("SHOUT", "ANY", "SHORT")
        }
        names = {calling: items[0]["PatientName"] for calling, items in answers.items()}
        assert names["SHOUT"].startswith("FEATHERSTONE")
        assert names["ANY"].startswith("Featherstone^Anne^Q")
        assert names["SHORT"] == "Featherstone"
        assert seen(site, "NIGHT") == ["WARD3"]
        assert len(seen(site, "ALL")) > 10


def test_an_ae_that_asks_too_often_waits_and_is_refused_only_beyond_reason(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others are not made to wait for it."""
    began = time.monotonic()
    assert site.ask(asked("CT1"), "EAGER").statuses[-1] == 0
    with monkeypatch.context() as impatient:
        impatient.setattr(pacing, "LONGEST_S", 0.1)
        refused = site.ask(asked("CT1"), "EAGER")
    assert refused.statuses == (0xA700,)
    assert refused.final.ErrorComment == "more than 0.5 queries a second"
    assert site.ask(asked("CT1"), "CT1").statuses[-1] == 0
    assert site.ask(asked("CT1"), "EAGER").statuses[-1] == 0
    assert time.monotonic() - began > 1.9
