"""A mapping begun from a sample message loads, passes its example, and points at candidates."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.mapping.checking import check
from broker.mapping.loading import Bundle, load
from broker.mapping.trials.examples import RECEIVED, SITE_ZONE
from broker.mapping.trials.sketching import sketched
from broker.mapping.trials.starting import starter
from broker.mapping.trials.trying import Trial, try_message

CORPUS = Path(__file__).parents[1] / "corpus"
TAKEN = [path for path in sorted(CORPUS.glob("*.hl7")) if "siu" not in path.name]

HEADER = "MSH|^~\\&|{sender}|BROKER|NORTH|20260316081500||ORM^O01|1|P|2.3.1\r"
ORDER = (
    "PID|1||4711^^^HOSP^MR||DOE^JANE||19800101|F\r"
    "ORC|NW|P1|F1||SC||^^^20260316100000\r"
    "OBR|1|P1|F4711|X1^CHEST^L||||||||||||||||||||RAD\r"
    "ZRI|20260316|ACC-9977^x|MR|SCANNER_3\r"
)


def begun(bundle: Bundle, raw: bytes, base: str = "ihe-orders") -> tuple[str, Trial]:
    sketch = sketched(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE)
    return starter(sketch, "site", base, "examples/site.hl7"), sketch.trial


def uncommented(text: str) -> str:
    """Every suggestion taken; remarks stay."""
    return re.sub(r"(?m)^( *)# ", r"\1", text)


def suggested(text: str) -> list[str]:
    return [" ".join(line.lstrip("# ").split()) for line in text.splitlines() if "# " in line[:5]]


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
    lines = suggested(text)
    assert "AccessionNumber: ZRI-2.1 # AAA-9999" in lines
    assert "Modality: ZRI-3 | lookup(modality) # MR" in lines
    assert "ScheduledStationAETitle: ZRI-4 # AAAAAAA_9" in lines
    assert any("It may be in OBR-3 (A9999)" in line for line in lines)
    assert not any("ZRI-1" in line for line in lines)  # a date is no number
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    assert "DOE" not in comments
    assert "4711" not in comments


@pytest.mark.parametrize("sample", TAKEN, ids=lambda path: path.stem)
def test_all_suggestions_together_are_a_file_that_check_can_judge(
    bundle: Bundle, tmp_path: Path, sample: Path
) -> None:
    """No key twice, no field twice; what only people know is refused, never taken for true."""
    raw = sample.read_bytes()
    trial = try_message(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE)
    text, _ = begun(bundle, raw, Path(trial.place).stem)
    path = written(tmp_path, uncommented(text).partition("\nexamples:")[0] + "\n", raw)
    wrong = [each for each in check(path) if each.severity == "error"]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all("WHICH-" in lines[each.line - 1] for each in wrong)
    assert bool(wrong) == any("WHICH-" in line for line in lines if not line.startswith("##"))


def test_a_value_that_nobody_can_guess_is_left_open(bundle: Bundle) -> None:
    """An MR head that is planned as CT is worse than an order that is refused."""
    order = ORDER.replace("|MR|", "||").replace("SCANNER_3", "")
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    lines = suggested(text)
    assert any(line.startswith("procedure: {rows: {X1: WHICH-MODALITY-IS-IT}}") for line in lines)
    assert any(line.startswith("station: {rows: {CT: WHICH-AE-TITLE-IS-IT}}") for line in lines)
    assert any(line.startswith("timezone: WHICH-TIME-ZONE-IS-IT") for line in lines)


def test_an_order_number_is_no_accession_number_by_itself(bundle: Bundle) -> None:
    order = ORDER.replace("ZRI|20260316|ACC-9977^x|", "ZRI|||")
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    assert "AccessionNumber: WHICH-FIELD-IS-IT" in suggested(text)
    assert any("It may be in OBR-3 (A9999)" in line for line in suggested(text))


def test_a_long_number_and_a_text_that_begins_with_a_modality_are_found(bundle: Bundle) -> None:
    order = ORDER.replace("ZRI|20260316|ACC-9977^x|MR|SCANNER_3", "ZPL|1|X|CT-Thorax nativ")
    order = order.replace("|" * 20 + "RAD", "|" * 13 + "ACC-RUFF-0000000001")
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    lines = suggested(text)
    assert any("AccessionNumber: {from: OBR-17, too_long: surrogate} #" in line for line in lines)
    assert any("Modality: ZPL-3 | extract('^[A-Za-z]+') | lookup(modality)" in x for x in lines)


def test_the_identifier_that_the_mapping_takes_is_named(bundle: Bundle) -> None:
    """Not the first one, which is an insurance number."""
    order = ORDER.replace("4711^^^HOSP^MR", "99^^^INSURER^HC~4711^^^HOSP^MR")
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    assert "the patient ID is PID-3[2], of HOSP" in text
    assert "INSURER" not in text


def test_what_the_base_finds_is_not_suggested_again(bundle: Bundle) -> None:
    order = ORDER.replace("CHEST^L||||||||||||||||||||RAD", "CHEST^L||||||||||||||N26-5||||||CT")
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    assert "The accession number is from OBR-18." in text
    assert "The modality is from OBR-24." in text
    assert not any(line.startswith(("AccessionNumber:", "Modality:")) for line in suggested(text))


def test_a_sample_that_is_refused_says_so_and_expects_it(bundle: Bundle) -> None:
    text, trial = begun(bundle, (HEADER.format(sender="RIS|NORTH") + ORDER).encode())
    assert trial.refusal is not None
    assert f"refused: {trial.refusal.text}" in text
    assert "refused: AE 101 OBR^1^18" in text


def test_each_candidate_is_a_line_that_loads(bundle: Bundle, tmp_path: Path) -> None:
    """Taking the # away must be enough."""
    raw = (HEADER.format(sender="RIS|NORTH") + ORDER).encode()
    text, _ = begun(bundle, raw)
    taken = [
        line if "WHICH-" in line else uncommented(line)
        for line in text.replace("# tables:", "## tables:").splitlines()
    ]
    path = written(tmp_path, "\n".join(taken) + "\n", raw)
    loaded = load(path, examples=False)
    trial = try_message(loaded, raw, received=RECEIVED, site_zone=SITE_ZONE)
    assert trial.refusal is None
    (step,) = trial.outcomes[0].change.attributes["ScheduledProcedureStepSequence"]
    assert (step["Modality"], step["ScheduledStationAETitle"]) == ("MR", "SCANNER_3")


