"""`broker replay`: messages of the archive judged once more, by the mappings in force."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from broker.cli import auditing, selecting
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.map.deploy import refused
from broker.cli.opening import opened, store_url
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.spreading import spread

if TYPE_CHECKING:
    from broker.orders.replaying import Replayed
    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.recall import Selection

FIRST = "0-0"
NEVER = frozenset({"repeat", "ignored", "by hand"})
UNRESOLVED = frozenset({"refused", "in part", "held", "unsound"})

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Write nothing; show what would change, patient data too.")
]
Force = Annotated[
    bool, typer.Option("--force", help="Apply what is older than what is known, too.")
]


def register(program: typer.Typer) -> None:
    """Add `replay` to the program."""
    program.command("replay")(spread(replay))


def replay(
    messages: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As `broker log` lists them.")
    ] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Those of `broker dead`.")] = False,
    after: Annotated[str, typer.Option(metavar="ID", help="Only what came after this one.")] = "",
    dry_run: DryRun = False,
    force: Force = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
    *,
    meant: selecting.Meant,
) -> None:
    """Judge messages once more, oldest first, by the mappings in force; 1 if one is not applied.

    Nothing is sent to their senders. What is older than what is known changes nothing, unless
    --force; the same replay twice is as good as once.
    """
    settings = load_settings(config)
    selection: Selection = meant.selection(settings.timezone)
    named = [selecting.stream_id(each) for each in messages or ()]
    start = selecting.stream_id(after) if after else FIRST
    with opened(settings) as store:
        chosen = _chosen(store, selection, named, start, dead=dead)
    run(settings, chosen, dry_run=dry_run, force=force, as_json=as_json)


def _chosen(
    store: Store, meant: Selection, named: list[str], after: str, *, dead: bool
) -> list[str]:
    """The stream IDs, oldest first; a usage error when nothing at all narrows the choice."""
    from broker.store import recall
    from broker.store.recall import Selection
    from broker.store.recall import place as place_of

    if not (named or dead or after != FIRST or meant != Selection()):
        raise typer.BadParameter("say which: IDs, --dead, --since 2h, or another filter")
    if named:
        kept = {entry.stream_id for entry in store.run(recall.named(named))}
        if gone := [each for each in named if each not in kept]:
            shown = ", ".join(recall.Entry(each, None).id for each in gone)
            typer.echo(f"no message {shown} is in the archive", err=True)
            raise typer.Exit(NEGATIVE)
        chosen = named
    elif dead:
        from broker.cli.letters import in_turn, letters

        alive = (each for each in letters(store) if not each.superseded)
        found = in_turn(each for each in alive if meant.means(each.entry))
        return [each.stream_id for each in found if place_of(each.stream_id) > place_of(after)]
    else:
        chosen = _came(store, meant, after)
    return [each for each in sorted(set(chosen), key=place_of) if place_of(each) > place_of(after)]


def _came(store: Store, meant: Selection, after: str) -> list[str]:
    """What came over the wire and was judged, each once: as it came for the last time."""
    from broker.store import archive, recall
    from broker.store.recall import place

    last: dict[str, str] = {}
    for entry in recall.newest_first(store, meant):
        if place(entry.stream_id) <= place(after):
            break
        message = entry.message
        if message and not message.replay_of and message.outcome not in NEVER:
            last.setdefault(archive.digest_of(message), entry.stream_id)
    return list(last.values())


def run(
    settings: Settings, stream_ids: Sequence[str], *, dry_run: bool, force: bool, as_json: bool
) -> None:
    """Replay messages and print each outcome; exit 1 if none is, or one is not, applied.

    When broken off 69 or 75.
    """
    from broker.mapping.text.nodes import Complaints

    done: list[Replayed] = []
    with opened(settings), _progress(len(stream_ids)) as watched:
        try:
            asyncio.run(_replayed(settings, stream_ids, done, watched, dry_run, force, as_json))
        except Complaints as wrong:
            refused(wrong, as_json=as_json)
            raise typer.Exit(NEGATIVE) from None
        except BaseException:
            if done:
                typer.echo(
                    f"broken off: go on with --after {_typed(done[-1].message.entry)}", err=True
                )
            raise
    if not dry_run:
        changed = [key for each in done if each.outcome == "applied" for key in each.orders]
        with opened(settings) as store:
            auditing.of_keys(settings, store, "U", "replay", changed)
    if as_json:
        print_json([_plain(each) for each in done])
    else:
        typer.echo(_sum(done, dry_run=dry_run), err=True)
    if not done or any(each.outcome in UNRESOLVED for each in done):
        raise typer.Exit(NEGATIVE)


async def _replayed(
    settings: Settings,
    stream_ids: Sequence[str],
    done: list[Replayed],
    watched: _Watched,
    dry_run: bool,
    force: bool,
    as_json: bool,
) -> None:
    from broker.cli import logs
    from broker.orders import replaying

    logs.configure(settings.log.model_copy(update={"level": "critical"}))  # outcomes are printed
    url = store_url(settings)
    async for each in replaying.replay(url, settings, stream_ids, force=force, rehearse=dry_run):
        done.append(each)
        for line in lines(each, would=dry_run) if not as_json else ():
            watched.say(printable(line))
        watched.advance()


class _Watched(NamedTuple):
    """How lines are printed while a bar may be below them, and how the bar moves on."""

    say: Callable[[str], None]
    advance: Callable[[], None]


@contextmanager
def _progress(total: int) -> Iterator[_Watched]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty() or not total:
        yield _Watched(typer.echo, lambda: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
    from rich.text import Text

    columns = ("replaying", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)

        def say(line: str) -> None:
            if sys.stdout.isatty():  # above the bar
                bar.console.print(Text(line), soft_wrap=True)
            else:
                typer.echo(line)

        yield _Watched(say, lambda: bar.advance(task))


def lines(done: Replayed, *, would: bool = False) -> Iterator[str]:
    """What became of one message, and what would change, for a person."""
    orders = f" {', '.join(done.orders)}" if done.orders else ""
    cause = f": {done.cause}" if done.cause else ""
    name = f"{_typed(done.message.entry)}  " if done.message.of else ""
    waits = "; it still waits" if done.outcome == "refused" and not done.message.of else ""
    sent = f"{done.message.source} {done.message.control_id}"
    outcome = f"would be {done.outcome}" if would else done.outcome
    yield f"{name}{outcome}{orders}  {sent}{cause}{waits}"
    record = ""
    for each in done.differences:
        if each.record != record:
            record = each.record
            yield f"  {record}"
        yield f"    {each.what}: {each.before or '—'} → {each.after or '—'}"


def _sum(done: Sequence[Replayed], *, dry_run: bool) -> str:
    if not done:
        return "no such message"
    counts = Counter(each.outcome for each in done)
    told = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    changing = sum(bool(each.differences) for each in done)
    return f"nothing was written: {told}; {changing} would change something" if dry_run else told


def _typed(stream_id: str) -> str:
    from broker.store.recall import Entry

    return Entry(stream_id, None).id


def _plain(done: Replayed) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "id": _typed(done.message.entry),
        **outcome_of(done),
        "differences": [asdict(each) for each in done.differences],
    }


def outcome_of(done: Replayed) -> dict[str, Any]:
    """What became of a message that was judged once more."""
    return {
        "source": done.message.source,
        "control_id": done.message.control_id,
        "received": done.message.received,
        "outcome": done.outcome,
        "cause": done.cause,
        "orders": list(done.orders),
    }
