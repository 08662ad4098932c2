"""Messages to replay: the files of a folder, or the newest of the store's archive."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.configuration import load_settings

LAST = "last:500"
NEWEST = re.compile(r"last:(\d{1,6})")
FRAME_END = re.compile(rb"\x1c\r?\n?")
START = re.compile(rb"(?:MSH|FHS|BHS)\W")

CorpusOption = Annotated[
    str, typer.Option("--corpus", help="A folder of messages, or last:N of the running broker.")
]


@dataclass(frozen=True)
class Sample:
    """One message: what people call it, when it came, its bytes."""

    name: str
    received: datetime
    raw: bytes = field(repr=False)


def samples(corpus: str, config: Path | None) -> list[Sample]:
    """The messages meant; exit 69 when the store is away, 2 when there is no such folder."""
    newest = NEWEST.fullmatch(corpus)
    if newest:
        return _archived(int(newest[1]), config)
    folder = Path(corpus)
    if not folder.is_dir():
        hint = "is no folder; give a folder of messages, or last:500"
        raise typer.BadParameter(f"{corpus} {hint}", param_hint="--corpus")
    return list(_in_folder(folder))


def _archived(limit: int, config: Path | None) -> list[Sample]:
    from broker.cli.opening import opened
    from broker.store import archive

    with opened(load_settings(config)) as store:
        found = store.run(archive.newest(limit))
    return [
        Sample(each.control_id, datetime.fromtimestamp(each.received, UTC), each.raw)
        for each in reversed(found)
    ]


def _in_folder(folder: Path) -> Iterator[Sample]:
    """Every message in files that hold HL7, in MLLP frames or bare; other files are skipped."""
    now = datetime.now(UTC)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        messages = list(messages_in(path.read_bytes()))
        for number, raw in enumerate(messages, 1):
            shown = f"{path.relative_to(folder)}"
            yield Sample(shown if len(messages) == 1 else f"{shown}#{number}", now, raw)


def messages_in(data: bytes) -> Iterator[bytes]:
    """The messages of a file: frames, batches, several or one; none when it is no HL7."""
    from broker.hl7.header import trim_start
    from broker.hl7.message import batch
    from broker.hl7.refusal import Refusal

    for block in FRAME_END.split(data):
        start = trim_start(block.lstrip(b"\x0b\r\n"))
        if not START.match(start):
            continue
        try:
            yield from batch(start)
        except Refusal:
            continue  # a wrapper around nothing


def watched(found: Sequence[Sample], doing: str) -> Iterable[Sample]:
    """The samples with a progress bar on a terminal, silent elsewhere."""
    if not sys.stderr.isatty():
        return found
    from rich.console import Console
    from rich.progress import track

    return track(found, description=doing, console=Console(stderr=True), transient=True)
