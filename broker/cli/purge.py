"""`broker purge`: removing by meaning what nobody needs any more."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing
from broker.cli.bars import bar
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.outline import printable
from broker.cli.printing import AsJson, print_json
from broker.cli.spreading import spread

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.updates.purging import Candidate, Wish

SHOWN = 50
NUMBERED = ("order", "performed step")
"""What the trail tells number by number."""


def register(program: typer.Typer) -> None:
    """Add `purge` to the program."""
    program.command("purge")(spread(purge))


def _day(option: str, what: str) -> Any:
    return typer.Option(option, formats=["%Y-%m-%d"], help=what)


@dataclass(frozen=True)
class Said:
    """The options by which a person says what may go."""

    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="With --before: COMPLETED, CANCELLED …; again for several."),
    ] = None
    before: Annotated[
        datetime | None,
        _day(
            "--before", "Orders whose last step was scheduled before this day; those that are over."
        ),
    ] = None
    messages_before: Annotated[
        datetime | None, _day("--messages-before", "Archived messages older than this day.")
    ] = None
    performed_before: Annotated[
        datetime | None,
        _day("--performed-before", "Performed steps that ended and were created before this day."),
    ] = None


def purge(
    said: Said,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would go, and remove nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Remove by status and scheduled day; without a day, what `keep` says is due.

    A step in progress, and its order, is never touched. The broker does what `keep` says by itself.
    """
    settings = load_settings(config)
    wish = _wish(said, settings.timezone)
    with opened(settings) as store:
        found = _found(store, wish, settings)
        gone = 0
        if not dry_run and found:
            _agreed(len(found), yes)
            orders, exams = (_keys(found, what) for what in NUMBERED)
            with auditing.removal(settings, store, orders, exams):
                gone = _removed(store, wish, found, settings)
            others = Counter(each.what for each in found if each.what not in NUMBERED)
            for what, count in others.items():
                auditing.of_messages(settings, "D", f"purge: {what}, {count} were due")
    if as_json:
        print_json({"removed": gone, "candidates": [each._asdict() for each in found]})
        return
    _list(found)
    counts = Counter(each.what for each in found)
    told = ", ".join(f"{count} {what}{'s' * (count != 1)}" for what, count in counts.items())
    typer.echo(_sum(told or "nothing", gone, len(found), dry_run), err=True)


def _keys(found: list[Candidate], what: str) -> list[str]:
    return [each.key for each in found if each.what == what]


def _list(found: list[Candidate]) -> None:
    for each in found[:SHOWN]:
        typer.echo(printable(f"{each.what} {each.key}: {each.why}"))
    if len(found) > SHOWN:
        typer.echo(f"and {len(found) - SHOWN} more (--json has all)")


def _sum(told: str, gone: int, found: int, dry_run: bool) -> str:
    if dry_run:
        return f"nothing was removed; it would be: {told}"
    return f"removed {gone} of {found}: {told}" if found else "nothing is due"


def _wish(said: Said, zone: ZoneInfo) -> Wish | None:
    from broker.updates.purging import MAY_GO, OVER, Wish
    from broker.worklist.records import StepStatus

    before, ended = said.before, (said.messages_before, said.performed_before)
    if said.status and before is None:
        raise typer.BadParameter("--status needs a day: --before 2026-01-31")
    statuses = set()
    for each in said.status or ():
        if each.upper() not in {may.value for may in MAY_GO}:
            known = ", ".join(sorted(MAY_GO))
            raise typer.BadParameter(f"--status {each}: none that may be removed; {known}")
        statuses.add(StepStatus(each.upper()))
    if not (before or any(ended)):
        return None
    midnights = [day and datetime.combine(day.date(), time(), zone) for day in ended]
    scheduled: date | None = before.date() if before else None
    return Wish(frozenset(statuses) or OVER, scheduled, *midnights)


def _found(store: Store, wish: Wish | None, settings: Settings) -> list[Candidate]:
    from broker.updates import purging
    from broker.updates.retention import Retention

    if wish is not None:
        return list(purging.candidates(store, wish))
    now = datetime.now(settings.timezone)
    return list(Retention(store, settings.keep, lambda: now).due())


def _removed(store: Store, wish: Wish | None, found: list[Candidate], settings: Settings) -> int:
    """Remove all of it; gives how many went."""
    from broker.cli import logs
    from broker.updates import purging
    from broker.updates.retention import Retention

    logs.configure(settings.log.model_copy(update={"level": "critical"}))  # it is printed
    now, gone = datetime.now(settings.timezone), 0
    with bar("removing") as tell:
        if wish is not None:
            for number, each in enumerate(found, start=1):
                gone += purging.removed(store, wish, each, now)
                tell("", number, len(found))
            return gone

        def count(_what: str, more: int) -> None:
            nonlocal gone
            gone += more
            tell("", gone, len(found))

        retention = Retention(store, settings.keep, lambda: now, count)
        while retention.slice():
            pass
    return gone


def _agreed(number: int, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("say --yes to remove, or --dry-run to see what would go")
    typer.confirm(f"Remove {number} records for good?", abort=True)
