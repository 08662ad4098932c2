"""The verbs of `broker dead`, and which of them is for a message, which for a dead letter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import auditing, log, replay
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.dead import sending_again
from broker.cli.dead import showing as showing_dead
from broker.cli.dead.undelivered import OVERTAKEN, undelivered
from broker.cli.dead.undelivered import grouped as refusals
from broker.cli.letters import Group, Letter, grouped, in_turn, letters
from broker.cli.opening import opened
from broker.cli.outline import moment, printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.rows import print_rows

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.settings import Settings
    from broker.store.call import Call
    from broker.store.dead import Letter as Undelivered
    from broker.store.executors import Store

COUNT_NOT = {"superseded", OVERTAKEN}
app = typer.Typer(
    invoke_without_command=True, help="List what could not be applied or delivered, by cause."
)

Which = Annotated[
    list[str] | None,
    typer.Argument(metavar="[GROUP|ID]...", help="As `broker dead` and `broker log` list them."),
]
To = Annotated[
    str, typer.Option("--to", metavar="DESTINATION", help="What went there and is not overtaken.")
]


def register(program: typer.Typer) -> None:
    """Add `dead` to the program."""
    app.callback()(dead)
    app.command("list")(list_groups)
    app.command("show")(show)
    app.command("replay")(replay_letters)
    app.command("drop")(drop)
    program.add_typer(app, name="dead")


def dead(context: typer.Context, as_json: AsJson = False, config: ConfigOption = None) -> None:
    """List what could not be applied or delivered, by cause; 1 when there is any."""
    if not context.invoked_subcommand:
        list_groups(as_json=as_json, config=config)


def list_groups(as_json: AsJson = False, config: ConfigOption = None) -> None:
    """List what could not be applied or delivered, by cause, without patient data; 1 if any is.

    Messages that wait for a code are there as well, and what a RIS or another SCP refused of ours.
    What is superseded was followed by another message of its sender about the same order, what is
    overtaken by a later one of ours: they count not.
    """
    settings = load_settings(config)
    with opened(settings) as store:
        found = [
            *(_facts(group) for group in grouped(letters(store))),
            *_waiting(store),
            *(group.facts() for group in refusals(undelivered(store))),
        ]
    if as_json:
        print_json([_timed(each, settings.timezone) for each in found])
    elif found:
        print_rows([_row(each, settings.timezone) for each in found])
    else:
        typer.echo("nothing is dead", err=True)
    if any(each["kind"] not in COUNT_NOT for each in found):
        raise typer.Exit(NEGATIVE)


def _facts(group: Group) -> dict[str, Any]:
    newest = group.letters[-1]
    return {
        "group": group.id,
        "kind": "superseded" if group.superseded else "refused",
        "messages": len(group.letters),
        "code": group.code,
        "location": group.location,
        "cause": group.fact,
        "senders": sorted({each.message.source for each in group.letters}),
        "mappings": sorted(
            {each.message.mapping for each in group.letters if each.message.mapping}
        ),
        "first": min(_milliseconds(each.listed.first) for each in group.letters),
        "last": max(each.entry.stored_ms for each in group.letters),
        "sample": newest.entry.id,
        "holds": 0,
    }


def _waiting(store: Store) -> Iterator[dict[str, Any]]:
    """Messages that were accepted and wait for a code, by table and key."""
    from broker.store import held

    digests = store.run(held.digests())
    by_code: dict[tuple[str, str], list[held.Waiting]] = {}
    for at in range(0, len(digests), held.SLICE):
        for message in store.run(held.read(digests[at : at + held.SLICE])):
            for each in message.unmapped:
                by_code.setdefault((each.table, each.key), []).append(message)
    for (table, key), messages in by_code.items():
        times = [int(each.received * 1000) for each in messages]
        yield {
            "group": "",
            "kind": "held",
            "messages": len(messages),
            "code": "",
            "location": "",
            "cause": f"table '{table}' has no '{key[:80]}' - broker unmapped assign '{key[:80]}'",
            "senders": sorted({each.source for each in messages}),
            "mappings": sorted({each.mapping for each in messages}),
            "first": min(times),
            "last": max(times),
            "sample": messages[-1].control_id,
            "holds": 0,
        }


def _row(facts: dict[str, Any], zone: ZoneInfo) -> dict[str, str]:
    shown = {**facts, "first": moment(facts["first"] / 1000, zone)}
    shown |= {"last": moment(facts["last"] / 1000, zone), "senders": ", ".join(facts["senders"])}
    return {name: str(shown[name]) for name in COLUMNS}


COLUMNS = (
    *("group", "kind", "messages", "code", "location", "cause"),
    *("senders", "first", "last", "sample", "holds"),
)


def _timed(facts: dict[str, Any], zone: ZoneInfo) -> dict[str, Any]:
    return {**facts, **{name: log.iso(facts[name], zone) for name in ("first", "last")}}


def _milliseconds(stream_id: str) -> int:
    from broker.store import recall

    return recall.place(stream_id)[0]


def show(
    which: Annotated[str, typer.Argument(metavar="GROUP|ID")],
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Show the messages of a group as they are listed, or one message with patient data."""
    settings = load_settings(config)
    with opened(settings) as store:
        group = next((each for each in grouped(letters(store)) if each.id == which), None)
        ours = _ours(undelivered(store), which)
        if ours and which == ours[0].id:
            auditing.of_keys(settings, store, "R", "dead show", [ours[0].box])
    if ours:
        showing_dead.show(ours, settings.timezone, whole=which == ours[0].id, as_json=as_json)
    elif group is None:
        log.show(which, as_json=as_json, config=config)
    elif as_json:
        print_json([log.plain_row(each.entry, settings.timezone) for each in group.letters])
    else:
        print_rows([log.row(each.entry, settings.timezone) for each in group.letters])


