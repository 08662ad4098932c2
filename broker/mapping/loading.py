"""Mapping files to one Bundle: all compile, check and pass their examples, or none loads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from broker.mapping.applying import Inbound
from broker.mapping.bundle import Bundle, Loaded
from broker.mapping.compiling import Compiler, compile_inbound
from broker.mapping.document import Complaint, Complaints, decode, read_text, validated
from broker.mapping.examples import failed_examples
from broker.mapping.rendering import Outbound, compile_outbound
from broker.mapping.rules import InboundFile, OutboundFile

__all__ = ["Bundle", "Loaded", "load", "mapping_files"]


def load(paths: Path | Iterable[Path], *, examples: bool = True) -> Bundle:
    """The bundle of a folder or of files. Raises Complaints with all that is wrong."""
    complaints: list[Complaint] = []
    digest = hashlib.sha256()
    loaded: list[Loaded] = []
    for path in mapping_files(paths, complaints):
        try:
            one, compiler = _load_file(path, digest)
        except Complaints as wrong:
            complaints.extend(wrong.complaints)
            continue
        loaded.append(one)
        complaints.extend(compiler.complaints)
    complaints.extend(_clashes(loaded))
    errors = [each for each in complaints if each.severity == "error"]
    if errors:
        raise Complaints(complaints)
    bundle = Bundle(
        digest.hexdigest(),
        tuple(each.mapping for each in loaded if isinstance(each.mapping, Inbound)),
        {each.mapping.name: each.mapping for each in loaded if isinstance(each.mapping, Outbound)},
        tuple(complaints),
        tuple(loaded),
    )
    if examples:
        _pass_examples(bundle)
    return bundle


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


def _load_file(path: Path, digest: hashlib._Hash) -> tuple[Loaded, Compiler]:
    name = str(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise Complaints([Complaint(name, 0, 0, f"cannot be read: {reason}")]) from error
    root = read_text(decode(data, name), name)
    if root.kind != "mapping":
        raise Complaints([root.complaint("is not a mapping of keys", "it begins with 'mapping:'")])
    _hash(digest, path.name, data)
    file: InboundFile | OutboundFile
    mapping: Inbound | Outbound
    if root.entries.get("direction", root).text == "out":
        file = validated(OutboundFile, root)
        mapping, compiler = compile_outbound(file, root, path.parent)
    else:
        file = validated(InboundFile, root)
        mapping, compiler = compile_inbound(file, root, path.parent)
    for table, content in sorted(compiler.files.items()):
        _hash(digest, table, content)
    return Loaded(path, root, file, mapping), compiler


def _hash(digest: hashlib._Hash, name: str, data: bytes) -> None:
    digest.update(f"{name}\0{len(data)}\0".encode())
    digest.update(data)


def _clashes(loaded: Sequence[Loaded]) -> list[Complaint]:
    """Two mappings of one name, or as specific as each other for one message."""
    complaints: list[Complaint] = []
    names: dict[str, Loaded] = {}
    claims: dict[tuple[tuple[str, str], tuple[str, str]], Loaded] = {}
    for each in loaded:
        first = names.setdefault(each.file.mapping, each)
        if first is not each:
            node = each.root.at(["mapping"])
            fact = f"'{each.file.mapping}' is the name of {first.path} already"
            complaints.append(node.complaint(fact))
        if not isinstance(each.mapping, Inbound):
            continue
        for claim in ((s, m) for s in each.mapping.senders for m in each.mapping.messages):
            rival = claims.setdefault(claim, each)
            if rival is not each:
                sender, message = "|".join(claim[0]), "^".join(claim[1])
                fact = f"{message} from {sender} is accepted by {rival.path} as well"
                node = each.root.at(["accept"])
                complaints.append(node.complaint(fact, "name the sender of one of them"))
    return complaints
