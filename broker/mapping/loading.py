"""Mapping files to one Bundle: all compile, check and pass their examples, or none loads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from broker.mapping.bundle import Bundle, Loaded
from broker.mapping.clashing import clashes
from broker.mapping.compiling.compiler import Compiler
from broker.mapping.compiling.inbound import compile_inbound
from broker.mapping.compiling.outbound import Outbound, compile_outbound
from broker.mapping.compiling.tabulating import judge_lost_files
from broker.mapping.files.expecting import judge_expectations
from broker.mapping.files.overlaying import read_layers
from broker.mapping.files.rules import InboundFile, OutboundFile
from broker.mapping.files.salvaging import salvaged
from broker.mapping.running.applying import Inbound
from broker.mapping.text.nodes import Complaint, Complaints
from broker.mapping.text.surviving import surviving
from broker.mapping.trials.examples import failed_examples

__all__ = ["Bundle", "Loaded", "load", "mapping_files"]


def load(paths: Path | Iterable[Path], *, examples: bool = True) -> Bundle:
    """The bundle of a folder or of files. Raises Complaints with all that is wrong.

    The examples of what compiles are run even where something else has mistakes.
    """
    complaints: list[Complaint] = []
    read: dict[str, bytes] = {}
    loaded: list[Loaded] = []
    sound: list[Loaded] = []
    for path in mapping_files(paths, complaints):
        try:
            with surviving(str(path)):
                one, compiler = _load_file(path, read)
        except Complaints as wrong:
            complaints.extend(wrong.complaints)
            continue
        complaints.extend(compiler.complaints)
        if isinstance(one.file, InboundFile):
            complaints.extend(judge_expectations(one.file, one.root))
        if one.file.abstract == "no":
            loaded.append(one)
            if not any(each.severity == "error" for each in compiler.complaints):
                sound.append(one)
    rivals = clashes(loaded)
    complaints.extend(rivals)
    if any(each.severity == "error" for each in complaints):
        if examples and not rivals:  # rivals would take each other's messages
            complaints.extend(failed_examples(_bundle(sound, read, ())))
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
    """The files meant: of a folder every *.yaml in it that is not hidden, by name."""
    found: list[Path] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        inside = _inside(path) if path.is_dir() else [path]
        if not inside:
            hint = "a mapping is a file *.yaml"
            complaints.append(Complaint(str(path), 0, 0, "holds no mapping", hint))
        found.extend(inside)
    return found


def _inside(folder: Path) -> list[Path]:
    """What editors and systems hide is no mapping."""
    return sorted(path for path in folder.glob("*.yaml") if not path.name.startswith("."))


def _load_file(path: Path, read: dict[str, bytes]) -> tuple[Loaded, Compiler]:
    layered = read_layers(path)
    root = layered.root
    file: InboundFile | OutboundFile | None
    mapping: Inbound | Outbound
    goes_out = root.entries.get("direction", root).text == "out"
    file, tree, mistakes = salvaged(OutboundFile, root) if goes_out else salvaged(InboundFile, root)
    if file is None:
        raise Complaints([*layered.complaints, *mistakes])
    if mistakes:
        layered = replace(layered, root=tree)
    if isinstance(file, OutboundFile):
        mapping, compiler = compile_outbound(file, layered)
    else:
        mapping, compiler = compile_inbound(file, layered)
    if mistakes or layered.guessed:
        judge_lost_files(compiler, root)
        # What was cut out may be what the rest misses: only its own mistakes count.
        rest = [each for each in (*mistakes, *compiler.complaints) if each.severity == "error"]
        sure = (each for each in rest if (each.file, each.line) not in layered.guessed)
        raise Complaints([*layered.complaints, *sure])
    read.update((str(each), data) for each, data in layered.files)
    read.update(compiler.files)
    return Loaded(path, root, file, mapping), compiler
