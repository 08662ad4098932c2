"""`broker map check` and `broker map try`: mappings judged, messages tried, nothing changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from broker.mapping.applying import Outcome, Traced
    from broker.mapping.loading import Bundle
    from broker.mapping.trying import Trial

NEGATIVE = 1
LONGEST_RAW = 60

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    verbs = typer.Typer(no_args_is_help=True, help="Check mapping files and try messages on them.")
    verbs.command("check")(check)
    verbs.command("try")(try_message)
    app.add_typer(verbs, name="map")


def check(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Mapping files or folders; default: those of the configuration."),
    ] = None,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Judge mappings and run their examples; 1 when something is wrong."""
    from broker.mapping.checking import check as judged

    found = judged(paths or [_near(load_settings(config).mappings)])
    wrong = sum(complaint.severity == "error" for complaint in found)
    if as_json:
        typer.echo(json.dumps([_plain(complaint) for complaint in found], ensure_ascii=False))
    else:
        for complaint in found:
            typer.echo(str(complaint))
        typer.echo(
            f"{wrong} wrong, {len(found) - wrong} odd" if found else "all mappings are right"
        )
    if wrong:
        raise typer.Exit(NEGATIVE)


def try_message(
    message: Annotated[Path, typer.Argument(help="A file with one HL7 message.")],
    mappings: Annotated[
        Path | None, typer.Option("--mappings", help="A mapping file or folder to try it on.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show what would become of a message, and why; 1 when it would be refused."""
    from datetime import UTC, datetime

    from broker.mapping.trying import try_message as tried

    settings = load_settings(config)
    bundle = _bundle(mappings or _near(settings.mappings))
    try:
        raw = message.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{message}: {error.strerror}") from error
    trial = tried(bundle, raw, received=datetime.now(UTC), site_zone=settings.timezone)
    if as_json:
        typer.echo(json.dumps(_trial(trial), ensure_ascii=False, indent=2))
    else:
        for line in _lines(trial):
            typer.echo(line)
    if trial.refusal:
        raise typer.Exit(NEGATIVE)


def _bundle(path: Path) -> Bundle:
    from broker.mapping.document import Complaints
    from broker.mapping.loading import load

    try:
        return load(path, examples=False)
    except Complaints as mistakes:
        typer.echo(str(mistakes), err=True)
        raise typer.Exit(os.EX_CONFIG) from None


def _lines(trial: Trial) -> Iterator[str]:
    if trial.header:
        header = trial.header
        kind = "^".join(part for part in (header.message_type, header.trigger) if part)
        yield f"{kind} {header.control_id} from {header.sender}"
    if trial.mapping:
        repaired = ", although it is labelled otherwise" if trial.repaired else ""
        yield f"mapping {trial.mapping} ({trial.place}), read as {trial.codec}{repaired}"
    for outcome in trial.outcomes:
        yield from ("", *_outcome_lines(outcome))
    if trial.refusal:
        yield f"refused: {trial.refusal}"


def _outcome_lines(outcome: Outcome) -> Iterator[str]:
    yield f"{outcome.change.location}: {outcome.change.action}   {outcome.line.place}"
    rows = [(_nested(each.keyword), _shown(each.value), each) for each in outcome.traced]
    widest = max((len(name) for name, _, _ in rows), default=0)
    for name, value, each in rows:
        yield f"  {name:<{widest}}  {value}  {_origin(each)}{Path(each.place).name}"
    for warning in outcome.warnings:
        yield f"  warning: {warning}"


def _nested(keyword: str) -> str:
    """A keyword inside a sequence the way DICOM prints it: >Modality."""
    *outer, name = keyword.split("/")
    return ">" * len(outer) + name


def _origin(traced: Traced) -> str:
    from broker.worklist.changes import FILLS_GAPS

    raw = traced.raw if len(traced.raw) <= LONGEST_RAW else traced.raw[:LONGEST_RAW] + "…"
    words = [f"{traced.path} '{raw}'"] if traced.path else []
    if traced.rank >= FILLS_GAPS:
        words.append("default, fills a gap only")
    elif traced.rank:
        words.append(f"choice {traced.rank + 1}")
    return f"← {', '.join(words)}   " if words else ""


def _shown(value: Any) -> str:
    if value is None:
        return "erased"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "\\".join(_shown(each) for each in value)
    return str(value) if value != "" else "—"


def _near(path: Path) -> Path:
    """The path as a person in this folder would write it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _trial(trial: Trial) -> dict[str, Any]:
    header, refusal = trial.header, trial.refusal
    return {
        "control_id": header.control_id if header else None,
        "sender": header.sender if header else None,
        "mapping": trial.mapping,
        "codec": trial.codec,
        "repaired": trial.repaired,
        "refusal": str(refusal) if refusal else None,
        "outcomes": [
            {
                "action": outcome.change.action,
                "location": outcome.change.location,
                "rule": outcome.line.place,
                "attributes": _without_ranks(outcome.change.attributes),
                "warnings": list(outcome.warnings),
                "origins": [_plain(each) for each in outcome.traced],
            }
            for outcome in trial.outcomes
        ],
    }


def _plain(value: Any) -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(value)


def _without_ranks(value: Any) -> Any:
    from broker.worklist.changes import plain

    if isinstance(value, dict):
        return {key: _without_ranks(plain(each)) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_ranks(plain(each)) for each in value]
    return value
