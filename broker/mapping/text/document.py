"""YAML files read as text with positions: all mistakes at once, with their places."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import yaml

from broker.mapping.text.events import Reader
from broker.mapping.text.misreading import Slip, odd_indents, slip_of
from broker.mapping.text.nearest import meant
from broker.mapping.text.nodes import Complaint, Complaints, Node, Source

MAX_BYTES = 1_000_000
MOST_LOOKED_AT = 1000
"""Files among which one is looked for that was perhaps meant."""
MOST_KNOWN = 4
"""Files that are kept as they were read: many overlays stand on one base."""
MOST_SLIPS = 20
MOST_REREAD = 2_000_000
"""Characters that are read again at most, to tell one more line that cannot be read."""
NOT_YAML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")


def read(path: Path, name: str = "") -> Node:
    """Read one YAML file. `name` is what complaints call it. Raises Complaints."""
    shown = name or str(path)
    try:
        data = read_bytes(path)
    except OSError as error:
        raise Complaints([Complaint(shown, 0, 0, f"cannot be read: {why(error)}")]) from error
    return read_text(decode(data, shown), shown)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, one more than is allowed at most. Raises OSError."""
    if path.exists() and not path.is_file():
        raise IsADirectoryError(errno.EISDIR, "is not a file")
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def why(error: OSError) -> str:
    """The reason in the words of the system."""
    return (error.strerror or type(error).__name__).lower()


def perhaps_meant(folder: Path, name: str) -> str:
    """A hint that names the file of this kind, below a folder, that was perhaps meant, or ''."""
    wanted = Path(name)
    below = [each for each in islice(folder.rglob("*"), MOST_LOOKED_AT) if each.is_file()]
    alike = {
        each.stem: each.relative_to(folder).as_posix()
        for each in sorted(below, reverse=True)
        if each.suffix.lower() == wanted.suffix.lower()
    }
    close = meant(wanted.stem, alike)
    return f"did you mean '{alike[close]}'?" if close else ""


def decode(data: bytes, name: str) -> str:
    """The text of a file: UTF-8, with or without a byte order mark. Raises Complaints."""
    if len(data) > MAX_BYTES:
        fact = f"is too long, the limit is {MAX_BYTES:,} bytes"
        raise Complaints([_byte_complaint(data, MAX_BYTES, name, fact)])
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        source = Source(name, tuple(data.decode("utf-16", "replace").splitlines()))
        raise Complaints([source.complain(1, 1, "is UTF-16", "save it as UTF-8")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fact = f"byte {data[error.start]:#04x} is not UTF-8"
        hint = "the file looks like Latin-1 or Windows text: save it as UTF-8"
        raise Complaints([_byte_complaint(data, error.start, name, fact, hint)]) from error


def _byte_complaint(data: bytes, at: int, name: str, fact: str, hint: str = "") -> Complaint:
    """A complaint about one byte, which is shown as Windows text would have it."""
    start = data.rfind(b"\n", 0, at) + 1
    line = data[start:].split(b"\n", 1)[0].rstrip(b"\r")
    shown = line.decode("cp1252", "replace")
    number = data.count(b"\n", 0, at) + 1
    return Source(name, (shown,), number).complain(number, at - start + 1, fact, hint)


def read_text(text: str, name: str) -> Node:
    """Read YAML text. Duplicate keys, aliases, tags and sizes are complaints, all at once."""
    root, complaints = parsed(text, name)
    if complaints:
        raise Complaints(complaints)
    return root


@lru_cache(MOST_KNOWN)
def parsed(text: str, name: str) -> tuple[Node, list[Complaint]]:
    """The tree of YAML text and what is odd about it: of a key twice the first one holds.

    A line that cannot be read is told and read on with as it was perhaps meant. Raises Complaints
    where there is no telling what the rest means.
    """
    lines = tuple(text.splitlines())
    odd = [_told(Source(name, lines), slip) for slip in odd_indents(lines)]
    if odd:
        raise Complaints(odd)
    slips: dict[int, Slip] = {}
    for _ in range(max(1, min(MOST_SLIPS, MOST_REREAD // (len(text) + 1)))):
        try:
            return _read_lines(text, lines, name, slips)
        except _Misread as wrong:
            slip = slip_of(wrong.error, _mended(lines, slips))
            if slip.line in slips:
                break
            slips[slip.line] = slip
            if slip.mended is None:
                break
    raise Complaints(_told(Source(name, lines), slip) for slip in slips.values())


def _read_lines(
    text: str, lines: tuple[str, ...], name: str, slips: Mapping[int, Slip]
) -> tuple[Node, list[Complaint]]:
    """The tree of lines with those mended that slipped. Raises _Misread for one more of them."""
    shifts = {slip.line: slip.shift for slip in slips.values()}
    guessed = frozenset(slip.line for slip in slips.values() if slip.is_guess)
    source = Source(name, lines, shifts=shifts, guessed=guessed)
    mended = "\n".join(_mended(lines, slips)) if slips else text
    told = [_told(Source(name, lines), slip) for slip in slips.values()]
    reader = Reader(source)
    try:
        root = reader.document(yaml.parse(mended, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        raise _Misread(error) from error
    except yaml.YAMLError as error:
        hint = "control characters are not allowed"
        odd = NOT_YAML.search(text)
        place = _place_of(text, odd.start()) if odd else (1, 1)
        raise Complaints([*told, source.complain(*place, "is not YAML text", hint)]) from error
    if reader.unclear:
        raise Complaints([*told, *reader.complaints])
    return root, [*told, *reader.complaints]


def _place_of(text: str, at: int) -> tuple[int, int]:
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


class _Misread(Exception):
    def __init__(self, error: yaml.MarkedYAMLError) -> None:
        super().__init__(str(error))
        self.error = error


def _mended(lines: Sequence[str], slips: Mapping[int, Slip]) -> list[str]:
    mended = list(lines)
    for slip in slips.values():
        if slip.mended is not None:
            mended[slip.line - 1] = slip.mended
    return mended


def _told(source: Source, slip: Slip) -> Complaint:
    return source.complain(slip.line, slip.column, slip.fact, slip.hint, slip.width)
