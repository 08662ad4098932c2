"""`broker find` and `broker probe find`: ask for the worklist as a scanner of some kind does."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import probe
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.probe.address import Address

if TYPE_CHECKING:
    from broker.probe.scanner import Attributes, Scanner
    from broker.probe.styles import Style, Wish


def register(program: typer.Typer) -> None:
    """Add `find` to the program; `probe` has it too."""
    program.command("find")(find)


@dataclass(frozen=True)
class Asked:
    """What one style has got; `problem` says why nothing, where the peer has refused it."""

    style: str
    items: Sequence[Attributes]
    problem: str = ""


def find(
    to: Annotated[Address | None, probe.option_to(11112)] = None,
    called: probe.Called = "BROKER",
    calling: probe.Calling = "PROBE",
    modality: str = "",
    date: Annotated[str, typer.Option(help="YYYYMMDD, a range, or today.")] = "",
    patient_id: str = "",
    patient_name: Annotated[str, typer.Option(help="e.g. 'MUSTER*'")] = "",
    accession: str = "",
    station: Annotated[str, typer.Option(help="The scheduled station's AE title.")] = "",
    style: Annotated[str, typer.Option(help="How to ask: see --styles; or 'each'.")] = (
        "present-day"
    ),
    styles: Annotated[bool, typer.Option("--styles", help="List the styles.")] = False,
    deadline: probe.Deadline = 10.0,
    tls: probe.Tls = None,
    as_json: AsJson = False,
) -> None:
    """Ask for the worklist as a scanner does; 1 when it is empty."""
    from broker.probe.scanner import Scanner
    from broker.probe.styles import STYLES, Wish

    if styles:
        _print_styles(STYLES, as_json=as_json)
        return
    if to is None:
        raise typer.BadParameter("where? for example 127.0.0.1:11112", param_hint="--to")
    chosen = STYLES if style == "each" else {k: v for k, v in STYLES.items() if k == style}
    if not chosen:
        raise typer.BadParameter(f"'{style}' is none of {', '.join(STYLES)}", param_hint="--style")
    today = f"{probe.now():%Y%m%d}"
    who = (patient_id, patient_name, accession, station)
    wish = Wish(calling, today, modality, _day(date, today), *who)
    scanner = Scanner(to, called, wish.title, deadline, secure=probe.secure(tls))
    found = [_ask(scanner, each, wish, alone=style != "each") for each in chosen.items()]
    if style == "each":
        _print_each(found, as_json=as_json)
    else:
        probe.print_items(list(found[0].items), as_json=as_json)
    if not any(each.items for each in found):
        raise typer.Exit(NEGATIVE)


def _day(said: str, today: str) -> str:
    day = today if said == "today" else said
    if day and not _is_day(day):
        raise typer.BadParameter(
            f"'{said}' is no day: YYYYMMDD, a range of two as 20260316-20260318, or today",
            param_hint="--date",
        )
    return day


def _is_day(text: str) -> bool:
    """Tell whether it is a day or a range of days; either end of a range may be open."""
    from broker.worklist.query.ranges import date_range

    ends = [end for end in text.split("-") if end]
    return text.count("-") < 2 and bool(ends) and all(map(date_range, ends))


def _ask(scanner: Scanner, named: tuple[str, Style], wish: Wish, *, alone: bool) -> Asked:
    """Ask in one style; a refusal ends the command only when it is the only one."""
    from broker.probe.scanner import QueryFailed

    name, style = named
    with probe.exit_codes():
        try:
            return Asked(name, replace(scanner, manner=style.manner).find(style.keys(wish)))
        except QueryFailed as failed:
            if alone:
                raise
            return Asked(name, (), f"{failed}")


def _print_styles(styles: Mapping[str, Style], *, as_json: bool) -> None:
    from broker.cli.rows import print_rows

    rows = [{"style": name, "what": style.what} for name, style in styles.items()]
    if as_json:
        print_json(rows)
    else:
        print_rows(rows)


def _print_each(found: Sequence[Asked], *, as_json: bool) -> None:
    """The number of answers of each style, no patient data; as JSON with the answers."""
    if as_json:
        said: list[dict[str, Any]] = [
            {"style": each.style, "problem": each.problem, "items": list(each.items)}
            for each in found
        ]
        print_json(said)
        return
    for each in found:
        typer.echo(
            printable(f"{each.style}\t{len(each.items)}\t{each.problem}".rstrip()), file=sys.stdout
        )


probe.app.command("find")(find)