def test_a_sample_without_a_sender_is_known_by_its_port(bundle: Bundle) -> None:
    raw = (HEADER.format(sender="|") + ORDER).encode()
    sketch = sketched(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE, port=2577)
    text = starter(sketch, "site", "ihe-orders", "examples/site.hl7")
    assert "\n  ports: [2577]" in text


@pytest.mark.parametrize("sender", ["|", "RIS|", "A: B # C|[x]", "'|\"", "\x1b[2J|{}", "Ä|*"])
def test_any_sender_gives_a_file_that_can_be_read(
    bundle: Bundle, tmp_path: Path, sender: str
) -> None:
    raw = (HEADER.format(sender=sender) + ORDER).encode()
    text, _ = begun(bundle, raw)
    wrong = [each for each in check(written(tmp_path, text, raw)) if each.severity == "error"]
    assert wrong == []


def test_what_is_named_an_accession_is_one_and_no_station(bundle: Bundle) -> None:
    order = ORDER.split("ZRI")[0].replace("||||||||||||||||||||RAD", "|" * 17 + "ACC-7|||RAD")
    text, _ = begun(bundle, (HEADER.format(sender="NEWRIS|X") + order).encode())
    (station,) = [line for line in text.splitlines() if "The station's AE title" in line]
    assert "OBR-21" not in station
    assert "ScheduledStationAETitle: OBR-21" not in text
    assert "AccessionNumber: OBR-21" in text


def test_a_start_that_the_base_does_not_find_is_asked_for(bundle: Bundle) -> None:
    """Else the exam would be planned for when the message was sent, and nobody would be told."""
    visit = "PV1|1|O|||||||||||||||||V1" + "|" * 25 + "20260317093000\rORC"
    order = ORDER.replace("||^^^20260316100000", "").replace("ORC", visit, 1)
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    lines = suggested(text)
    assert "ScheduledProcedureStepStartDate: WHICH-FIELD-IS-IT" in lines
    assert "ScheduledProcedureStepStartTime: WHICH-FIELD-IS-IT" in lines
    said = "The start is not found. It may be in PV1-44 (99999999999999), ZRI-1 (99999999)."
    assert any(said in line for line in lines)
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + ORDER).encode())
    assert "StartDate: WHICH-FIELD" not in text


@pytest.mark.parametrize(("code", "asked"), [("ROE", True), ("RAD", False), ("CT", False)])
def test_a_code_of_the_sender_for_a_modality_is_asked_for_and_a_section_is_not(
    bundle: Bundle, code: str, asked: bool
) -> None:
    order = ORDER.replace("|RAD", f"|{code}").replace("|MR|", "||")
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    row = "modality: {rows: {ROE: WHICH-MODALITY-IS-IT}} # OBR-24 says ROE, which is in no row"
    assert (row in suggested(text)) is asked


def test_a_sample_that_is_ignored_says_why(bundle: Bundle) -> None:
    order = ORDER.replace("ORC|NW", "ORC|OK")
    text, _ = begun(bundle, (HEADER.format(sender="RIS|NORTH") + order).encode())
    assert "The sample is ignored" in text
    assert "take it (an answer to an order)." in text
