"""Mapping files judged without being put in force."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from broker.mapping.clashing import clashes
from broker.mapping.loading import Bundle, load, mapping_files
from broker.mapping.text.nodes import Complaint, Complaints
from broker.mapping.text.surviving import surviving


def check(paths: Path | Iterable[Path], *, examples: bool = True) -> list[Complaint]:
    """Everything that is wrong or odd, warnings too, in the order of the places.

    Files are also held against their neighbours in the folder: what would clash there is odd.
    """
    meant = [paths] if isinstance(paths, Path) else [*paths]
    try:
        with surviving(str(paths) if isinstance(paths, Path) else "mappings"):
            bundle = load(meant, examples=examples)
            beside = list(_beside(bundle, [path for path in meant if not path.is_dir()]))
    except Complaints as wrong:
        return wrong.complaints
    return sorted({*bundle.warnings, *beside})


def _beside(bundle: Bundle, files: Iterable[Path]) -> Iterator[Complaint]:
    given = {each.path.resolve() for each in bundle.loaded}
    neighbours = mapping_files({file.parent for file in files}, [])
    for path in neighbours:
        if path.resolve() in given:
            continue
        try:
            others = load(path, examples=False).loaded
        except Complaints:
            continue  # its own mistakes are another matter
        for clash in clashes([*others, *bundle.loaded]):
            yield replace(clash, severity="warning")
