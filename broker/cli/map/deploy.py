"""`broker map reload`, `rollback` and `versions`: which mappings the running broker works with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.deadline import within_deadline
from broker.cli.login import who
from broker.cli.opening import opened
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from broker.rollout.outcome import Deployed
    from broker.settings import Settings
    from broker.store.executors import Store

PATIENCE_S = 5.0
LOOK_S = 0.1
LIVELY_S = 10.0
"""A door that has not published for so long is not waited for."""


def register(verbs: typer.Typer) -> None:
    """Add the verbs of this file."""
    verbs.command("reload")(reload)
    verbs.command("rollback")(rollback)
    verbs.command("versions")(versions)


def reload(as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Check the folder and put it in force without a restart; 1 when something is wrong."""
    from broker.rollout.deploying import deploy

    settings = load_settings(config)

    def wanted(store: Store) -> Deployed:
        with within_deadline():
            return deploy(store, settings, by=f"reload ({who()})", at=time.time())

    _put_in_force(settings, wanted, as_json=as_json)


def rollback(
    version: Annotated[
        str, typer.Argument(help="As `map versions` shows it; default: the one before.")
    ] = "",
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Put earlier mappings in force again, till the folder changes; 1 when they are not kept."""
    from broker.rollout.deploying import roll_back

    settings = load_settings(config)

    def wanted(store: Store) -> Deployed:
        return roll_back(store, settings, version, by=f"({who()})", at=time.time())

    _put_in_force(settings, wanted, as_json=as_json)


def versions(as_json: AsJson = False, config: ConfigOption = None) -> None:
    """List the mappings that can be gone back to, newest first; 1 when there are none."""
    from broker.cli.outline import moment, printable
    from broker.store import bundles

    settings = load_settings(config)
    with opened(settings) as store:
        history = store.run(bundles.history())
    kept = bundles.versions(history)
    if as_json:
        print_json([{"version": each.version, "since": each.at, "by": each.by} for each in kept])
    for number, each in enumerate(kept if not as_json else ()):
        mark = "  in force" if not number else ""
        typer.echo(
            printable(f"{each.short}  {moment(each.at, settings.timezone)}  {each.by}{mark}")
        )
    if not kept:
        raise typer.Exit(NEGATIVE)


def _put_in_force(
    settings: Settings, wanted: Callable[[Store], Deployed], *, as_json: bool
) -> None:
    from broker.mapping.text.nodes import Complaints
    from broker.rollout.deploying import NoSuchVersion

    with opened(settings) as store:
        try:
            deployed = wanted(store)
        except (Complaints, NoSuchVersion) as wrong:
            refused(wrong, as_json=as_json)
            raise typer.Exit(NEGATIVE) from None
        doors = taken(store, deployed.active.short)
    if deployed.changed:
        auditing.of_mappings(settings, f"mappings {deployed.active.short}: {deployed.active.by}")
    if as_json:
        print_json(_plain(deployed, doors))
        return
    fact = "in force" if deployed.changed else "in force already"
    typer.echo(f"version {deployed.active.short} is {fact}: {deployed.mappings} mappings")
    for name, took in doors.items():
        typer.echo(f"  {name} {'works with it' if took else 'has not taken it yet'}")


def refused(wrong: Exception, *, as_json: bool) -> None:
    """Say why nothing was put in force."""
    from dataclasses import asdict

    complaints = getattr(wrong, "complaints", None)
    if as_json:
        listed = [asdict(each) for each in complaints or ()]
        print_json({"refused": listed or str(wrong)})
        return
    typer.echo(str(wrong), err=True)
    if complaints is not None:
        typer.echo("nothing changed: the former mappings stay in force", err=True)


def taken(store: Store, version: str) -> dict[str, bool]:
    """Wait a moment for every lively door to work with a version, and tell which do."""
    from broker.store import metrics

    deadline = time.monotonic() + PATIENCE_S
    while True:
        published = store.run(metrics.published())
        lively = metrics.fresh(published, now=time.time(), within_s=LIVELY_S)
        at = {name: metrics.mapping_version(taken) for name, taken in sorted(lively.items())}
        doors = {name: held == version for name, held in at.items() if held}
        if all(doors.values()) or time.monotonic() > deadline:
            return doors
        time.sleep(LOOK_S)


def _plain(deployed: Deployed, doors: dict[str, bool]) -> dict[str, Any]:
    active = deployed.active
    return {
        "version": active.version,
        "since": active.at,
        "by": active.by,
        "changed": deployed.changed,
        "mappings": deployed.mappings,
        "doors": doors,
    }
