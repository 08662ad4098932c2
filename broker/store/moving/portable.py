"""The file of `broker export`: a header, one record a line, a last line that says it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

NAME: Final = "worklist-broker export"
VERSION: Final = 1
END: Final = "end"
PASSING: Final = frozenset({"until"})
"""What may differ between two looks at the same record: how long it stays is counted from now."""

Body = dict[str, Any]


class Unusable(Exception):
    """A file that cannot be imported, as a whole; the text has place, fact and remedy."""


class Line(NamedTuple):
    """One record of the file: its kind, its key within that kind, what it holds (None: gone).

    `size` is that of the line, in bytes, where it was read from a file.
    """

    kind: str
    key: str
    body: Body | None
    size: int = 0


def header(site: str, broker: str, begun: str) -> Body:
    """Give the first line: `begun` is ISO 8601."""
    return {"file": NAME, "version": VERSION, "broker": broker, "site": site, "begun": begun}


class Writer:
    """Writes a file beside its name and puts it there when it is whole; 0600: it holds patients.

    A file that was broken off is carried on: what it says already is not said again, the last line
    about a record counts.
    """

    def __init__(self, path: Path, first: Body) -> None:
        self._path, self._part = path, path.with_name(f"{path.name}.part")
        self._told: dict[tuple[str, str], bytes] = {}
        self._sum, self._lines = hashlib.sha256(), 0
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o600)
        os.fchmod(descriptor, 0o600)
        self._file: IO[bytes] = os.fdopen(descriptor, "r+b")
        if not self._carry_on(first):
            self._put(first)

    @property
    def told(self) -> dict[str, set[str]]:
        """Which keys of each kind the file tells of."""
        known: dict[str, set[str]] = {}
        for kind, key in self._told:
            known.setdefault(kind, set()).add(key)
        return known

    def tell(self, kind: str, key: str, body: Body | None) -> bool:
        """Write a record, or that it is gone; False when the file says just that already."""
        mark = _mark(body)
        if self._told.get((kind, key), b"") == mark:
            return False
        self._put(_line(kind, key, body))
        if body is None:
            del self._told[kind, key]
        else:
            self._told[kind, key] = mark
        return True

    def finish(self) -> dict[str, int]:
        """Say that the file is whole, put it in its place; gives how many of each kind it has."""
        counts = {kind: len(known) for kind, known in sorted(self.told.items())}
        last = {"kind": END, "lines": self._lines, "sha256": self._sum.hexdigest()}
        self._put({**last, "counts": counts})
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)
        return counts

    def close(self) -> None:
        """Leave the file as it is, to be carried on."""
        self._file.close()

    def _carry_on(self, first: Body) -> bool:
        """Read what is there up to where it was broken off; False when it is of something else."""
        kept = 0
        for raw in self._file:
            said = _loaded(raw)
            if not kept and not _same_origin(said, first):
                break
            if said is None or said.get("kind") == END:
                break
            self._sum.update(raw)
            self._lines += 1
            if kept:
                self._note(read_line(said))
            kept += len(raw)
        self._file.seek(kept)
        self._file.truncate()
        return kept > 0

    def _note(self, line: Line) -> None:
        if line.body is None:
            self._told.pop((line.kind, line.key), None)
        else:
            self._told[line.kind, line.key] = _mark(line.body)

    def _put(self, value: Body) -> None:
        raw = (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        self._file.write(raw)
        self._sum.update(raw)
        self._lines += 1


@dataclass(frozen=True)
class Checked:
    """A file that is whole: its header, and where the line that counts is, by kind and key."""

    path: Path
    first: Body
    places: dict[str, dict[str, int]] = field(repr=False)

    def count(self) -> int:
        """How many records it has."""
        return sum(map(len, self.places.values()))

    def lines(self, kind: str, names: list[str]) -> Iterator[Line]:
        """Read these records of a kind."""
        with self.path.open("rb") as file:
            for name in names:
                file.seek(self.places[kind][name])
                raw = file.readline()
                yield read_line(json.loads(raw))._replace(size=len(raw))


def checked(path: Path, judge: Any = None) -> Checked:
    """Read a whole file before anything of it is taken. Raises Unusable, OSError.

    `judge` is called with each line and raises ValueError, TypeError or KeyError for what it is
    not.
    """
    places: dict[str, dict[str, int]] = {}
    so_far, at, first = hashlib.sha256(), 0, None
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            said = _loaded(raw)
            if first is None:
                first = _header(path, said)
            elif said is None:
                raise Unusable(f"{path}:{number}: the file is cut or damaged here; {AGAIN}")
            elif said.get("kind") == END:
                _refuse_other_sum(path, number, said, so_far.hexdigest(), file)
                return Checked(path, first, places)
            else:
                _place(path, number, said, at, places, judge)
            so_far.update(raw)
            at += len(raw)
    if first is None:
        raise Unusable(f"{path}: the file is empty; {AGAIN}")
    raise Unusable(f"{path}: the end is missing: the file is cut; {AGAIN}")


AGAIN: Final = "export again (nothing was imported)"


def read_line(said: Body) -> Line:
    """Read the values of a line. Raises KeyError, TypeError."""
    body = dict(said)
    kind, key, gone = body.pop("kind"), body.pop("key"), body.pop("gone", False)
    if not (isinstance(kind, str) and isinstance(key, str)):
        raise TypeError("kind and key are texts")
    return Line(kind, key, None if gone else body)


def _place(
    path: Path, number: int, said: Body, at: int, places: dict[str, dict[str, int]], judge: Any
) -> None:
    try:
        line = read_line(said)
        if line.body is not None and judge is not None:
            judge(line)
    except (ValueError, TypeError, KeyError) as error:
        kind = said.get("kind", "record")
        raise Unusable(
            f"{path}:{number}: this {kind} is none that this version knows "
            f"({type(error).__name__}); import it with the broker that wrote the file, or a newer "
            "one (nothing was imported)"
        ) from error
    if line.body is None:
        places.get(line.kind, {}).pop(line.key, None)
    else:
        places.setdefault(line.kind, {})[line.key] = at


def _header(path: Path, said: Body | None) -> Body:
    if said is None or said.get("file") != NAME:
        raise Unusable(f"{path}:1: no file of `broker export`")
    version = said.get("version")
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise Unusable(
            f"{path}:1: written in version {version} of the file's form by broker "
            f"{said.get('broker')}, and this one knows up to {VERSION}: import it with that "
            "one, or a newer one"
        )
    return said


def _refuse_other_sum(path: Path, number: int, said: Body, found: str, file: IO[bytes]) -> None:
    if (said.get("lines"), said.get("sha256")) != (number - 1, found):
        raise Unusable(f"{path}:{number}: the file was changed: its checksum differs; {AGAIN}")
    if file.read(1):
        raise Unusable(f"{path}:{number + 1}: something follows the end of the file; {AGAIN}")


def _loaded(raw: bytes) -> Body | None:
    """Read a whole line that holds an object, else None."""
    try:
        said = json.loads(raw) if raw.endswith(b"\n") else None
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _same_origin(said: Body | None, first: Body) -> bool:
    changing = {"begun"}
    return said is not None and {k: v for k, v in said.items() if k not in changing} == {
        k: v for k, v in first.items() if k not in changing
    }


def _line(kind: str, key: str, body: Body | None) -> Body:
    return {"kind": kind, "key": key, **({"gone": True} if body is None else body)}


def _mark(body: Body | None) -> bytes:
    """Give what tells one state of a record from another."""
    if body is None:
        return b""
    said = json.dumps({k: v for k, v in body.items() if k not in PASSING}, sort_keys=True)
    return hashlib.blake2b(said.encode(), digest_size=12).digest()
