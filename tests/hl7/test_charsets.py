"""Bytes to text by MSH-18, and by policy where MSH-18 is missing, unknown or untrue."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.hl7.charsets import CharsetPolicy, Decoded, decode
from broker.hl7.header import read_header
from broker.hl7.message import parse
from broker.hl7.refusal import Refusal

CORPUS = Path(__file__).parents[1] / "corpus"


def message(label: str, name: bytes) -> bytes:
    head = f"MSH|^~\\&|KIS|H|MWL|R|20260316||ORM^O01|7|P|2.4||||||{label}\r".encode()
    return head + b"PID|1||9||" + name + b"\r"


def decoded(raw: bytes, policy: CharsetPolicy | None = None) -> Decoded:
    return decode(raw, read_header(raw), policy or CharsetPolicy())


def name(found: Decoded) -> list[str]:
    pid = parse(found.text, found.codec).first("PID")
    assert pid is not None
    return pid.repetitions(5)[0].components()


@pytest.mark.parametrize(
    ("label", "codec", "text", "dicom"),
    [
        ("8859/1", "iso8859_1", "Jäger", "ISO_IR 100"),
        ("8859/2", "iso8859_2", "Šťastná", "ISO_IR 101"),
        ("8859/3", "iso8859_3", "Ħamrun", "ISO_IR 109"),
        ("8859/4", "iso8859_4", "Ķekava", "ISO_IR 110"),
        ("8859/5", "iso8859_5", "Иван", "ISO_IR 144"),
        ("8859/6", "iso8859_6", "علي", "ISO_IR 127"),
        ("8859/7", "iso8859_7", "Ελένη", "ISO_IR 126"),
        ("8859/8", "iso8859_8", "שרון", "ISO_IR 138"),
        ("8859/9", "iso8859_9", "Işık", "ISO_IR 148"),
        ("8859/15", "iso8859_15", "Œuvre €", "ISO_IR 192"),
        ("8859-15", "iso8859_15", "Œuvre €", "ISO_IR 192"),
        ("ISO-8859-1", "iso8859_1", "Jäger", "ISO_IR 100"),
        ("ISO_IR 100", "iso8859_1", "Jäger", "ISO_IR 100"),
        ("UNICODE UTF-8", "utf-8", "Zoë Ł 五", "ISO_IR 192"),
        ("UNICODE", "utf-8", "Zoë", "ISO_IR 192"),
        ("UTF-8", "utf-8", "Zoë", "ISO_IR 192"),
        ("utf8", "utf-8", "Zoë", "ISO_IR 192"),
        ("CP1250", "cp1250", "Żółć", "ISO_IR 192"),
        ("Windows-1252", "cp1252", "Zoë – €", "ISO_IR 192"),
        ("ISO IR14", "shift_jis", "ﾔﾏﾀﾞ", "ISO_IR 13"),
        ("~ISO IR87", "iso2022_jp_ext", "五十嵐", "\\ISO 2022 IR 87"),
        ("ISO IR6~ISO IR87", "iso2022_jp_ext", "五十嵐", "\\ISO 2022 IR 87"),
        ("~ISO IR87~ISO IR159", "iso2022_jp_ext", "五十嵐", "\\ISO 2022 IR 87"),
        ("KS X 1001", "euc_kr", "김희중", "\\ISO 2022 IR 149"),
        ("GB 18030-2000", "gb18030", "王小东", "GB18030"),
        ("GBK", "gb18030", "王小东", "GB18030"),
        ("BIG-5", "cp950", "許功蓋", "ISO_IR 192"),
    ],
)
def test_a_labelled_message_is_decoded_as_labelled(
    label: str, codec: str, text: str, dicom: str
) -> None:
    """Table 0211 and the aliases that senders use."""
    found = decoded(message(label, text.encode(codec)))
    assert name(found) == [text]
    assert (found.codec, found.repaired, found.dicom_charset) == (codec, False, dicom)


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("GB 18030-2000", "gb18030", "珅"),
        ("~ISO IR87", "iso2022_jp", "五厚慈"),
        ("BIG-5", "cp950", "許功蓋"),
    ],
)
def test_characters_made_of_separator_bytes_shift_no_field(
    label: str, codec: str, text: str
) -> None:
    """Decoded first, split after: 珅 ends in |, 五 holds ^."""
    raw = message(label, text.encode(codec) + b"^X||19570812")
    pid = parse(decoded(raw).text).first("PID")
    assert pid is not None
    assert pid.repetitions(5)[0].components() == [text, "X"]
    assert pid.repetitions(7)[0].text() == "19570812"


def test_utf8_without_label_is_seen() -> None:
    """Valid multi-byte UTF-8 is almost never anything else."""
    found = decoded(message("", "Brontë^Zoë".encode()))
    assert name(found) == ["Brontë", "Zoë"]
    assert (found.codec, found.repaired) == ("utf-8", False)


def test_latin1_without_label_is_read_as_windows() -> None:
    """The second codec of the default policy."""
    found = decoded(message("", "Jäger".encode("latin-1")))
    assert (name(found), found.codec, found.repaired) == (["Jäger"], "windows-1252", False)


def test_a_site_says_what_its_unlabelled_bytes_are() -> None:
    """Per source, since bytes alone cannot tell 8859/2 from 8859/1."""
    policy = CharsetPolicy(unlabelled=("iso8859_2",))
    assert name(decoded(message("", "Šťastná".encode("iso8859_2")), policy)) == ["Šťastná"]


def test_japanese_escape_sequences_win_without_label() -> None:
    """ISO-2022-JP is 7-bit and therefore valid UTF-8, which proves nothing."""
    found = decoded(message("", "五十嵐".encode("iso2022_jp")))
    assert (name(found), found.codec) == (["五十嵐"], "iso2022_jp_ext")


def test_a_utf8_label_on_latin1_is_repaired_and_said() -> None:
    """A name with replacement characters is not acceptable, nor is a refusal."""
    found = decoded(message("UNICODE UTF-8", "Größler^Änne".encode("latin-1")))
    assert name(found) == ["Größler", "Änne"]
    assert (found.codec, found.repaired) == ("windows-1252", True)


@pytest.mark.parametrize(
    ("label", "text", "codec"),
    [
        ("8859/1", "O’Neill – €", "windows-1252"),
        ("8859/15", "Š", "windows-1252"),
        ("8859/2", "Šťastná", "windows-1250"),
        ("8859/1", "Müller Üzgür", "utf-8"),
    ],
)
def test_control_bytes_under_an_8859_label_prove_it_wrong(
    label: str, text: str, codec: str
) -> None:
    """0x80-0x9F are no characters there: it is the code page of Windows, or UTF-8."""
    found = decoded(message(label, text.encode(codec)))
    assert (name(found), found.codec, found.repaired) == ([text], codec, True)


def test_a_true_8859_label_is_left_alone_even_where_utf8_would_fit() -> None:
    """Of the one letter ӯ, which no sender of 8859/2 means."""
    found = decoded(message("8859/2", "STRÓŻ".encode("iso8859_2")))
    assert (name(found), found.repaired) == (["STRÓŻ"], False)


@pytest.mark.parametrize(
    ("label", "text"),
    [("8859/1", "Müller^Jörg"), ("8859/15", "Zoë"), ("8859/5", "Иван"), ("8859/2", "Žák")],
)
def test_utf8_under_an_8859_label_is_repaired_and_said(label: str, text: str) -> None:
    found = decoded(message(label, text.encode()))
    assert (name(found), found.codec, found.repaired) == (text.split("^"), "utf-8", True)
    assert found.oddity == "MSH-18 does not fit the bytes, read as utf-8"


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        (b"\x1b$B;3ED^X|19700101|M", ["山田^X", "19700101", "M"]),
        (b"\x1b$B;3ED^Taro|19700101|M", ["山田^Taro", "19700101", "M"]),
        (b"\x1b$B;3ED|19700101|M", ["山田", "19700101", "M"]),
        (b"\x1b$B;3ED|19700101|\x1b$B;3ED\x1b(B", ["山田", "19700101", "山田"]),
        (b"\x1b$B;3ED^\x1b$B;3\x1b(B|19700101|M", ["山田^山", "19700101", "M"]),
        (b"\x1b(IEZ|19700101|M", ["ﾅﾚ", "19700101", "M"]),
    ],
)
def test_a_switch_that_is_not_taken_back_swallows_no_field(sent: bytes, fields: list[str]) -> None:
    found = decoded(message("ASCII~ISO IR87", sent))
    assert found.text.rstrip("\r").rpartition("||9||")[2].split("|") == fields
    assert (found.repaired, "not switched back" in found.oddity) == (True, True)


def test_kanji_that_cannot_be_read_are_refused_and_never_shown_as_ascii() -> None:
    with pytest.raises(Refusal, match="fit no character set") as refused:
        decoded(message("ASCII~ISO IR87", b"\x1b$B;3E\x1b(B^X"))
    assert (refused.value.code, refused.value.acknowledgement) == ("102", "AE")


def test_8_bit_bytes_under_an_ascii_label_follow_the_policy() -> None:
    """As if there were no label, but counted as repaired."""
    found = decoded(message("ASCII", "Jäger".encode("latin-1")))
    assert (name(found), found.repaired) == (["Jäger"], True)
    assert not decoded(message("ASCII", b"DOE")).repaired


def test_plain_ascii_needs_no_character_set_in_dicom() -> None:
    """(0008,0005) stays absent."""
    assert decoded(message("", b"DOE^JANE")).dicom_charset == ""


def test_a_byte_order_mark_is_no_text() -> None:
    """It is also the best label there is."""
    raw = b"\xef\xbb\xbf" + message("", "Zoë".encode())
    found = decoded(raw, CharsetPolicy(unlabelled=("windows-1252",)))
    assert found.text.startswith("MSH|")
    assert name(found) == ["Zoë"]


def test_hl7_shifts_into_japanese_are_followed() -> None:
    r"""\M2442\ and \C2842\ stand for the escape sequences of ISO 2022 (MSH-20 `2.3`)."""
    kanji = "五十嵐".encode("iso2022_jp")[3:-3]
    found = decoded(message("~ISO IR87", b"\\M2442\\" + kanji + b"\\C2842\\^X"))
    assert name(found) == ["五十嵐", "X"]


def test_an_unknown_label_is_refused_at_its_place() -> None:
    """AE 103 at MSH^1^18, statement 82."""
    with pytest.raises(Refusal) as refused:
        decoded(message("FOO", b"DOE"))
    assert (refused.value.acknowledgement, refused.value.code) == ("AE", "103")
    assert str(refused.value.location) == "MSH^1^18"
    assert "source: {charset: {unknown: windows-1252}}" in str(refused.value)


def test_a_site_may_name_a_codec_for_unknown_labels() -> None:
    """Some labels are a vendor's invention."""
    found = decoded(message("FOO", "Żółć".encode("cp1250")), CharsetPolicy(unknown="cp1250"))
    assert name(found) == ["Żółć"]


