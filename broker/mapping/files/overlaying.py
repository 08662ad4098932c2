"""Overlays: a mapping that `extends` another holds its differences; every key keeps its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from broker.mapping.files.rules import Accept, Version, is_long_table
from broker.mapping.text.document import decode, parsed, read_bytes, why
from broker.mapping.text.nearest import did_you_mean
from broker.mapping.text.nodes import Complaint, Complaints, Node, Source

LONGEST_CHAIN = 8
UNSAID: tuple[str, ...] = tuple(Accept.model_fields["versions"].default)
VERSIONS = frozenset(get_args(Version))
SUFFIX = ".yaml"
OWN = ("mapping", "extends", "abstract", "examples")
"""What a mapping says of itself: never inherited."""
SOURCES = {"from": {"const", "item", "each"}, "const": {"from", "item", "each"}}
"""A new source of an attribute takes the place of the base's, whatever kind that was."""


def _shipped() -> Path:
    package = Path(__file__).parents[2]
    installed = package / "_mappings"
    return installed if installed.is_dir() else package.parent / "mappings"


SHIPPED = _shipped()


@dataclass(frozen=True)
class Layered:
    """A mapping with all that it extends: the whole tree, and the files it was made from.

    `files` begins with the mapping itself; `versions` tells for which HL7 versions each of them was
    written; `replaced` are the places that the mapping's own keys took, '' where it added one;
    `guessed` are lines that had to be mended by a guess before they could be read.
    """

    root: Node
    files: tuple[tuple[Path, bytes], ...]
    versions: Mapping[str, tuple[str, ...]]
    own: Node
    replaced: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    complaints: tuple[Complaint, ...] = ()
    guessed: frozenset[tuple[str, int]] = frozenset()


def read_layers(path: Path) -> Layered:
    """Read a mapping and what it extends. Raises Complaints."""
    return _read(path, str(path), ())


def _read(path: Path, name: str, above: tuple[Path, ...]) -> Layered:
    try:
        data = read_bytes(path)
    except OSError as error:
        raise Complaints([Complaint(name, 0, 0, f"cannot be read: {why(error)}")]) from error
    root, odd = parsed(decode(data, name), name)
    if root.kind != "mapping":
        fact = "is not a mapping of keys"
        raise Complaints([*odd, root.complaint(fact, "it begins with 'mapping:'")])
    if "extends" not in root.entries:
        written_for = {name: _versions(root, UNSAID)}
        guessed = frozenset((name, line) for line in root.source.guessed)
        return Layered(root, ((path, data),), written_for, root, {}, tuple(odd), guessed)
    try:
        base = _base(root.entries["extends"], path, (*above, path.resolve()))
    except Complaints as wrong:
        raise Complaints([*odd, *wrong.complaints]) from wrong
    inherited = replace(
        base.root, value={k: v for k, v in base.root.entries.items() if k not in OWN}
    )
    merging = _Merging()
    whole = merging.merged(inherited, root, ())
    versions = _versions(whole, next(iter(base.versions.values())))
    return Layered(
        whole,
        ((path, data), *base.files),
        {name: versions, **base.versions},
        root,
        merging.replaced,
        (*base.complaints, *odd, *merging.warnings),
        base.guessed | {(name, line) for line in root.source.guessed},
    )


def _base(node: Node, path: Path, above: tuple[Path, ...]) -> Layered:
    base = _found(node, path)
    if base.resolve() in above:
        chain = " → ".join(each.name for each in (*above, base))
        raise Complaints([node.complaint("a mapping cannot extend itself", chain)])
    if len(above) >= LONGEST_CHAIN:
        raise Complaints([node.complaint(f"more than {LONGEST_CHAIN} mappings on each other")])
    return _read(base, str(base), above)


def _found(node: Node, path: Path) -> Path:
    """The file that `extends` names: beside the mapping, or one that is shipped."""
    text = node.text or ""
    if text.endswith(SUFFIX):
        beside = path.parent / text
        if beside.is_file():
            return beside
        near = {each.name for each in path.parent.glob(f"*{SUFFIX}")}
    elif text.replace("-", "").replace("_", "").isalnum():
        for folder in (path.parent, SHIPPED):
            if (folder / f"{text}{SUFFIX}").is_file():
                return folder / f"{text}{SUFFIX}"
        near = {
            each.stem for folder in (path.parent, SHIPPED) for each in folder.glob(f"*{SUFFIX}")
        }
    else:
        near = set()
    shipped = ", ".join(sorted(each.stem for each in SHIPPED.glob(f"*{SUFFIX}")))
    hint = _named_so(text, path) or did_you_mean(text, near)
    hint = hint or f"a file beside this one, or shipped: {shipped}"
    raise Complaints([node.complaint(f"there is no mapping '{text}'", hint)])


