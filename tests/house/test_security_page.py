"""SECURITY.md names settings, tests and metrics that there are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from broker.settings import Settings
from broker.settings.loading import all_keys
from broker.settings.orders import Sender

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
