"""SECURITY.md names settings, tests and metrics that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from broker.settings import Settings
from broker.settings.loading import all_keys
from broker.settings.orders import Sender
from broker.tls.credentials import SOON_DAYS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def names(model: type[BaseModel]) -> Iterator[str]:
    for keys, _ in all_keys(model):
        yield from keys


def test_every_file_that_it_names_is_there() -> None:
    named = re.findall(r"\(((?:docs/)?[A-Za-z.]+\.md)\)|`(tests/[^`]+|[A-Z]+\.md)`", PAGE)
    assert named
    for each in (one or other for one, other in named):
        assert (ROOT / each).exists(), each


def test_every_setting_that_it_advises_is_one() -> None:
    from broker.settings import Ae, Listener

    known = {*names(Settings), *names(Ae), *names(Listener), *names(Sender)}
    advised = set(
        re.findall(r"`((?:[a-z_]+\.)?[a-z_]+)(?:: [a-z]+)?`", PAGE.partition("## Hard")[2])
    )
    spoken = {each.rpartition(".")[2] for each in advised} - {"data", "yaml"}
    assert len(spoken & known) >= 10
    assert spoken <= known, spoken - known


def test_the_days_of_a_certificate_are_the_same_wherever_they_are_said() -> None:
    rules = (ROOT / "docs/deploy/alerts.yaml").read_text(encoding="utf-8")
    warned = {int(days) for days in re.findall(r"certificate_days_left < (\d+)", rules)}
    assert warned == {SOON_DAYS, 7}
    said = PAGE.partition("certificates with fewer than ")[2]
    assert said.startswith(f"{SOON_DAYS} days (a warning) or 7 (critical)")
    for name, phrase in (
        ("security", f"from {SOON_DAYS} days on"),
        ("security", f"warn at {SOON_DAYS} days too; at 7 it is critical"),
        ("watching", f"fewer than {SOON_DAYS} days"),
        ("handbook", f"from {SOON_DAYS} days on"),
    ):
        assert phrase in (ROOT / f"docs/{name}.md").read_text(encoding="utf-8"), phrase


def test_every_alert_that_it_advises_ships() -> None:
    rules = (ROOT / "docs/deploy/alerts.yaml").read_text(encoding="utf-8")
    for metric in (
        *(
            f"broker_{door}_audit_lost_total"
            for door in ("orders", "modality", "updates", "console")
        ),
        'associations_total{outcome="handshake failed"}',
        'connection_events_total{event="handshake_failed"}',
    ):
        assert metric in rules