def replay_letters(
    which: Which = None,
    to: To = "",
    remap: Annotated[
        bool,
        typer.Option("--remap", help="Make what goes out anew, by the mapping in force."),
    ] = False,
    dry_run: replay.DryRun = False,
    force: replay.Force = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Judge what came in once more, or send what went out (named, or --to); 1 if any stays dead.

    Without a name all that came in. What is superseded or overtaken is taken only where its group
    or ID is named. What is sent again is the same, unless it is made anew with --remap.
    """
    settings = load_settings(config)
    inbound, ours = _meant(settings, which or (), to)
    if ours and inbound:
        raise typer.BadParameter("name what came in and what went out apart")
    if ours or to:
        with opened(settings) as store:
            sending_again.replay(
                store, settings, ours, remap=remap, dry_run=dry_run, as_json=as_json
            )
        return
    chosen = [each.stream_id for each in inbound if which or not each.superseded]
    replay.run(settings, chosen, dry_run=dry_run, force=force, as_json=as_json)


def drop(
    which: Which = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    to: To = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; it stays in the archive.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many.")] = False,
    config: ConfigOption = None,
) -> None:
    """Take messages off the list: nobody wants them applied or delivered.

    What came in stays in `broker log`; what was held after one that went out may go now.
    """
    if sum((bool(which), everything, bool(to))) != 1:
        raise typer.BadParameter("say which: groups, IDs, --to DESTINATION, or --all")
    settings = load_settings(config)
    inbound, ours = _meant(settings, which or (), "*" if everything else to)
    if not dry_run:
        with opened(settings) as store:
            for each in inbound:
                store.run(refused_forget(each))
            sending_again.drop(store, ours, reason)
            boxes = [each.box for each in ours]
            auditing.of_keys(settings, store, "U", f"dead drop: {reason}", boxes)
            if inbound:
                told = f"dead drop of {len(inbound)} messages: {reason}"
                auditing.of_messages(settings, "D", told)
    count = len(inbound) + len(ours)
    typer.echo(f"{count} {'would be dropped' if dry_run else 'dropped'}")


def refused_forget(letter: Letter) -> Call[int]:
    """Take one that came in off the list."""
    from broker.store import refused

    return refused.forget(letter.listed.digest)


def _meant(
    settings: Settings, which: Sequence[str], to: str
) -> tuple[list[Letter], list[Undelivered]]:
    """What came in and what went out of those named; exit 1 when a name is unknown.

    Without names all that came in, or what went `to` a destination and is not overtaken; "*" is
    all of both.
    """
    from broker.store import recall

    with opened(settings) as store:
        came, went = letters(store), undelivered(store)
    if not which:
        if to and to != "*" and to not in {each.name for each in settings.destinations}:
            typer.echo(f"'{printable(to)}' is no destination of the configuration", err=True)
            raise typer.Exit(NEGATIVE)
        mine = [each for each in went if to == "*" or (to == each.to and not each.overtaken)]
        return in_turn(came) if to in ("", "*") else [], mine
    groups = {group.id: group.letters for group in grouped(came)}
    inbound: dict[str, Letter] = {}
    ours: dict[str, Undelivered] = {}
    for name in which:
        wanted = recall.stream_id(name)
        meant = groups.get(name) or [each for each in came if wanted in each.names]
        sent = _ours(went, name)
        if not (meant or sent):
            typer.echo(f"{printable(name)} is no group and no message of `broker dead`", err=True)
            raise typer.Exit(NEGATIVE)
        inbound |= {each.stream_id: each for each in meant}
        ours |= {each.id: each for each in sent if to in ("", each.to)}
    return in_turn(inbound.values()), list(ours.values())


def _ours(found: Sequence[Undelivered], name: str) -> list[Undelivered]:
    """Those of a group or with an ID, among what went out."""
    group = next((each.letters for each in refusals(found) if each.id == name), ())
    return [*group] or [each for each in found if each.id == name]