def _named_so(name: str, path: Path) -> str:
    """The hint for who extends the name that a file gives itself instead of the file."""
    for beside in sorted(path.parent.glob(f"*{SUFFIX}")):
        try:
            lines = beside.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        if any(line.split() == ["mapping:", name] for line in lines):
            return f"that is what {beside.name} calls itself: write 'extends: {beside.name}'"
    return ""


def _versions(root: Node, inherited: tuple[str, ...]) -> tuple[str, ...]:
    accepted = root.at(["accept"]).entries.get("versions")
    if accepted is None and "version" in root.entries:
        listed = [root.entries["version"].text]
    else:
        listed = [each.text for each in accepted.items] if accepted is not None else []
    # One that does not exist is told when the file is validated.
    return tuple(text for text in listed if text and text in VERSIONS) or inherited


class _Merging:
    """Maps merge by key, null removes, everything else replaces."""

    def __init__(self) -> None:
        self.warnings: list[Complaint] = []
        self.replaced: dict[tuple[str, ...], str] = {}

    def merged(self, base: Node, over: Node, path: tuple[str, ...]) -> Node:
        base, over = _spelled_out(base, path), _spelled_out(over, path)
        if base.kind != "mapping" or over.kind != "mapping":
            self.replaced[path] = base.place
            return over
        entries, sources = dict(base.entries), dict(base.key_sources)
        keys = {key: place for key, place in base.keys.items() if key in entries}
        sources = {key: sources.get(key, base.source) for key in entries}
        for key in _displaced(over, path):
            entries.pop(key, None)
        for key, node in over.entries.items():
            self._take(key, node, over, entries, path)
            if key in entries or node.value is None:
                keys[key] = over.keys.get(key, (node.line, node.column))
                sources[key] = over.key_source(key)
        return replace(over, value=entries, keys=keys, key_sources=sources)

    def _take(
        self, key: str, node: Node, over: Node, entries: dict[str, Node], path: tuple[str, ...]
    ) -> None:
        there = entries.get(key)
        inside = (*path, key)
        if inside[0] in OWN:
            entries[key] = node
        elif node.value is None:
            if there is None and is_rule(path) and key in SOURCES:
                pass  # it has taken the place of another source: that nothing is left is told
            elif there is None:
                hint = did_you_mean(key, entries)
                warning = over.key_complaint(key, f"there is no '{key}' to take away", hint)
                self.warnings.append(replace(warning, severity="warning"))
            else:
                self.replaced[inside] = there.place
                del entries[key]
        elif there is None:
            self.replaced[inside] = ""
            entries[key] = node
        else:
            entries[key] = self.merged(there, node, inside)


def _spelled_out(node: Node, path: tuple[str, ...]) -> Node:
    """The long form of what has a short one, so that both merge: `X: PID-8` is {from: PID-8}."""
    if node.kind == "text" and is_rule(path):
        short = "from"
    elif node.kind == "mapping" and is_table(path) and not is_long_table(node.entries):
        short = "rows"
    else:
        return node
    place = (node.line, node.column)
    return Node({short: node}, node.source, *place, 1, {short: place})


def is_rule(path: tuple[str, ...]) -> bool:
    """Whether a path leads to the rule of an attribute or of a field."""
    inside = path[:1] == ("attributes",) and (len(path) == 2 or path[-2:-1] == ("item",))
    return inside or (len(path) == 2 and path[0] == "fields")


def is_table(path: tuple[str, ...]) -> bool:
    """Whether a path leads to a table."""
    return len(path) == 2 and path[0] == "tables"


def _displaced(over: Node, path: tuple[str, ...]) -> set[str]:
    """What of the base gives way to another source that the overlay names."""
    if is_table(path):
        return {"rows"} if "file" in over.entries else set()
    if not is_rule(path):
        return set()
    if over.entries.keys() & {"item", "each"}:
        return {"from", "const"}
    displaced = [SOURCES[key] for key in SOURCES if key in over.entries]
    return set().union(*displaced)


def origin_of(source: Source, line: int) -> str:
    """File (without its folder) and line, as `map show` prints them."""
    return f"{Path(source.name).name}:{line}"
