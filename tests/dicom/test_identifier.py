"""Identifiers in: whatever scanners send. Identifiers out: byte for byte what pydicom writes."""

from __future__ import annotations

import re
import struct
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from broker.dicom.charsets import decode_text, encode_text, known_terms
from broker.dicom.dictionary import UnencodableValue
from broker.dicom.encoding import charset_for, encode, encode_element
from broker.dicom.identifier import Identifier, UnreadableIdentifier, decode
from tests.dicom.requestor import encoded

IMPLICIT, EXPLICIT = str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)
BOTH = pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    """An element in Implicit VR Little Endian, its length as claimed."""
    size = len(value) if length is None else length
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, size) + value


def item(value: bytes) -> bytes:
    return element(0xFFFEE000, value)


STEPS = 0x00400100
AE_TITLE = 0x00400001
NAME = 0x00100010
PATIENT_ID = 0x00100020
CHARSET = 0x00080005


def read(*elements: bytes) -> Identifier:
    return decode(b"".join(elements), IMPLICIT)


def worklist_query(step: dict[str, Any] | None) -> Dataset:
    query = Dataset()
    query.PatientName = "DOE^J*"
    query.PatientID = ""
    query.AccessionNumber = ""
    query.StudyInstanceUID = ""
    query.ReferencedStudySequence = []
    if step is not None:
        inner = Dataset()
        for keyword, value in step.items():
            setattr(inner, keyword, value)
        query.ScheduledProcedureStepSequence = [inner]
    return query


@BOTH
def test_a_query_becomes_keywords_and_text(syntax: str) -> None:
    """Nested as it came; zero length is the empty string, a sequence without items is []."""
    query = worklist_query({"ScheduledStationAETitle": "CT1", "Modality": "CT"})
    read = decode(encoded(query, explicit=syntax == EXPLICIT), syntax)
    assert read == Identifier(
        {
            "AccessionNumber": "",
            "ReferencedStudySequence": [],
            "PatientName": "DOE^J*",
            "PatientID": "",
            "StudyInstanceUID": "",
            "ScheduledProcedureStepSequence": [
                {"Modality": "CT", "ScheduledStationAETitle": "CT1"}
            ],
        }
    )


@BOTH
def test_undefined_lengths_read_the_same(syntax: str) -> None:
    """Sequence and item delimiters in the place of lengths."""
    query = worklist_query({"Modality": "CT"})
    query["ScheduledProcedureStepSequence"].is_undefined_length = True
    query.ScheduledProcedureStepSequence[0].is_undefined_length_sequence_item = True
    data = encoded(query, explicit=syntax == EXPLICIT)
    assert b"\xfe\xff\xdd\xe0" in data
    assert decode(data, syntax).keys["ScheduledProcedureStepSequence"] == [{"Modality": "CT"}]


@pytest.mark.parametrize("items", [0, 1, 2])
def test_a_sequence_has_as_many_items_as_came(items: int) -> None:
    """Zero, one empty one, and the illegal two."""
    assert read(element(STEPS, item(b"") * items)).keys == {
        "ScheduledProcedureStepSequence": [{}] * items
    }


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"CT1 ", "CT1"),
        (b"CT1\0", "CT1"),
        (b"  CT1 \0\0", "CT1"),
        (b"\0\0", ""),
        (b"A\\B ", ["A", "B"]),
        (b"ct*?", "ct*?"),
        (b"M\xdcLL", "MÜLL"),
    ],
)
def test_padding_is_no_part_of_a_value(raw: bytes, value: str | list[str]) -> None:
    """Blanks and NULs on both sides; a backslash divides values."""
    assert read(element(AE_TITLE, raw)).keys == {"ScheduledStationAETitle": value}


@pytest.mark.parametrize(
    "key", ["-20260131", "20260101-", "20260101-20260131", "*", "2026.01.31", "12-14", "-"]
)
def test_dates_are_left_as_they_are_written(key: str) -> None:
    """What a key means is matching's business."""
    assert read(element(0x00400002, key.encode())).keys == {"ScheduledProcedureStepStartDate": key}


