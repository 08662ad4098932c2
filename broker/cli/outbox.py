"""`broker outbox`: what is on its way to RISs and other SCPs, and what to do about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli import auditing, by_hand, waiting
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.dead.showing import content_of
from broker.cli.login import who
from broker.cli.opening import opened
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.outbox import Event

MOST = 1000
app = typer.Typer(
    invoke_without_command=True, help="Show what is on its way to RISs and SCPs; pause and resume."
)
Destination = Annotated[
    str, typer.Argument(metavar="DESTINATION", help="A name of `ris` or `updates.forward`.")
]
Named = Annotated[str, typer.Option("--to", metavar="DESTINATION", help="Only what goes there.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="MSH-10 as `broker outbox list` has it.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the archive.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]


def register(program: typer.Typer) -> None:
    """Add `outbox` to the program."""
    app.callback()(outbox)
    app.command("list")(list_waiting)
    for verb in (show, retry, drop, pause, resume):
        app.command(verb.__name__)(verb)
    program.add_typer(app, name="outbox")


def outbox(context: typer.Context, as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Show what is on its way to RISs and other SCPs; 1 when somebody should look at it."""
    if not context.invoked_subcommand:
        list_waiting(as_json=as_json, config=config)


def list_waiting(
    to: Named = "",
    limit: Annotated[int, typer.Option(min=1, help="Orders shown of each destination.")] = MOST,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List destinations and what waits for each; 1 when one of them needs somebody.

    What is refused is in `broker dead`; an order that waits because of that is here, and says so.
    """
    settings = load_settings(config)
    known = [each.name for each in settings.destinations]
    with opened(settings) as store:
        names = [_known(settings, to)] if to else [*known, *waiting.strangers(store, known)]
        found = [
            {**each, "configured": each["to"] in known}
            for each in waiting.destinations(store, names, limit, settings.timezone)
        ]
    if as_json:
        print_json(found)
    else:
        for each in found:
            waiting.show(each)
    if any(e["paused"] or e["away"] or e["held"] or not e["configured"] for e in found):
        raise typer.Exit(NEGATIVE)


def show(id: Id, as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Show one message that waits, whole, with patient data."""
    settings = load_settings(config)
    with opened(settings) as store:
        event = _found(store, settings, id)
        auditing.of_keys(settings, store, "R", "outbox show", [event.order])
    facts = {
        "id": event.control_id,
        "to": event.ris,
        "order": event.order,
        "status": event.note,
        "mapping": event.mapping,
        "arose": waiting.iso(event.created, settings.timezone),
        "message": content_of(event),
    }
    if as_json:
        print_json(facts)
        return
    message = facts.pop("message")
    for name, value in facts.items():
        typer.echo(printable(f"{name:10}{value}"))
    typer.echo("")
    for line in message.split("\n"):
        typer.echo(printable(line))


def retry(
    to: Named = "",
    order: Annotated[str, typer.Option("--order", help="Only this one, as listed.")] = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Try what waits for its next try now; for what was refused there is `broker dead replay`."""
    from broker.store import destinations

    settings = load_settings(config)
    names = [_known(settings, to)] if to else [each.name for each in settings.destinations]
    now_ms = int(time.time() * 1000)
    hurried = {}
    with opened(settings) as store:
        for name in names:
            if dry_run:
                boxes = store.run(destinations.boxes(name, limit=-1))
                late = [b for b, due in boxes if now_ms / 1000 < due < waiting.FOREVER]
                hurried[name] = len([each for each in late if order in ("", each)])
            else:
                hurried[name] = store.run(destinations.hurry(name, now_ms=now_ms, box=order))
    if as_json:
        print_json(hurried)
    for name, count in hurried.items() if not as_json else ():
        typer.echo(f"{name}: {count} orders {'would be tried' if dry_run else 'are tried now'}")


def drop(
    id: Id,
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Take one message out that waits: it is never sent, the ones after it are; 75 while it is."""
    import os

    from broker.store import destinations

    by_hand.demand_reason(reason, dry_run=dry_run)
    settings = load_settings(config)
    with opened(settings) as store:
        event = _found(store, settings, id)
        gone = 1
        if not dry_run:
            gone = store.run(destinations.withdraw(event, now_ms=int(time.time() * 1000)))
            if gone > 0:
                by_hand.note(store, "outbox drop", event.control_id, reason, (event.order,))
                auditing.of_keys(settings, store, "U", f"outbox drop: {reason}", [event.order])
    if gone < 0:
        typer.echo("it is being sent at this moment: try again", err=True)
        raise typer.Exit(os.EX_TEMPFAIL)
    facts = {"id": event.control_id, "to": event.ris, "order": event.order, "dropped": gone > 0}
    if as_json:
        print_json(facts)
    else:
        told = "would be dropped" if dry_run else "dropped" if gone else "was sent meanwhile"
        typer.echo(
            printable(f"{event.control_id}  {told}  {event.ris} {event.order}: {event.note}")
        )
    if not gone:
        raise typer.Exit(NEGATIVE)


def pause(
    to: Destination,
    reason: Reason = "",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Send nothing to a destination until `resume`: what arises waits; 1 when it is paused."""
    from broker.store import destinations
    from broker.store.destinations import Pause

    settings = load_settings(config)
    with opened(settings) as store:
        said = Pause(time.time(), who(), reason)
        paused = _known(settings, to) in store.run(destinations.paused())
        if not (paused or dry_run):
            store.run(destinations.pause(to, said))
            by_hand.note(store, "outbox pause", to, reason)
    _told(
        to,
        "is paused already" if paused else "would be paused" if dry_run else "is paused",
        changed=not paused,
        as_json=as_json,
    )


def resume(
    to: Destination,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Send to a destination again, all that has waited in its order; 1 when it is not paused."""
    from broker.store import destinations

    settings = load_settings(config)
    with opened(settings) as store:
        paused = _known(settings, to) in store.run(destinations.paused())
        if paused and not dry_run:
            store.run(destinations.resume(to))
            store.run(destinations.wake(to))
            by_hand.note(store, "outbox resume", to, "")
    _told(
        to,
        "is not paused" if not paused else "would be resumed" if dry_run else "is resumed",
        changed=paused,
        as_json=as_json,
    )


def _told(to: str, what: str, *, changed: bool, as_json: bool) -> None:
    if as_json:
        print_json({"to": to, "outcome": what, "changed": changed})
    else:
        typer.echo(f"{to} {what}")
    if not changed:
        raise typer.Exit(NEGATIVE)


def _known(settings: Settings, name: str) -> str:
    names = [each.name for each in settings.destinations]
    if name not in names:
        from broker.mapping.text.nearest import did_you_mean

        hint = did_you_mean(name, names) or f"there are {', '.join(names) or 'none'}"
        typer.echo(printable(f"'{name}' is no destination of the configuration; {hint}"), err=True)
        raise typer.Exit(NEGATIVE)
    return name


def _found(store: Store, settings: Settings, id: str) -> Event:
    """The message with this ID among all that waits; exit 1 when there is none."""
    from broker.store import destinations
    from broker.store import outbox as stored

    known = [each.name for each in settings.destinations]
    for name in (*known, *waiting.strangers(store, known)):
        for box, _ in store.run(destinations.boxes(name, limit=-1)):
            for event in store.run(stored.events(name, box)):
                if event.control_id == id:
                    return event
    typer.echo(
        f"no message {printable(id)} waits; see `broker dead show {printable(id)}`", err=True
    )
    raise typer.Exit(NEGATIVE)
