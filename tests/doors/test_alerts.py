"""The alert rules that ship, and what /metrics says: against a broker that runs and works."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from broker.probe.orders import orm_o01
from broker.probe.ris import Sink
from broker.probe.scanner import Scanner, new_uid, worklist_keys
from broker.store import selftest
from tests.doors.actors import CONFIG, Broker, accepted, new_order, only, send, until
from tests.doors.commands import command_of
from tests.ports import free_port
from tests.tls.authority import Authority

pytestmark = pytest.mark.peer("redis-server")

RULES = Path(__file__).parents[2] / "docs" / "deploy" / "alerts.yaml"
NAME = re.compile(r"\b(?:broker|up)_\w+\b")
OF_TLS = {"broker_console_certificate_days_left"}
"""Of a console that speaks TLS; tests/console/test_entry.py has one."""
DOORS = ("orders", "modality", "updates", "console", "store", "selftest")
NOW = datetime(2026, 3, 16, 9, 35, 12)  # noqa: DTZ001 - a scanner's clock shows local time


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One with every option that has metrics: TLS, a RIS, an audit trail, the self-test."""
    authority = Authority(tmp_path_factory.mktemp("tls"))
    file = authority.issue("broker", "localhost", "127.0.0.1")
    sink, tls = Sink(), f"tls: {{certificate: '{file}'}}"
    config = CONFIG.replace("{listen: '127.0.0.1:0', processes", "{listeners: LISTENERS, processes")
    config = config.replace("console: {", "console: {password: geheim, free: [/metrics], ")
    config = config.replace(
        "dicom: {", f"dicom: {{tls: {{listen: '127.0.0.1:0', certificate: '{file}'}}, "
    )
    config = config.replace(
        "LISTENERS", f"[{{listen: '127.0.0.1:0'}}, {{listen: '127.0.0.1:0', {tls}}}]"
    ).replace(", limits: {message_deadline: 1s, connections_per_host: 200}", "")
    running = Broker(
        f"{config}ris: [{{name: ris, to: '{sink.start()}'}}, "
        f"{{name: far, to: '127.0.0.1:1', {tls}}}]\n"
        "audit: {to: file}\n"
        f"selftest: {{every: 1h, sink: '127.0.0.1:{free_port()}'}}\n"
    )
    try:
        running.start()
        until(lambda: running.store.run(selftest.last()), "the self-test")
        yield running
    finally:
        running.end()
        sink.stop()


def families(broker: Broker) -> list[Metric]:
    with urllib.request.urlopen(f"http://{broker.console}/metrics", timeout=10) as answer:
        return list(text_string_to_metric_families(answer.read().decode()))


def samples(broker: Broker, name: str, **labels: str) -> float:
    return broker.metric(name, **labels)


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


@pytest.fixture(scope="module")
def worked(broker: Broker) -> Broker:
    """The broker when it has taken and refused a message, and answered with an empty list."""
    accepted(broker.hl7, orm_o01(new_order()))
    refused = new_order()
    assert send(broker.hl7, orm_o01(refused).replace(b"|NW|", b"|QQ|")).code == "AE"
    assert not broker.scanner.find(worklist_keys(accession="NOBODYHASIT"))
    wanted = {name for rule in rules() for name in NAME.findall(rule["expr"])} - OF_TLS
    assert len(wanted) > 15

    def missing() -> set[str]:
        return wanted - {sample.name for family in families(broker) for sample in family.samples}

    until(lambda: not missing(), f"{missing()}")
    until(lambda: samples(broker, "broker_orders_messages_total", ack="AE"), "the refusal")
    until(lambda: samples(broker, "broker_modality_ae_empty_total"), "the empty list")
    return broker


def test_every_metric_of_the_alert_rules_is_there_in_a_broker_that_runs(worked: Broker) -> None:
    assert worked.runs


GROWS, STAYS = "0+1x600", "0x600"
"""By one each minute, and not at all, for ten hours."""


def slow(labels: Mapping[str, str]) -> str:
    """Buckets of a histogram all of whose answers take five to ten seconds."""
    return GROWS if float(labels["le"]) >= 10 else STAYS