def test_explicit_bytes_in_an_implicit_context_are_read() -> None:
    """And the other way round: the bytes say what they are."""
    query = worklist_query({"Modality": "CT"})
    for explicit in (True, False):
        data = encoded(query, explicit=explicit)
        assert decode(data, IMPLICIT) == decode(data, EXPLICIT)


def test_group_lengths_order_and_padding_do_not_matter() -> None:
    """Old devices send all three."""
    got = read(
        element(PATIENT_ID, b"P1"),
        element(0x00080000, b"\x10\0\0\0"),
        element(0x00080050, b"A1"),
        bytes(6),
    )
    assert got == Identifier({"PatientID": "P1", "AccessionNumber": "A1"})


@pytest.mark.parametrize("tag", [0x00091001, 0x00090010, 0x00083333])
def test_private_and_unknown_tags_are_noticed_and_left_out(tag: int) -> None:
    """Also inside an item: the answer's status depends on it."""
    assert read(element(tag, b"x ")) == Identifier({}, unknown=True)
    assert read(element(STEPS, item(element(tag, b"x ")))).unknown


def test_q17_a_sequence_that_holds_text_is_unusable_and_no_more() -> None:
    """Case Q17: the other keys still count."""
    got = read(element(PATIENT_ID, b"P1"), element(STEPS, b"TEXT"))
    assert got.keys == {"PatientID": "P1", "ScheduledProcedureStepSequence": []}
    assert got.unusable == ("ScheduledProcedureStepSequence",)


def test_numbers_and_tags_are_text_too() -> None:
    """US of the right length; of a wrong length it is unusable."""
    assert read(element(0x001021C0, b"\4\0")).keys == {"PregnancyStatus": "4"}
    assert read(element(0x001021C0, b"\4")).unusable == ("PregnancyStatus",)
    assert read(element(0x00280009, b"\x18\0\x63\x10")).keys == {
        "FrameIncrementPointer": "00181063"
    }


@pytest.mark.parametrize(
    "data",
    [
        element(PATIENT_ID, b"P1", 100),
        element(PATIENT_ID, b"P1")[:6],
        element(STEPS, item(element(PATIENT_ID, b"P1", 100))),
        element(STEPS, item(b"")[:5]),
        element(STEPS, item(b""), 0xFFFFFFFF),
        element(STEPS, item(b"") + element(PATIENT_ID, b"P1")),
        b"\x10\0\x20\0LO\x02\0P1" + b"\x10\0\x30\0\1\2\3\4",
        b"garbage that is no data set at all",
    ],
)
def test_q16_a_truncated_or_broken_data_set_is_refused(data: bytes) -> None:
    """Case Q16; the words fit an Error Comment and hold no value."""
    with pytest.raises(UnreadableIdentifier) as caught:
        decode(data, IMPLICIT)
    assert len(caught.value.fact) <= 64
    assert "P1" not in caught.value.fact


@pytest.mark.parametrize("undefined", [True, False])
def test_q18_nesting_without_end_is_refused(undefined: bool) -> None:
    """Case Q18: 3,000 levels."""
    data = b""
    for _ in range(3000):
        if undefined:
            data = element(STEPS, element(0xFFFEE000, data, 0xFFFFFFFF), 0xFFFFFFFF)
        else:
            data = element(STEPS, item(data))
    with pytest.raises(UnreadableIdentifier, match="nested deeper"):
        decode(data, IMPLICIT)


@pytest.mark.parametrize("within", [False, True])
def test_zeros_cost_their_number_and_not_its_square(within: bool) -> None:
    """Each eight of them are an element without a value; a quarter of a megabyte took a minute."""
    zeros = bytes(256 * 1024) + b"\x08"
    began = time.process_time()
    with pytest.raises(UnreadableIdentifier, match="ends inside"):
        decode(element(STEPS, item(zeros)) if within else zeros, IMPLICIT)
    assert time.process_time() - began < 5


def test_more_parts_than_any_exam_has_are_refused() -> None:
    """Elements and items alike: each costs a hundred bytes where the peer sent eight."""
    for many in (element(PATIENT_ID, b"") * 200_001, element(STEPS, item(b"") * 200_001)):
        with pytest.raises(UnreadableIdentifier, match="more than 200000"):
            decode(many, IMPLICIT)