@pytest.mark.parametrize("label", ["UNICODE UTF-16", "UNICODE UTF-32", "UTF-16"])
def test_utf16_is_refused(label: str) -> None:
    """Its bytes are full of start and end bytes of MLLP."""
    with pytest.raises(Refusal, match="UTF-16") as refused:
        decoded(message(label, b"DOE"))
    assert (refused.value.acknowledgement, refused.value.code) == ("AR", "102")


def test_bytes_that_fit_nothing_are_refused_without_being_quoted() -> None:
    """AE 102; a refusal never holds what it refuses."""
    with pytest.raises(Refusal) as refused:
        decoded(message("UNICODE UTF-8", b"SECRET\x81\x8d"))
    assert (refused.value.acknowledgement, refused.value.code) == ("AE", "102")
    assert "SECRET" not in str(refused.value)


def test_a_policy_with_a_codec_that_does_not_exist_is_refused() -> None:
    """At load, not at the first patient with an umlaut."""
    with pytest.raises(LookupError):
        CharsetPolicy(unlabelled=("utf-9",))


@pytest.mark.parametrize(
    ("file", "names", "repaired"),
    [
        ("05_orbis_orm_nw_231_latin1", ["von der Aue", "Jürgen", "Günther"], False),
        ("06_imedone_orm_nw_24_latin1_as_utf8", ["Größler", "Änne"], True),
        ("07_nexus_orm_nw_231_utf8_unlabelled", ["Brontë-Ångström", "Zoë", "Chloé"], False),
        ("09_cz_orm_nw_24_8859-2", ["Šťastná", "Růžena"], False),
        ("11_jp_omg_o19_25_isoir87", ["五十嵐", "厚"], False),
        ("04_sectra_omi_o23_251_utf8", ["Åkerström", "Märta"], False),
    ],
)
def test_names_of_the_corpus_come_out_right(file: str, names: list[str], repaired: bool) -> None:
    """Real vendors' ways with character sets."""
    found = decoded((CORPUS / f"{file}.hl7").read_bytes())
    pid = parse(found.text, found.codec).first("PID")
    assert pid is not None
    assert [one for one in names if one not in pid.field(5)] == []
    assert found.repaired is repaired