def of(word: str) -> Callable[[Mapping[str, str]], str]:
    """What has this word as one of its labels grows, all else stays."""
    return lambda labels: GROWS if word in labels.values() else STAYS


Course = str | Callable[[Mapping[str, str]], str]
ILL: dict[str, dict[str, Course]] = {
    "BrokerStoreTakesNoWrites": {"broker_store_writable": "0x600"},
    "BrokerReplicasMissing": {"broker_store_shortfalls_total": GROWS},
    "BrokerSelftestFails": {"broker_selftest_ok": "0x600"},
    "BrokerNoOrders": {"broker_orders_last_message_timestamp_seconds": "30000x600"},
    "BrokerRefusesOrders": {"broker_orders_messages_total": GROWS},
    "BrokerOrdersWaitForACode": {"broker_orders_held": "1x600"},
    "BrokerOrdersNotApplied": {"broker_orders_dead": "1x600"},
    "BrokerAnswersOrdersSlowly": {"broker_orders_ack_seconds_bucket": slow},
    "BrokerRefusesQueries": {"broker_modality_ae_failures_total": GROWS},
    "BrokerListsAreEmpty": {
        "broker_modality_ae_empty_total": GROWS,
        "broker_modality_ae_find_seconds_count": GROWS,
    },
    "BrokerAnswersQueriesSlowly": {"broker_modality_find_seconds_bucket": slow},
    "BrokerStepsOnNobodysList": {"broker_updates_invisible_steps": "1x600"},
    "BrokerStepsHaveNoEnd": {"broker_updates_unended_steps": "1x600"},
    "BrokerExamsNeverEnd": {"broker_modality_mpps_never_ended_total": GROWS},
    "BrokerExamsToLookAt": {"broker_modality_mpps_exceptions": "1x600"},
    "BrokerRisAway": {"broker_updates_away": "1x600"},
    "BrokerRisPaused": {"broker_updates_paused": "1x600"},
    "BrokerReportsWaitForAPerson": {"broker_updates_dead_letters": "1x600"},
    "BrokerMappingsNotReloaded": {"broker_store_mapping_reload_ok": "0x600"},
    "BrokerCertificateEnds": {"broker_orders_certificate_days_left": "29x600"},
    "BrokerCertificateEndsThisWeek": {"broker_modality_certificate_days_left": "6x600"},
    "BrokerHandshakesFail": {"broker_orders_connection_events_total": of("handshake_failed")},
    "BrokerPasswordIsTried": {"broker_console_refused_total": of("too many")},
    "BrokerAuditLost": {"broker_modality_audit_lost_total": GROWS},
}
"""For each alert how metrics of a broker go when it is so; all others stay what they are."""


def series(found: Iterable[Metric], ill: Mapping[str, Course]) -> list[dict[str, str]]:
    """Every sample of a broker's own text that the rules name, as promtool reads it."""
    made, named = [], {name for rule in rules() for name in NAME.findall(rule["expr"])}
    samples = (sample for family in found for sample in family.samples)
    for sample in (each for each in samples if each.name in named):
        course = ill.get(sample.name, f"{sample.value}x600")
        labels = ",".join(f"{name}={json.dumps(text)}" for name, text in sample.labels.items())
        values = course if isinstance(course, str) else course(sample.labels)
        made.append({"series": f"{sample.name}{{{labels}}}", "values": values})
    return made


def fires(alert: str, *, firing: bool) -> dict[str, Any]:
    """That an alert fires, or does not, after ten hours: at ten in the morning of 1970-01-01."""
    expr = f'(count(ALERTS{{alertname="{alert}",alertstate="firing"}}) > bool 0) or vector(0)'
    samples = [{"labels": "{}", "value": int(firing)}]
    return {"expr": expr, "eval_time": "10h", "exp_samples": samples}


