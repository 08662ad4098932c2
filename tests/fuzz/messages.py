"""Strategies: messages that are nearly right, and what travels between and around them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import strategies as st

CORPUS = tuple(
    path.read_bytes().replace(b"\r\n", b"\r").replace(b"\n", b"\r")
    for path in sorted((Path(__file__).parents[1] / "corpus").glob("*.hl7"))
)
LABELS = (
    *(b"", b"ASCII", b"8859/1", b"8859/2", b"8859/15", b"UNICODE UTF-8", b"UNICODE UTF-16"),
    *(b"~ISO IR87", b"ISO IR14~ISO IR87~ISO IR159", b"KS X 1001", b"GB 18030-2000", b"BIG-5"),
    *(b"CNS 11643-1992", b"CP1250", b"KLINGON", b"8859/1~ISO IR87", b'""', b"~"),
)
EVIL = (
    *(b"", b'""', b"|", b"^", b"~", b"\\", b"&", b"^^^^", b"~~~~", b"&&&", b"\\E\\", b"\\T\\F\\"),
    *(b"\\X0D0A\\", b"\\X1B\\", b"\\XFF\\", b"\\.br\\", b"\\C2842\\", b"\\M2442\\", b"\\X"),
    *(b"\x00", b"\x0b", b"\x1c", b"\x1b$B", b"\x1b(B", b"\xff\xfe", b"\x81", b"\xc3", b"\x85"),
    *(b"\n", b"C:\\x", b"A" * 17, b"9" * 65, b"1.2.03", b"00000000", b"20269999", b"202603172400"),
    *(b"99991231235960", b"20260316101500+1400", b"20260316101500-0000", b"1.0e400", b"-1"),
    *(b"=\\^", b"Aue&von der&Aue", "五十嵐".encode("iso2022_jp"), "珅".encode("gb18030")),
    *("Jäger".encode(), "Jäger".encode("latin-1"), b"key*?[x]", b"{}", b"*"),
    *(b"NW", b"XO", b"CA", b"DC", b"SC", b"A08", b"A40", b"S12", b"ZZ"),
)
SEGMENTS = (
    *(b"PID|2", b"PID", b"ORC|NW", b"ORC", b"OBR|1", b"OBR", b"IPC|A", b"TQ1|||||||20260316"),
    *(b"ZDS|", b"NTE|1||text", b"OBX|1|NM|29463-7^W^LN||80|kg", b"DSC|1", b"MSH|^~\\&"),
    *(b"BTS|1", b"FHS|^~\\&", b"AIS|1", b"MRG|1^^^A", b"PV1|1|I", b"AL1|1||^X"),
    *(b"DG1|1||I10^x^I10", b"xxx|1", b"\xef\xbb\xbf"),
)
HEADER_FIELDS = (2, 3, 4, 7, 9, 10, 11, 12, 14, 15, 16, 18)
MODES = (b"", b"AL", b"NE", b"ER", b"SU", b"XX")

texts = st.sampled_from(EVIL) | st.binary(max_size=30)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message of the corpus with a few things wrong."""
    segments = [line.split(b"|") for line in draw(st.sampled_from(CORPUS)).split(b"\r") if line]
    for _ in range(draw(st.integers(0, 6))):
        _spoil(draw, segments)
    raw = b"\r".join(map(b"|".join, segments)) + draw(st.sampled_from([b"\r", b"", b"\r\r"]))
    return draw(st.sampled_from([_same, _same, _same, _cut, _flipped, _lines]))(draw, raw)


def _spoil(draw: st.DrawFn, segments: list[list[bytes]]) -> None:
    at = draw(st.integers(0, len(segments) - 1))
    match draw(st.sampled_from(["field", "field", "header", "label", "segment", "drop", "repeat"])):
        case "field":
            number = draw(st.integers(1, max(1, len(segments[at]))))
            _put(segments[at], number, draw(texts))
        case "header":
            number = draw(st.sampled_from(HEADER_FIELDS))
            _put(segments[0], number - 1, draw(st.sampled_from(MODES) | texts))
        case "label":
            _put(segments[0], 17, draw(st.sampled_from(LABELS)))
        case "segment":
            segments.insert(at + 1, draw(st.sampled_from(SEGMENTS)).split(b"|"))
        case "drop" if len(segments) > 1:
            del segments[at]
        case "repeat":
            segments.insert(at, list(segments[at]))


def _put(fields: list[bytes], number: int, text: bytes) -> None:
    fields += [b""] * (number + 1 - len(fields))
    fields[number] = text


def _same(draw: st.DrawFn, raw: bytes) -> bytes:
    return raw


def _cut(draw: st.DrawFn, raw: bytes) -> bytes:
    return raw[: draw(st.integers(0, len(raw)))]


def _flipped(draw: st.DrawFn, raw: bytes) -> bytes:
    at = draw(st.integers(0, max(0, len(raw) - 1)))
    return raw[:at] + draw(st.binary(min_size=1, max_size=4)) + raw[at + 1 :]


def _lines(draw: st.DrawFn, raw: bytes) -> bytes:
    return raw.replace(b"\r", draw(st.sampled_from([b"\n", b"\r\n", b"\r\r", b" \r", b"\x0c\r"])))


noise = st.sampled_from(
    [b"", b"\r\n", b"\x00\x00", b"\x1c\r", b"INFO sent\n", b"\x0b", b"\xef\xbb\xbf", b"M", b"MSH"]
) | st.binary(max_size=20)
