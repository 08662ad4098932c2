"""`broker export` and `broker import`: everything as lines of JSON, from one store into another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing
from broker.cli.bars import bar
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import served
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.moving.importing import Report
    from broker.store.moving.portable import Checked

PATIENTS_DATA = "It holds patients' data; only its owner can read it. Keep it so."
SHOWN = 50


def register(program: typer.Typer) -> None:
    """Add `export` and `import` to the program."""
    program.command("export")(export)
    program.command("import")(import_)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    archive: Annotated[
        bool,
        typer.Option("--archive", help="All messages of `broker log`, not only refused ones."),
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of FILE.")] = False,
    config: ConfigOption = None,
) -> None:
    """Write orders, patients, performed steps, what waits and what is dead as lines of JSON.

    One that was broken off is carried on. The file holds patients' data; nobody else may read it.
    """
    from importlib import metadata

    from broker.store.moving import exporting
    from broker.store.moving.portable import Writer, header

    settings = load_settings(config)
    if file.exists() and not replace:
        raise typer.BadParameter(f"{file} is there already; name another one, or --replace it")
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    first = header(settings.site, metadata.version("worklist-broker"), begun)
    try:
        with served(settings) as store, bar("exporting") as tell:
            writer = Writer(file, first)
            try:
                unreadable = exporting.export(store, writer, whole_archive=archive, seen=tell)
                counts = writer.finish()
            finally:
                writer.close()
    except OSError as trouble:
        typer.echo(f"{file}: {trouble.strerror}; what is written will be carried on", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    auditing.of_export(settings, f"export: {_counted(counts)}", file)
    typer.echo(f"{file}: {_counted(counts)}. {PATIENTS_DATA}", err=True)
    for name in unreadable:
        typer.echo(printable(f"left out, as this version cannot read it: {name}"), err=True)
    if unreadable:
        raise typer.Exit(NEGATIVE)


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of `broker export`.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Where both have a record, the file's counts.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would happen, and write nothing.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Take what another broker exported; 1 when something here differs, which stays as it is.

    The whole file is checked before anything is written. Done again it carries on.
    """
    settings = load_settings(config)
    checked = _checked(file)
    with served(settings, new=True) as store, bar("importing") as tell:
        report = _imported(store, checked, settings, overwrite, dry_run, tell)
    if not dry_run:
        auditing.of_import(
            settings,
            f"import: {_counted({kind: len(held) for kind, held in checked.places.items()})}",
            file,
        )
    if as_json:
        print_json(_plain(report))
    else:
        for line in _lines(report, dry_run):
            typer.echo(printable(line))
    if report.conflicts:
        raise typer.Exit(NEGATIVE)


def _checked(file: Path) -> Checked:
    from broker.store.moving.judging import judge
    from broker.store.moving.portable import Unusable
    from broker.store.moving.portable import checked as check

    try:
        return check(file, judge)
    except OSError as trouble:
        raise typer.BadParameter(f"{file}: {trouble.strerror}") from None
    except Unusable as fault:
        typer.echo(f"{fault}", err=True)
        raise typer.Exit(NEGATIVE) from None


def _imported(
    store: Any, checked: Checked, settings: Settings, overwrite: bool, rehearsal: bool, tell: Any
) -> Report:
    from broker.store.moving.importing import Import

    done, total = 0, checked.count()

    def seen(more: int) -> None:
        nonlocal done
        done += more
        tell("", done, total)

    names = {each.name for each in settings.destinations}
    taking = Import(
        store,
        checked,
        ris=names,
        now=datetime.now(UTC),
        overwrite=overwrite,
        rehearsal=rehearsal,
    )
    return taking.run(seen)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {_several(kind, count)}" for kind, count in counts.items())


def _several(kind: str, count: int) -> str:
    if count == 1 or kind == "numbers given":
        return kind
    return kind + ("es" if kind.endswith("s") else "s")


def _lines(report: Report, rehearsed: bool) -> Iterator[str]:
    if rehearsed:
        yield "nothing was written; it would be:"
    kinds = dict.fromkeys(kind for kind, _ in report.counts)
    for kind in kinds:
        told = [f"{n} {became}" for (k, became), n in report.counts.items() if k == kind]
        yield f"{kind}: {', '.join(told)}"
    for each in report.conflicts[:SHOWN]:
        yield f"conflict: {each.kind} {each.key}: {each.why}"
    if len(report.conflicts) > SHOWN:
        yield f"and {len(report.conflicts) - SHOWN} more conflicts (--json has all)"


def _plain(report: Report) -> dict[str, Any]:
    counts: dict[str, dict[str, int]] = {}
    for (kind, became), count in report.counts.items():
        counts.setdefault(kind, {})[became.value] = count
    return {"counts": counts, "conflicts": [each._asdict() for each in report.conflicts]}