@pytest.mark.peer("promtool")
def test_each_alert_fires_on_the_broker_s_own_metrics_when_it_is_so_and_else_not(
    worked: Broker, tmp_path: Path
) -> None:
    """Judged by Prometheus' own reader of rules."""
    names = [rule["alert"] for rule in rules()]
    assert sorted(ILL) == sorted(names)
    found = families(worked)
    well = dict.fromkeys(  # as it is with `far`, and after an exam of another test
        ("broker_updates_away", "broker_orders_dead", "broker_updates_unended_steps"), "0x600"
    )
    told: list[tuple[Mapping[str, Course], list[dict[str, Any]]]] = [
        (well, [fires(name, firing=False) for name in names])
    ]
    told += [(course, [fires(name, firing=True)]) for name, course in ILL.items()]
    named = {sample.name for family in found for sample in family.samples}
    assert not {metric for course in ILL.values() for metric in course} - named
    tests = [
        {"interval": "1m", "input_series": series(found, course), "promql_expr_test": expected}
        for course, expected in told
    ]
    file = tmp_path / "tests.yaml"
    said = {"rule_files": [str(RULES)], "evaluation_interval": "10m", "tests": tests}
    file.write_text(json.dumps(said))
    judged = subprocess.run(
        ["promtool", "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert judged.returncode == 0, (judged.stdout + judged.stderr)[-4000:]


def test_every_rule_says_how_bad_it_is_and_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names)) > 10
    for rule in rules():
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "remedy"}
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["remedy"].startswith("broker ")


def test_every_metric_is_of_a_door_has_a_help_text_and_no_patient_in_a_label(
    broker: Broker,
) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    uid = new_uid()
    assert broker.scanner.mpps_start(only(broker, order), uid=uid, now=NOW) == 0
    until(lambda: samples(broker, "broker_modality_mpps_total", operation="N-CREATE"), "the MPPS")
    found = families(broker)
    for family in found:
        assert family.name.split("_")[:2] in [["broker", door] for door in DOORS], family.name
        assert len(family.documentation) > 10, family.name
    said = {value for family in found for s in family.samples for value in s.labels.values()}
    person = order.patient
    secrets = (person.patient_id, person.name.split("^")[0], "MIRJAM", order.accession, uid)
    assert not [value for value in said for secret in secrets if secret in value]


def test_each_sender_and_ae_is_counted_by_itself_and_shown_by_status(
    broker: Broker, capsys: pytest.CaptureFixture[str]
) -> None:
    order = new_order()
    accepted(broker.hl7, orm_o01(order))
    ct7 = Scanner(broker.dicom, calling="CT7")
    assert not ct7.find(worklist_keys(accession="NOBODYHASIT"))
    assert ct7.find(worklist_keys(accession=order.accession))
    until(lambda: samples(broker, "broker_modality_ae_find_seconds_count", aet="CT7") == 2, "both")
    assert samples(broker, "broker_modality_ae_empty_total", aet="CT7") == 1
    assert samples(broker, "broker_modality_ae_failures_total", aet="CT7") == 0
    assert samples(broker, "broker_modality_last_ae_find_timestamp_seconds", aet="CT7") > 1e9
    last = "broker_orders_last_message_timestamp_seconds"
    until(lambda: samples(broker, last, source="PROBERIS|NORTH") > 1e9, "the sender")
    assert samples(broker, "broker_modality_ae_find_seconds_count", aet="BROKER_CANARY") == 0
    code, said, _ = command_of(broker, capsys)("status", "--json")
    assert code == 0
    report = json.loads(said)
    [found] = [each for each in report["aes"] if each["peer"] == "CT7"]
    assert (found["answers"], found["empty"], found["errors"]) == (2, 1, 0)
    assert found["within"] in (0.01, 0.05, 0.25, 1, 5, None)
    [sender] = [each for each in report["senders"] if each["peer"] == "PROBERIS|NORTH"]
    assert sender["answers"] >= 1
    _, text, _ = command_of(broker, capsys)("status")
    assert re.search(r"^ae +CT7: last .*, 2 queries, 1 of them empty, ", text, re.MULTILINE)
    assert re.search(r"^sender +PROBERIS\|NORTH: last ", text, re.MULTILINE)