def test_values_without_number_and_terms_without_number_are_not_taken_apart() -> None:
    """The first is unusable, the second read as far as a label makes sense."""
    for many in (element(PATIENT_ID, b"\\" * 10_000), element(0x00280010, bytes(20_002))):
        assert len(decode(many, IMPLICIT).unusable) == 1
    label = element(CHARSET, b"ISO_IR 100" + b"\\ISO 2022 IR 87" * 10_000)
    assert len(decode(label, IMPLICIT).charset) == 16


def test_only_what_is_wanted_is_read() -> None:
    """Of a long MPPS a few attributes matter; sequences that do not are stepped over."""
    broken = element(0x00400340, element(0xFFFEE000, b"", 77))
    data = element(CHARSET, b"ISO_IR 192") + element(PATIENT_ID, b"P1") + broken
    got = decode(data, IMPLICIT, only={"PatientID"})
    assert got == Identifier({"PatientID": "P1"}, charset=("ISO_IR 192",))


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        (b"ISO_IR 100", b"m\xfcll*", "müll*"),
        (b"iso-ir 100", b"m\xfcll*", "müll*"),
        (b"ISO_IR 192", "Łódź".encode(), "Łódź"),
        (b"ISO_IR 144", "Иванов".encode("iso8859-5"), "Иванов"),
        (b"GB18030 ", "珅^珅".encode("gb18030"), "珅^珅"),
        (b"\\ISO 2022 IR 87", b"Yamada^T=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^T=山田^太郎"),
        (b"\\ISO 2022 IR 58 ", b"Ng^Wei=\x1b$)A\xce\xe2^\x1b$)A\xce\xb0", "Ng^Wei=吴^伟"),
        (b"\\ISO 2022 IR 149", b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong=洪^吉洞"),
        (None, b"m\xfcll*", "müll*"),
        (None, "müll*".encode(), "müll*"),
        (b"", "müll*".encode(), "müll*"),
        (b"NONSENSE", b"m\xfcll*", "müll*"),
        (b"ISO_IR 192", b"m\xfcll*", "müll*"),
        (b"\\ISO 2022 IR 87", b"\x1b$Z\xff\xff", "\x1b$Zÿÿ"),
    ],
)
def test_text_is_read_by_its_label_or_past_it(label: bytes | None, raw: bytes, text: str) -> None:
    """Cases Q11 to Q13: a wrong or missing label is guessed past, never fatal."""
    labelled = b"" if label is None else element(CHARSET, label)
    assert read(labelled, element(NAME, raw)).keys == {"PatientName": text}


def test_the_charset_of_an_item_is_its_own() -> None:
    """Otherwise it inherits (PS3.5 §7.5.3)."""
    physician = element(0x00400006, "Łoś".encode())
    inside = item(element(CHARSET, b"ISO_IR 192") + physician)
    got = read(element(CHARSET, b"ISO_IR 100"), element(NAME, b"m\xfc"), element(STEPS, inside))
    assert got.charset == ("ISO_IR 100",)
    assert got.keys["PatientName"] == "mü"
    (step,) = got.keys["ScheduledProcedureStepSequence"]
    assert step == {"ScheduledPerformingPhysicianName": "Łoś"}


