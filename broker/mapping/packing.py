"""A folder of mappings as plain files by name, and such files as a Bundle again."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from broker.mapping.bundle import Bundle
from broker.mapping.loading import load
from broker.mapping.text.nodes import Complaint, Complaints

MAX_FILES = 2_000
MAX_BYTES = 16_000_000
LEFT_OUT = ("~", ".swp", ".tmp", ".bak", ".orig", ".pyc")
"""What editors leave behind is no part of a mapping."""


def read_folder(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its name in it, POSIX style. Raises Complaints."""
    if not folder.is_dir():
        fact = "is not a folder" if folder.exists() else "there is no such folder"
        raise Complaints([Complaint(str(folder), 0, 0, fact, "name the folder of the mappings")])
    files: dict[str, bytes] = {}
    room = MAX_BYTES
    for path in _files(folder):
        try:
            with path.open("rb") as file:
                data = file.read(room + 1)
        except OSError as error:
            fact = f"cannot be read: {(error.strerror or type(error).__name__).lower()}"
            raise Complaints([Complaint(str(path), 0, 0, fact)]) from error
        files[path.relative_to(folder).as_posix()] = data
        room -= len(data)
        if room < 0 or len(files) > MAX_FILES:
            fact = f"is more than {MAX_FILES:,} files or {MAX_BYTES:,} bytes"
            raise Complaints([Complaint(str(folder), 0, 0, fact, "keep only mappings in it")])
    return files


def unpack(files: Mapping[str, bytes], folder: Path, *, examples: bool = True) -> Bundle:
    """The bundle of such files, whose `version` is a hash of all of them.

    Complaints that it raises speak of files in `folder`, where a person will look for them.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mappings-") as name:
            return _loaded(files, folder, Path(name) / "mappings", examples=examples)
    except OSError as error:
        fact = f"mappings cannot be unpacked: {(error.strerror or type(error).__name__).lower()}"
        hint = "make room there, or name another folder in TMPDIR"
        raise Complaints([Complaint(tempfile.gettempdir(), 0, 0, fact, hint)]) from error


def _loaded(files: Mapping[str, bytes], folder: Path, copy: Path, *, examples: bool) -> Bundle:
    copy.mkdir()
    for relative, data in files.items():
        path = _inside(copy, relative)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    try:
        bundle = load(copy, examples=examples)
    except Complaints as wrong:
        raise Complaints(_of(folder, copy, each) for each in wrong.complaints) from None
    warnings = tuple(_of(folder, copy, each) for each in bundle.warnings)
    return replace(bundle, version=_version(files, bundle), warnings=warnings)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith((".", "#")) for part in parts)
        if not hidden and not path.name.endswith(LEFT_OUT) and path.is_file():
            yield path


def _inside(folder: Path, relative: str) -> Path:
    path = folder / relative
    if ".." in path.parts or not path.is_relative_to(folder):
        raise Complaints([Complaint(relative, 0, 0, "lies outside the folder of the mappings")])
    return path


def _version(files: Mapping[str, bytes], bundle: Bundle) -> str:
    """A hash of the files, and of what they extend that lies elsewhere."""
    digest = hashlib.sha256(bundle.version.encode())
    for name, data in sorted(files.items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _of(folder: Path, copy: Path, complaint: Complaint) -> Complaint:
    old, new = str(copy), str(folder)
    return replace(
        complaint,
        file=complaint.file.replace(old, new),
        fact=complaint.fact.replace(old, new),
        hint=complaint.hint.replace(old, new),
    )