@pytest.mark.parametrize(
    ("label", "sent", "meant"),
    [
        # JIS X 0201 katakana in eight bits beside kanji by escape sequence
        ("ISO IR14~ISO IR87", b"\xd4\xcf\xc0\xde^\x1b$B;3ED\x1b(J", ["ﾔﾏﾀﾞ", "山田"]),
        ("~ISO IR87", b"\x1b(IEZ\x1b(B^X", ["ﾅﾚ", "X"]),
        ("~ISO IR87", b"\x1b$B-!\x1b(B^\x1b$B|b\x1b(B", ["①", "髙"]),
        ("~ISO IR159", "森鷗".encode("iso2022_jp_2") + b"^X", ["森鷗", "X"]),
        ("KS X 1001", b"\x1b$)C" + "김^희중".encode("euc_kr"), ["김", "희중"]),
        ("~GB 18030-2000", b"\x1b$)A" + "王^小东".encode("gb2312"), ["王", "小东"]),
        ("8859/1~8859/5", b"M\xfcller^\x1b-L\xb8\xd2\xd0\xdd", ["Müller", "Иван"]),
        ("8859/1~8859/5", b"M\xfcller^\\C2D4C\\\xb8\xd2\xd0\xdd", ["Müller", "Иван"]),
        ("", b"\x1b$B8^\x1b(B^X", ["五", "X"]),
        ("ASCII", b"\x1b$B8^\x1b(B^X", ["五", "X"]),
    ],
)
def test_iso_2022_switches_are_followed(label: str, sent: bytes, meant: list[str]) -> None:
    """Alternates of MSH-18 are reached by real escape sequences, or by HL7's printable ones."""
    assert name(decoded(message(label, sent))) == meant