ANSWER: dict[str, Any] = {
    "ScheduledProcedureStepSequence": [
        {
            "ScheduledStationAETitle": ["CT1", "CT22"],
            "ScheduledProcedureStepStartDate": "20260131",
            "ScheduledProcedureStepStartTime": "143000",
            "Modality": "CT",
            "ScheduledProcedureStepDescription": "Thorax",
            "ScheduledProtocolCodeSequence": [
                {"CodeValue": "C1", "CodingSchemeDesignator": "99X", "CodeMeaning": "CT"},
                {"CodeValue": "C2", "CodingSchemeDesignator": "99X", "CodeMeaning": "MRT"},
            ],
            "ScheduledProcedureStepID": "1",
        }
    ],
    "PatientName": "Doe^Jane^^^",
    "PatientID": "P1",
    "PatientBirthDate": "",
    "PatientWeight": "70.5",
    "PregnancyStatus": 4,
    "StudyInstanceUID": "1.2.3",
    "ReferencedStudySequence": [],
    "AccessionNumber": None,
    "MedicalAlerts": ["Latex", "Iodine"],
    "AdditionalPatientHistory": "line one\r\nline two ",
    "PatientComments": "odd",
    "PatientAddress": "Street 1",
    "ExaminedBodyThickness": 1.5,
    "FrameIncrementPointer": "00181063",
}
NAMES = {
    "": "Doe^Jane",
    "ISO_IR 100": "Müller^Jörg",
    "ISO_IR 101": "Łoś^Żaneta",
    "ISO_IR 144": "Люкceмбypг",
    "ISO_IR 192": "Wang^XiaoDong=王^小东=",
    "GB18030": "Wang^XiaoDong=王^小东",
    "\\ISO 2022 IR 87": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO 2022 IR 13\\ISO 2022 IR 87": "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    "\\ISO 2022 IR 149": "Hong^Gildong=洪^吉洞=홍^길동",
    "ISO 2022 IR 100\\ISO 2022 IR 144": "Müller^Иван",
}


def by_pydicom(attributes: dict[str, Any], syntax: str, charset: str) -> bytes:
    """The same data set through pydicom's own Dataset and writer."""

    def data_set(values: dict[str, Any]) -> Dataset:
        made = Dataset()
        for keyword, value in values.items():
            if isinstance(value, list) and (not value or isinstance(value[0], dict)):
                setattr(made, keyword, [data_set(one) for one in value])
            elif keyword == "FrameIncrementPointer":
                setattr(made, keyword, int(str(value), 16))
            else:
                setattr(made, keyword, value)
        return made

    whole = data_set(attributes)
    if charset:
        whole.SpecificCharacterSet = charset.split("\\")
    return encoded(whole, explicit=syntax == EXPLICIT)


@BOTH
@pytest.mark.parametrize("charset", NAMES)
def test_what_we_encode_is_what_pydicom_encodes(syntax: str, charset: str) -> None:
    """Byte for byte, in both transfer syntaxes and every kind of character set."""
    answer = {**ANSWER, "PatientName": NAMES[charset]}
    ours = encode(answer, syntax, charset)
    if charset == "ISO_IR 192":
        answer["PatientName"] = answer["PatientName"].rstrip("=")  # pydicom drops empty groups
        ours = encode(answer, syntax, charset)
    assert ours == by_pydicom(answer, syntax, charset)
    assert decode(ours, syntax).keys["PatientName"] == answer["PatientName"]


@BOTH
def test_what_we_encode_we_decode(syntax: str) -> None:
    """Numbers come back as text, None as empty."""
    keys = decode(encode(ANSWER, syntax), syntax).keys
    assert keys == {
        **ANSWER,
        "AccessionNumber": "",
        "PregnancyStatus": "4",
        "ExaminedBodyThickness": "1.5",
        "AdditionalPatientHistory": "line one\r\nline two",
    }


def test_pieces_of_an_answer_are_the_answer() -> None:
    """The door may keep encoded attributes and join them in the order of their tags."""
    pieces = {"PatientID": "P1", "AccessionNumber": "A1"}
    joined = b"".join(
        encode_element(k, pieces[k], EXPLICIT) for k in ("AccessionNumber", "PatientID")
    )
    assert joined == encode(pieces, EXPLICIT)


