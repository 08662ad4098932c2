"""The shipped mappings, loaded once, and messages tried against them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from broker.mapping.loading import Bundle, load
from broker.mapping.trials.trying import Trial, try_message
from broker.worklist.changes import plain

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "corpus"
RECEIVED = datetime(2026, 3, 16, 9, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="session")
def mappings() -> Path:
    return ROOT / "mappings"


@pytest.fixture(scope="session")
def bundle(mappings: Path) -> Bundle:
    return load(mappings)


@pytest.fixture(scope="session")
def tried(bundle: Bundle) -> Callable[..., Trial]:
    """Try the segments of a message (without MSH) or raw bytes."""

    def attempt(message: str | bytes, *, header: str = "", of: Bundle = bundle) -> Trial:
        raw = message
        if isinstance(raw, str):
            head = header or "MSH|^~\\&|RIS|NORTH|BROKER|NORTH|20260316081500||ORM^O01|1|P|2.3.1"
            raw = "\r".join([head, *raw.strip().splitlines(), ""]).encode()
        return try_message(of, raw, received=RECEIVED, site_zone=BERLIN)

    return attempt


@pytest.fixture(scope="session")
def corpus(tried: Callable[..., Trial]) -> Callable[[str], Trial]:
    """Try a corpus message by the number its file name begins with."""

    def attempt(number: str) -> Trial:
        (path,) = CORPUS.glob(f"{number}_*.hl7")
        return tried(path.read_bytes())

    return attempt


def flat(attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes without ranks, the first step's among them."""
    steps = attributes.get("ScheduledProcedureStepSequence") or [{}]
    return {keyword: plain(value) for keyword, value in {**attributes, **steps[0]}.items()}


@pytest.fixture(scope="session")
def said() -> Callable[[Trial], dict[str, Any]]:
    """What the only change of a trial says, flat and without ranks."""

    def attributes(trial: Trial) -> dict[str, Any]:
        assert trial.refusal is None, trial.refusal
        (outcome,) = trial.outcomes
        return flat(outcome.change.attributes)

    return attributes


@pytest.fixture
def written(tmp_path: Path, mappings: Path) -> Callable[..., Path]:
    """A folder with the shipped tables and one mapping file of the given text."""

    def write(text: str, name: str = "site.yaml") -> Path:
        tables = tmp_path / "tables"
        if not tables.exists():
            tables.mkdir()
            for path in (mappings / "tables").glob("*.csv"):
                (tables / path.name).write_bytes(path.read_bytes())
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return write
