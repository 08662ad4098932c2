"""`broker bench map`: what is measured is real work on different orders; times are not judged."""

from __future__ import annotations

import json

import pytest

from broker.bench import mapping as bench
from broker.cli import run_command
from broker.hl7.header import read_header
from broker.hl7.message import parse
from broker.mapping.bundle import Bundle
from broker.mapping.loading import load
from broker.mapping.running.applying import changes
from broker.mapping.trials.coverage import leaves
from broker.settings import shipped_mappings
from broker.worklist.changes import Change


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The shipped mappings."""
    return load(shipped_mappings(), examples=False)


def test_three_mappings_are_measured_beside_hl7apy(capsys):
    assert run_command(["bench", "map", "--messages", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {row["mapping"] for row in report["rows"]} == set(bench.MAPPINGS)
    assert all(row["messages"] == 2 * bench.ROUNDS for row in report["rows"])
    assert all(row["hl7apy_messages"] == bench.ROUNDS for row in report["rows"])
    assert report["loading"]["files"] > len(bench.MAPPINGS)
    assert report["comparing"]["changed"] == report["comparing"]["messages"] == 2 * bench.COMPARED
    assert report["comparing"]["groups"] > 10
    assert report["machine"]["processors"] > 0


def test_people_get_a_line_for_the_rules_and_one_with_parsing(capsys):
    assert run_command(["bench", "map", "--messages", "1"]) == 0
    said = capsys.readouterr().out
    assert "compare 10 messages, 10 come out otherwise" in said
    assert said.count("  rules ") == said.count("  parsing and rules ") == len(bench.MAPPINGS)


def mapped(bundle: Bundle, text: str) -> tuple[str, list[Change]]:
    """The name of the mapping that takes an order, and what it makes of it."""
    header = read_header(text.encode())
    inbound, source = bundle.accepting(header), bundle.source(header)
    when = {"received": bench.RECEIVED, "site_zone": bench.SITE_ZONE}
    return inbound.name, changes(inbound, source, parse(text), **when)


def test_every_measured_order_is_accepted_and_is_another_one(bundle):
    for sample in bench.samples(bundle, 3):
        found = [mapped(bundle, text) for text in sample.texts]
        assert {name for name, _ in found} == {sample.mapping}
        placers = [each.attributes["PlacerOrderNumberImagingServiceRequest"] for _, [each] in found]
        assert len(set(map(str, placers))) == 3


def test_hl7apy_finds_what_the_rules_find(bundle):
    """Else it would be fast because it found nothing."""
    for sample in bench.samples(bundle, 1):
        [text] = sample.texts
        inbound = bundle.accepting(read_header(text.encode()))
        wanted = [bench.places_of(leaf) for leaf in leaves(inbound)]
        _, [change] = mapped(bundle, text)
        assert bench.hl7apy_read(bench.hl7apy_parsed(text), wanted) >= len(change.attributes) // 2
