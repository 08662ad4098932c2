"""`broker map new`: a mapping begun for the sender of a sample message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.corpus import only_message
from broker.cli.mappings import MappingsOption, PortOption, bundle_meant
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.hl7.header import Header
    from broker.mapping.bundle import Bundle
    from broker.mapping.running.applying import Inbound
    from broker.mapping.trials.sketching import Sketch

EXAMPLES = "examples"


def register(verbs: typer.Typer) -> None:
    """Add `new` to the group."""
    verbs.command("new")(new)


def new(
    sample: Annotated[Path, typer.Option("--from", help="A file with one message of the sender.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Write the mapping here and the sample beside; else print it."),
    ] = None,
    mappings: MappingsOption = None,
    port: PortOption = 0,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Begin an overlay for a sender; 1 when no mapping accepts its message, or one is for it."""
    from broker.mapping.trials.starting import name_of, starter

    bundle = bundle_meant(mappings, load_settings(config))
    raw, sketch = _sketched(bundle, sample, port)
    header, extended = _extended(sketch, sample)
    base = Path(extended.place)
    if out and not _reaches(out, base):
        fact = f"it extends {base.name}, so it must stand beside that file"
        raise typer.BadParameter(fact, param_hint="--out")
    name = out.stem if out else name_of(header)
    example = f"{EXAMPLES}/{name}.hl7"
    text = starter(sketch, name, base.stem, example)
    if out:
        _write(out, text, out.parent / example, raw)
    if as_json:
        print_json({"mapping": name, "file": str(out) if out else None, "text": text})
    elif out:
        typer.echo(f"{out} and {out.parent / example} are written; next: broker map check {out}")
    else:
        typer.echo(text, nl=False)


def _extended(sketch: Sketch, sample: Path) -> tuple[Header, Inbound]:
    """The mapping that reads the sample, unless it is for that sender already."""
    from broker.mapping.trials.starting import ANY, sender_of

    trial = sketch.trial
    if trial.header is None or trial.inbound is None or trial.message is None:
        typer.echo(f"{sample}: {trial.refusal}", err=True)
        raise typer.Exit(NEGATIVE)
    sender, inbound = sender_of(trial.header), trial.inbound
    if sender == (ANY, ANY) and not sketch.port:
        fact = f"{sample} names no sender (MSH-3, MSH-4): a mapping for it needs the port"
        raise typer.BadParameter(f"{fact} of a listener of its own", param_hint="--port")
    anybody = sender == (ANY, ANY) and sketch.port not in inbound.ports
    if sender in inbound.senders and not anybody:
        named = "|".join(sender)
        typer.echo(f"{inbound.name} is for {named} already: change that mapping", err=True)
        raise typer.Exit(NEGATIVE)
    return trial.header, inbound


def _reaches(out: Path, base: Path) -> bool:
    """Whether `extends` finds the base from there: it is shipped, or in the same folder."""
    from broker.mapping.files.overlaying import SHIPPED

    return (SHIPPED / base.name).is_file() or out.parent.resolve() == base.parent.resolve()


def _sketched(bundle: Bundle, sample: Path, port: int) -> tuple[bytes, Sketch]:
    """The sample and what examples of it would give, at their fixed time."""
    from broker.mapping.trials.examples import RECEIVED, SITE_ZONE
    from broker.mapping.trials.sketching import sketched

    raw = only_message(sample, "--from")
    return raw, sketched(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE, port=port)


def _write(out: Path, text: str, example: Path, raw: bytes) -> None:
    """Both files, or none; what is there already is never overwritten."""
    for path in (out, example):
        if path.exists() and not (path == example and path.read_bytes() == raw):
            raise typer.BadParameter(f"{path} exists already", param_hint="--out")
    try:
        example.parent.mkdir(parents=True, exist_ok=True)
        example.write_bytes(raw)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{out}: {error.strerror}", param_hint="--out") from error
