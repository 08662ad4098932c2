"""`broker patient unmerge`: two people who were merged by mistake are two again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing
from broker.cli.by_hand import archived, demand_reason
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.archive import Archived
    from broker.store.commit import Commit
    from broker.store.executors import Store
    from broker.store.reads import Read
    from broker.worklist.merging import Separated
    from broker.worklist.records import Order

ATTEMPTS = 20

app = typer.Typer(no_args_is_help=True, help="Undo what was said of patients by mistake.")


def register(program: typer.Typer) -> None:
    """Add `patient` to the program."""
    app.callback()(patient)
    app.command("unmerge")(unmerge)
    program.add_typer(app, name="patient")


def patient() -> None:
    """Undo what was said of patients by mistake."""


def unmerge(
    issuer: Annotated[str, typer.Argument(help="Issuer of the ID that was given up.")],
    patient_id: Annotated[str, typer.Argument(metavar="ID", help="The ID that was given up.")],
    reason: Annotated[str, typer.Option(help="For the log; no patient data.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be.")] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Let an ID that was merged into another be somebody's own again; 1 if it was not merged.

    Orders stay where they are and are listed, since no message says whose they are: cancel those of
    the other person and order them anew. What comes from now on under the ID is its own.
    """
    from broker.worklist.identity import joined

    demand_reason(reason, dry_run=dry_run)
    settings = load_settings(config)
    key = joined(issuer, patient_id)
    with opened(settings) as store:
        done = _undone(store, settings, key, reason, dry_run=dry_run)
    if done is None:
        typer.echo(f"{printable(key)} is not merged into another patient", err=True)
        raise typer.Exit(NEGATIVE)
    if not dry_run:
        auditing.of_patient(settings, f"patient unmerge: {reason}", key)
    if as_json:
        print_json(_plain(key, done))
        return
    _print(key, done, "would be" if dry_run else "is")


def _undone(
    store: Store, settings: Settings, key: str, reason: str, *, dry_run: bool
) -> Separated | None:
    """Read, undo, commit; again when a message changed the survivor meanwhile."""
    from broker.store import reads
    from broker.store.commit import Committed, commit
    from broker.worklist.finding import Wanted
    from broker.worklist.merging import separated

    for _ in range(ATTEMPTS):
        read = store.run(reads.lookup(Wanted(patients=(key,), orders_of_patients=True)))
        done = separated(key, read.known)
        if done is None or dry_run:
            return done
        entry = archived(
            "unmerge",
            f"{key} from {done.after.key}",
            reason,
            orders=[order.key for order in done.orders],
        )
        wanted = _commit(key, done, read, entry, settings)
        if isinstance(store.run(commit(wanted)), Committed):
            return done
    typer.echo("messages kept changing this patient: try again", err=True)
    raise typer.Exit(os.EX_TEMPFAIL)


def _commit(key: str, done: Separated, read: Read, entry: Archived, settings: Settings) -> Commit:
    from broker.store.commit import Change, Commit
    from broker.worklist.finding import separated_of
    from broker.worklist.staleness import OURS, stamp

    now = datetime.now(UTC)
    return Commit(
        at=now,
        changes=[Change(read.revision(done.before), done.before, done.after)],
        undone=[("patient", key)],
        tombstones=[(separated_of(key), {OURS: stamp(now)})],
        tombstone_keep_s=int(settings.keep.guard.total_seconds()),
        archived=entry,
    )


def _print(key: str, done: Separated, would: str) -> None:
    survivor = done.after.key
    typer.echo(printable(f"{key} {would} a patient of its own; these stay with {survivor}:"))
    for order in done.orders:
        typer.echo(printable(f"  {order.key}  {_statuses(order)}"))
    if done.after.former:
        others = ", ".join(done.after.former)
        typer.echo(printable(f"still merged into {survivor}: {others}"))


def _statuses(order: Order) -> str:
    return ", ".join(sorted({step.status.value for _, step in order.steps()}))


def _plain(key: str, done: Separated) -> dict[str, Any]:
    return {
        "patient": key,
        "from": done.after.key,
        "orders": [{"order": order.key, "status": _statuses(order)} for order in done.orders],
        "still_merged": list(done.after.former),
    }
