"""A mapping begun from a sample message loads, passes its example, and points at candidates."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.mapping.checking import check
from broker.mapping.examples import RECEIVED, SITE_ZONE
from broker.mapping.loading import Bundle, load
from broker.mapping.starting import starter
from broker.mapping.trying import Trial, try_message

CORPUS = Path(__file__).parents[1] / "corpus"
TAKEN = [path for path in sorted(CORPUS.glob("*.hl7")) if "siu" not in path.name]

HEADER = "MSH|^~\\&|{sender}|BROKER|NORTH|20260316081500||ORM^O01|1|P|2.3.1\r"
ORDER = (
    "PID|1||4711^^^HOSP^MR||DOE^JANE||19800101|F\r"
    "ORC|NW|P1|F1||SC||^^^20260316100000\r"
    "OBR|1|P1|F4711|X1^CHEST^L||||||||||||||||||||RAD\r"
    "ZRI|20260316|ACC-77^x|MR|SCANNER_3\r"
)


def begun(bundle: Bundle, raw: bytes, base: str = "ihe-orders") -> tuple[str, Trial]:
    trial = try_message(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE)
    return starter(trial, "site", base, "examples/site.hl7"), trial


def written(folder: Path, text: str, raw: bytes) -> Path:
    (folder / "examples").mkdir()
    (folder / "examples" / "site.hl7").write_bytes(raw)
    path = folder / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("sample", TAKEN, ids=lambda path: path.stem)
def test_what_is_begun_loads_and_its_example_passes(
    bundle: Bundle, tmp_path: Path, sample: Path
) -> None:
    """For each sample that a shipped mapping accepts, also for those it refuses."""
    raw = sample.read_bytes()
    trial = try_message(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE)
    text, _ = begun(bundle, raw, Path(trial.place).stem)
    path = written(tmp_path, text, raw)
    assert [each for each in check(path) if each.severity == "error"] == []
    assert trial.header is not None
    assert load(path).accepting(trial.header).name == "site"


def test_candidates_are_named_by_path_and_shown_as_shapes(bundle: Bundle) -> None:
    """Numbers and titles never stand in the file as they are; a modality is a code."""
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + ORDER).encode())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "# AccessionNumber: OBR-3 # A9999" in lines
    assert "# AccessionNumber: ZRI-2.1 # AAA-99" in lines
    assert "# Modality: ZRI-3 # MR" in lines
    assert "# ScheduledStationAETitle: ZRI-4 # AAAAAAA_9" in lines
    assert not any("ZRI-1" in line for line in lines)  # a date is no number
    comments = "\n".join(line for line in lines if line.startswith("#"))
    assert "DOE" not in comments
    assert "4711" not in comments


def test_a_sample_that_is_refused_says_so_and_expects_it(bundle: Bundle) -> None:
    text, trial = begun(bundle, (HEADER.format(sender="RIS|NORTH") + ORDER).encode())
    assert trial.refusal is not None
    assert f"refused: {trial.refusal.text}" in text
    assert "refused: AE 101 OBR^1^18" in text


def test_each_candidate_is_a_line_that_loads(bundle: Bundle, tmp_path: Path) -> None:
    """Taking the # away must be enough."""
    raw = (HEADER.format(sender="RIS|NORTH") + ORDER).encode()
    text, _ = begun(bundle, raw)
    lines = []
    wanted = {"attributes:", "AccessionNumber: ZRI-2.1", "ScheduledProcedureStepSequence:", "item:"}
    wanted |= {"Modality: ZRI-3", "ScheduledStationAETitle: ZRI-4", "tables:"}
    for line in text.splitlines():
        bare = line.removeprefix("# ")
        said = " ".join(bare.split(" #")[0].split())
        lines.append(bare if line.startswith("#") and said in wanted | {TABLE} else line)
    path = written(tmp_path, "\n".join(lines) + "\n", raw)
    loaded = load(path, examples=False)
    trial = try_message(loaded, raw, received=RECEIVED, site_zone=SITE_ZONE)
    assert trial.refusal is None
    (step,) = trial.outcomes[0].change.attributes["ScheduledProcedureStepSequence"]
    assert (step["Modality"], step["ScheduledStationAETitle"]) == ("MR", "SCANNER_3")


TABLE = "procedure: {rows: {X1: CT}}"


@pytest.mark.parametrize("sender", ["|", "RIS|", "A: B # C|[x]", "'|\"", "\x1b[2J|{}", "Ä|*"])
def test_any_sender_gives_a_file_that_can_be_read(
    bundle: Bundle, tmp_path: Path, sender: str
) -> None:
    raw = (HEADER.format(sender=sender) + ORDER).encode()
    text, _ = begun(bundle, raw)
    wrong = [each for each in check(written(tmp_path, text, raw)) if each.severity == "error"]
    assert wrong == []
