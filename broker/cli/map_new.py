"""`broker map new`: a mapping begun for the sender of a sample message."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.mappings import (
    NEGATIVE,
    AsJson,
    MappingsOption,
    bundle_of,
    configured,
    print_json,
)

if TYPE_CHECKING:
    from broker.mapping.bundle import Bundle
    from broker.mapping.trying import Trial

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
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Begin an overlay for a sender; 1 when no mapping accepts its message, or one is for it."""
    from broker.mapping.starting import name_of, sender_of, starter

    bundle = bundle_of(mappings or configured(load_settings(config)))
    raw, trial = _tried(bundle, sample)
    if trial.header is None or trial.inbound is None or trial.message is None:
        typer.echo(f"{sample}: {trial.refusal}", err=True)
        raise typer.Exit(NEGATIVE)
    sender = sender_of(trial.header)
    if sender in trial.inbound.senders:
        named = "|".join(sender)
        typer.echo(f"{trial.inbound.name} is for {named} already: change that mapping", err=True)
        raise typer.Exit(NEGATIVE)
    base = Path(trial.inbound.place)
    if out and not _reaches(out, base):
        fact = f"it extends {base.name}, so it must stand beside that file"
        raise typer.BadParameter(fact, param_hint="--out")
    name = out.stem if out else name_of(trial.header)
    example = f"{EXAMPLES}/{name}.hl7"
    text = starter(trial, name, base.stem, example)
    if out:
        _write(out, text, out.parent / example, raw)
    if as_json:
        print_json({"mapping": name, "file": str(out) if out else None, "text": text})
    elif out:
        typer.echo(f"{out} and {out.parent / example} are written; next: broker map check {out}")
    else:
        typer.echo(text, nl=False)


def _reaches(out: Path, base: Path) -> bool:
    """Whether `extends` finds the base from there: it is shipped, or in the same folder."""
    from broker.mapping.overlaying import SHIPPED

    return (SHIPPED / base.name).is_file() or out.parent.resolve() == base.parent.resolve()


def _tried(bundle: Bundle, sample: Path) -> tuple[bytes, Trial]:
    """The sample and what examples of it would give, at their fixed time."""
    from broker.cli.corpus import messages_in
    from broker.mapping.examples import RECEIVED, SITE_ZONE
    from broker.mapping.trying import try_message

    try:
        messages = list(messages_in(sample.read_bytes()))
    except OSError as error:
        raise typer.BadParameter(f"{sample}: {error.strerror}", param_hint="--from") from error
    if len(messages) != 1:
        fact = f"{sample} holds {len(messages)} messages, one is needed"
        raise typer.BadParameter(fact, param_hint="--from")
    raw = messages[0]
    return raw, try_message(bundle, raw, received=RECEIVED, site_zone=SITE_ZONE)


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