def test_the_end_of_a_segment_leads_back_to_the_first_set() -> None:
    """Somebody forgot to: the rest of the message is not kanji."""
    raw = message("~ISO IR87", b"\x1b$B8^") + b"NTE|1||plain\r"
    text = decoded(raw).text
    assert "五\rNTE|1||plain" in text


def test_an_escaped_escape_is_no_switch() -> None:
    r"""\E\C2842\E\ is the text \C2842\."""
    assert name(decoded(message("~ISO IR87", b"\\E\\C2842\\E\\"))) == ["\\C2842\\"]


@pytest.mark.parametrize("label", ["UNICODE UTF-8", ""])
def test_half_a_character_spoils_no_other(label: str) -> None:
    """A system that cuts by bytes: the rest is UTF-8 all the same, and it is said."""
    found = decoded(message(label, "Åkerström^Märta".encode() + "é".encode()[:1]))
    assert name(found)[0] == "Åkerström"
    assert name(found)[1].startswith("Märta")
    assert (found.codec, found.repaired) == ("utf-8", True)


@pytest.mark.parametrize(
    ("label", "codec", "text"),
    [
        ("~ISO IR87", "cp932", "髙橋"),
        ("KS X 1001", "cp949", "똠방각하"),
        ("ISO IR14", "cp932", "㈱山"),
        ("8859/7", "cp1253", "Ελένη’"),
        ("ANSI", "cp1252", "Zoë"),
        ("CP850", "cp850", "Müller"),
        ("SHIFT-JIS", "cp932", "髙橋"),
    ],
)
def test_the_vendor_s_own_version_of_a_set_is_read(label: str, codec: str, text: str) -> None:
    """Labels name the standard, bytes are what Windows writes."""
    assert name(decoded(message(label, text.encode(codec)))) == [text]


def test_a_byte_order_mark_outweighs_a_label() -> None:
    """Nobody writes one in another set."""
    raw = b"\xef\xbb\xbf" + message("8859/1", "Zoë".encode())
    assert name(decoded(raw)) == ["Zoë"]


@pytest.mark.parametrize(
    ("sent", "meant"),
    [(b"\xdd\xc2\xc5\xfc\xea\xe4", "許功蓋"), (b"\x8e\xa2\xa1\xa2", "乜"), (b"DOE", "DOE")],
)
def test_cns_11643_is_read_plane_by_plane(sent: bytes, meant: str) -> None:
    """Python has no codec for it."""
    found = decoded(message("CNS 11643-1992", sent))
    assert (name(found), found.dicom_charset) == ([meant], "ISO_IR 192")


def test_a_plane_of_cns_11643_that_big5_lacks_is_refused_or_falls_back() -> None:
    """Never another character than the one that was meant."""
    policy = CharsetPolicy(fallback=("ascii",))
    with pytest.raises(Refusal):
        decoded(message("CNS 11643-1992", b"\x8e\xa3\xa1\xa1"), policy)
