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

from broker.cli import auditing
from broker.cli.configuration import load_settings
from broker.cli.mappings import beside

LAST = "last:500"
NEWEST = re.compile(r"last:(\d{1,6})")
FRAME_END = re.compile(rb"\x1c\r?\n?")
START = re.compile(rb"(?:MSH|FHS|BHS)\W")

CorpusOption = Annotated[
    str, typer.Option("--corpus", help="A folder of messages, or last:N of the running broker.")
]


@dataclass(frozen=True)
class Sample:
    """One message: what people call it, when it came, its bytes, to which port (0 unknown)."""

    name: str
    received: datetime
    raw: bytes = field(repr=False)
    port: int = 0


def samples(corpus: str, config: Path | None) -> list[Sample]:
    """The messages meant; exit 69 when the store is away, 2 when there is no such folder."""
    newest = NEWEST.fullmatch(corpus)
    if newest and int(newest[1]):
        return _archived(int(newest[1]), config)
    folder = Path(corpus)
    if not folder.is_dir():
        hint = f"is no folder; give a folder of messages, or {LAST}"
        raise typer.BadParameter(f"{corpus} {hint}", param_hint="--corpus")
    return list(_in_folder(folder))


def _archived(limit: int, config: Path | None) -> list[Sample]:
    from broker.cli.opening import opened
    from broker.store import archive

    settings = load_settings(config)
    with opened(settings) as store:
        found = store.run(archive.newest(limit))
    auditing.of_messages(settings, "R", f"{len(found)} messages of the archive, for mappings")
    return [
        Sample(each.control_id, datetime.fromtimestamp(each.received, UTC), each.raw, each.port)
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


def bytes_of(path: Path, option: str | None = None) -> bytes:
    """What a file holds; one that cannot be read is a usage mistake (2)."""
    try:
        return path.read_bytes()
    except OSError as error:
        fact = f"{path}: {error.strerror}{beside(path)}"
        raise typer.BadParameter(fact, param_hint=option) from error


def only_message(path: Path, option: str | None = None) -> bytes:
    """The message of a file; a file without one, or with several, is a usage mistake (2)."""
    found = list(messages_in(bytes_of(path, option)))
    if len(found) != 1:
        held = f"holds {len(found)} messages" if found else "holds no HL7 message (MSH|…)"
        raise typer.BadParameter(f"{path} {held}, one is needed", param_hint=option)
    return found[0]


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
