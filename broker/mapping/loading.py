"""Mapping files to one Bundle: all compile, check and pass their examples, or none loads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from broker.mapping.applying import Inbound
from broker.mapping.bundle import Bundle, Loaded
from broker.mapping.clashing import clashes
from broker.mapping.compiling import Compiler, compile_inbound
from broker.mapping.document import Complaint, Complaints, validated
from broker.mapping.examples import failed_examples
from broker.mapping.overlaying import read_layers
from broker.mapping.rendering import Outbound, compile_outbound
from broker.mapping.rules import InboundFile, OutboundFile

__all__ = ["Bundle", "Loaded", "load", "mapping_files"]


def load(paths: Path | Iterable[Path], *, examples: bool = True) -> Bundle:
    """The bundle of a folder or of files. Raises Complaints with all that is wrong."""
    complaints: list[Complaint] = []
    read: dict[str, bytes] = {}
    loaded: list[Loaded] = []
    for path in mapping_files(paths, complaints):
        try:
            one, compiler = _load_file(path, read)
        except Complaints as wrong:
            complaints.extend(wrong.complaints)
            continue
        complaints.extend(compiler.complaints)
        if one.file.abstract == "no":
            loaded.append(one)
    complaints.extend(clashes(loaded))
    if any(each.severity == "error" for each in complaints):
        raise Complaints(complaints)
    bundle = _bundle(loaded, read, complaints)
    if examples:
        _pass_examples(bundle)
    return bundle


def _bundle(
    loaded: Sequence[Loaded], read: dict[str, bytes], complaints: Iterable[Complaint]
) -> Bundle:
    return Bundle(
        _version(read),
        tuple(each.mapping for each in loaded if isinstance(each.mapping, Inbound)),
        {each.mapping.name: each.mapping for each in loaded if isinstance(each.mapping, Outbound)},
        tuple(sorted(set(complaints))),
        tuple(loaded),
        read,
    )


def _version(read: dict[str, bytes]) -> str:
    """The hash of all that was read; where the folders lie does not count."""
    digest = hashlib.sha256()
    for name, data in sorted((Path(name).name, data) for name, data in read.items()):
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


def _pass_examples(bundle: Bundle) -> None:
    failed = failed_examples(bundle)
    if failed:
        raise Complaints([*failed, *bundle.warnings])


def mapping_files(paths: Path | Iterable[Path], complaints: list[Complaint]) -> list[Path]:
    """The files meant: of a folder every *.yaml in it, in the order of their names."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        inside = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
        if not inside:
            hint = "a mapping is a file *.yaml"
            complaints.append(Complaint(str(path), 0, 0, "holds no mapping", hint))
        found.extend(inside)
    return found


def _load_file(path: Path, read: dict[str, bytes]) -> tuple[Loaded, Compiler]:
    layered = read_layers(path)
    root = layered.root
    file: InboundFile | OutboundFile
    mapping: Inbound | Outbound
    if root.entries.get("direction", root).text == "out":
        file = validated(OutboundFile, root)
        mapping, compiler = compile_outbound(file, layered)
    else:
        file = validated(InboundFile, root)
        mapping, compiler = compile_inbound(file, layered)
    read.update((str(each), data) for each, data in layered.files)
    read.update(compiler.files)
    return Loaded(path, root, file, mapping), compiler
