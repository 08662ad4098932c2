"""The quick encoder writes what the thorough one writes, or says that it cannot."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.dicom.dictionary import UnencodableValue
from broker.dicom.encoding import encode
from broker.dicom.negotiation import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from broker.dicom.outline import Key, NotPlain, encoder

SYNTAXES = st.sampled_from([IMPLICIT_LITTLE, EXPLICIT_LITTLE])
STEPS = "ScheduledProcedureStepSequence"
KEYWORDS = (
    *("AccessionNumber", "PatientName", "PatientID", "StudyInstanceUID", "PatientComments"),
    *("PregnancyStatus", "PatientWeight", "Modality", "ScheduledStationAETitle", "PixelData"),
    *("RequestedProcedureCodeSequence", "RetrieveURL", "IssueDateOfImagingServiceRequest"),
)
TEXTS = st.text(st.characters(max_codepoint=300, exclude_characters="\\"), max_size=200)
PLAIN = st.text(st.characters(max_codepoint=127), max_size=200)
LEAVES = st.one_of(
    st.none(), st.just(""), PLAIN, TEXTS, st.integers(0, 70_000), st.lists(PLAIN, max_size=3)
)
CODES = st.lists(st.dictionaries(st.sampled_from(["CodeValue", "CodeMeaning"]), PLAIN), max_size=2)
ITEMS = st.dictionaries(st.sampled_from(KEYWORDS), LEAVES | CODES)
KEYS = st.dictionaries(st.sampled_from(KEYWORDS), st.booleans())


def outlined(asked: dict[str, bool], item: dict[str, Any]) -> dict[str, Any]:
    """The attributes of an item that come back, those that always do empty where it has none."""
    return {k: item.get(k) for k, always in asked.items() if always or k in item}


def easy(value: Any) -> bool:
    """A value as nearly all are."""
    return isinstance(value, str) and value.isascii() and len(value) <= 126


@settings(deadline=None)
@given(KEYS, KEYS, ITEMS, ITEMS, SYNTAXES)
def test_what_is_outlined_is_encoded_as_ever(
    top: dict[str, bool],
    inner: dict[str, bool],
    item: dict[str, Any],
    step: dict[str, Any],
    syntax: str,
) -> None:
    keys = [Key(k, always) for k, always in top.items()]
    keys.append(Key(STEPS, True, item=tuple(Key(k, always) for k, always in inner.items())))
    answer = {**outlined(top, item), STEPS: [outlined(inner, step)]}
    try:
        quick = encoder(keys, syntax)({**item, STEPS: [step]})
    except NotPlain:
        leaves = [*answer.values(), *answer[STEPS][0].values()]
        assert not all(value is None or easy(value) for value in leaves if value != answer[STEPS])
    except UnencodableValue:
        with pytest.raises(UnencodableValue):
            encode(answer, syntax)
    else:
        assert quick == encode(answer, syntax)


@pytest.mark.parametrize("syntax", [IMPLICIT_LITTLE, EXPLICIT_LITTLE])
def test_of_a_sequence_comes_what_was_asked_of_it(syntax: str) -> None:
    only_values = partial(map, lambda code: {"CodeValue": code["CodeValue"]})
    narrowed = Key("RequestedProcedureCodeSequence", True, narrowed=lambda v: list(only_values(v)))
    held = [{"CodeValue": "C1", "CodeMeaning": "Head"}]
    quick = encoder([narrowed], syntax)({"RequestedProcedureCodeSequence": held})
    assert quick == encode({"RequestedProcedureCodeSequence": [{"CodeValue": "C1"}]}, syntax)


def test_text_beyond_ascii_is_for_the_thorough_encoder() -> None:
    """It has to choose a character set, and says which."""
    encoded = encoder([Key("PatientName", True), Key("RequestedProcedureCodeSequence", True)], "")
    for item in (
        {"PatientName": "Müller"},
        {"PatientName": ["Doe", "Müller"]},
        {"RequestedProcedureCodeSequence": [{"CodeMeaning": "Schädel"}]},
    ):
        with pytest.raises(NotPlain):
            encoded(item)