@pytest.mark.parametrize(
    ("name", "requested", "charset"),
    [
        ("Doe", (), ""),
        ("Doe", ("ISO_IR 100",), ""),
        ("Müller", (), "ISO_IR 192"),
        ("Müller", ("ISO_IR 100",), "ISO_IR 100"),
        ("Łoś", ("ISO_IR 100",), "ISO_IR 192"),
        ("Łoś", ("ISO_IR 101",), "ISO_IR 101"),
        ("Müller", ("ISO_IR 192",), "ISO_IR 192"),
        ("山田", ("", "ISO 2022 IR 87"), "\\ISO 2022 IR 87"),
        ("Müller", ("", "ISO 2022 IR 87"), "ISO_IR 192"),
        ("Müller", ("", "ISO 2022 IR 100"), "ISO_IR 192"),
        ("王", ("", "ISO 2022 IR 58"), "\\ISO 2022 IR 58"),
        ("王", ("GB18030",), "GB18030"),
        ("王", ("GBK",), "GBK"),
        ("Müller", ("NONSENSE",), "ISO_IR 192"),
    ],
)
def test_the_narrowest_character_set_is_taken(
    name: str, requested: tuple[str, ...], charset: str
) -> None:
    """ASCII without a label, else what the scanner asked for, else UTF-8; never a question mark."""
    answer = {
        "PatientName": "Doe",
        "ScheduledProcedureStepSequence": [
            {"ScheduledPerformingPhysicianName": name, "Modality": "CT"}
        ],
    }
    assert charset_for(answer, requested) == charset
    data = encode(answer, IMPLICIT, charset)
    assert b"?" not in data
    assert (b"\x08\0\x05\0" in data) == bool(charset)
    (step,) = decode(data, IMPLICIT).keys["ScheduledProcedureStepSequence"]
    assert step["ScheduledPerformingPhysicianName"] == name


@pytest.mark.parametrize(
    ("attributes", "charset"),
    [
        ({"PatientName": "Müller"}, ""),
        ({"PatientName": "Łoś"}, "ISO_IR 100"),
        ({"PatientName": "\udc80"}, "ISO_IR 192"),
        ({"Modality": "Ü"}, "ISO_IR 192"),
        ({"PregnancyStatus": "many"}, ""),
        ({"PregnancyStatus": 70000}, ""),
        ({"ReferencedStudySequence": ["text"]}, ""),
        ({"PatientName": {"family": "Doe"}, "PixelData": "x"}, ""),
        ({"NoSuchKeyword": "x"}, ""),
    ],
)
def test_what_cannot_be_encoded_is_named_without_its_value(
    attributes: dict[str, Any], charset: str
) -> None:
    """So that one bad entry can be left out of an answer, and the log stays clean."""
    with pytest.raises(UnencodableValue) as caught:
        encode(attributes, IMPLICIT, charset)
    assert caught.value.keyword in attributes
    assert "Müller" not in str(caught.value)


def test_a_text_too_long_for_explicit_vr_is_refused() -> None:
    """16 bits of length; implicit VR has room."""
    with pytest.raises(UnencodableValue):
        encode({"PatientComments": "x" * 70_000}, EXPLICIT)
    assert encode({"PatientComments": "x" * 70_000}, IMPLICIT)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from([IMPLICIT, EXPLICIT]))
def test_no_bytes_whatever_raise_anything_else(data: bytes, syntax: str) -> None:
    """Rubbish is refused in one way only."""
    with suppress(UnreadableIdentifier):
        decode(data, syntax)


@settings(deadline=None)
@given(st.data())
def test_no_damage_to_a_query_raises_anything_else(data: st.DataObject) -> None:
    """A real query with some bytes changed."""
    query = bytearray(encode(ANSWER, data.draw(st.sampled_from([IMPLICIT, EXPLICIT]))))
    for _ in range(data.draw(st.integers(1, 5))):
        query[data.draw(st.integers(0, len(query) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UnreadableIdentifier):
        decode(bytes(query), IMPLICIT)


@pytest.mark.parametrize(
    ("term", "text", "escape"),
    [
        ("58", "吴 a\r\n伟", b"\x1b$)A"),
        ("149", "홍\t길 a\r\n동", b"\x1b$)C"),
        ("87", "山\n田", b"\x1b$B"),
    ],
)
def test_a_set_is_called_anew_in_each_component_and_line(
    term: str, text: str, escape: bytes
) -> None:
    """PS3.5 6.1.2.5.3: at each delimiter the first set is in force again; annexes I and K."""
    terms = known_terms(("", f"ISO 2022 IR {term}"))
    written = encode_text(text, terms)
    lines = re.split(rb"[\t\r\n]+", written)
    assert len(lines) > 1
    assert all(escape in line for line in lines)
    assert decode_text(written, terms) == text
    name = "^".join(text.split())
    written = encode_text(name, terms, name=True)
    assert all(escape in part or part.isascii() for part in written.split(b"^"))
    assert decode_text(written, terms, name=True) == name
