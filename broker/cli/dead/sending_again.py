"""Dead letters to a destination: sent once more, made anew by the mapping in force, or dropped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from broker.cli import auditing, by_hand
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, print_json

if TYPE_CHECKING:
    from broker.rollout.current import Mappings
    from broker.settings import Settings
    from broker.store.dead import Letter
    from broker.store.executors import Store
    from broker.store.outbox import Event

QUEUED, CANNOT, GONE = "queued", "cannot be sent", "gone meanwhile"


class Again(NamedTuple):
    """A letter with the message that goes in its place, None where there can be none: `why`."""

    letter: Letter
    event: Event | None
    why: str = ""

    def plain(self, outcome: str, *, whole: bool) -> dict[str, Any]:
        """Tell a program; with the whole message where it was only rehearsed."""
        facts = {
            "id": self.letter.id,
            "to": self.letter.to,
            "order": self.letter.box,
            "outcome": outcome,
            "why": self.why,
            "control_id": self.event.control_id if self.event else "",
            "mapping": self.event.mapping if self.event else "",
        }
        if whole and self.event and self.event.kind == "hl7":
            facts["message"] = self.event.payload.decode("utf-8", "backslashreplace")
        return facts


def replay(
    store: Store,
    settings: Settings,
    letters: Sequence[Letter],
    *,
    remap: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Put letters back in front of what waits, the oldest first; 1 when one cannot, or none is."""
    mappings = _in_force(store, settings) if remap else None
    done: list[tuple[Again, str]] = []
    with _bar(len(letters)) as moved:
        for place, all_of_it in _by_mailbox(letters):
            again = [_again(each, settings, mappings) for each in all_of_it]
            done += _put_back(store, place, again, dry_run=dry_run)
            moved(len(again))
    queued = [each.letter for each, outcome in done if outcome == QUEUED]
    if queued and not dry_run:
        verb = "outbox remap" if remap else "outbox replay"
        by_hand.note(store, verb, _ids(queued), "", _boxes(queued))
    reading = dry_run and (remap or as_json)
    if (queued and not dry_run) or reading:
        told = ("R", "dead replay, rehearsed") if dry_run else ("U", "dead replay")
        boxes = (each.box for each in (letters if dry_run else queued))
        auditing.of_keys(settings, store, *told, boxes)
    _tell(done, dry_run=dry_run, as_json=as_json)
    if not done or any(outcome == CANNOT for _, outcome in done):
        raise typer.Exit(NEGATIVE)


def drop(store: Store, letters: Sequence[Letter], reason: str) -> int:
    """Remove letters for good; what was held after them may go. Gives how many."""
    from broker.store import dead

    gone = 0
    for (to, box), each in _by_mailbox(letters):
        ids = [letter.id for letter in each]
        gone += store.run(dead.drop(to, box, ids, now_ms=int(time.time() * 1000)))
    if letters:
        by_hand.note(store, "outbox drop", _ids(letters), reason, _boxes(letters))
    return gone


def _again(letter: Letter, settings: Settings, mappings: Mappings | None) -> Again:
    from broker.rollout.announcing import rendered_again

    if letter.event is None:
        return Again(letter, None, "nobody can read it: drop it")
    if letter.to not in {each.name for each in settings.destinations}:
        return Again(letter, None, f"no destination '{letter.to}' is configured")
    if mappings is None or letter.event.kind != "hl7":
        return Again(letter, letter.event)
    ris = next(each for each in settings.ris if each.name == letter.to)
    anew = rendered_again(mappings, ris, letter.event, datetime.now(UTC))
    return Again(letter, anew, "" if anew else "an earlier version has kept only the message")


def _put_back(
    store: Store, place: tuple[str, str], again: Sequence[Again], *, dry_run: bool
) -> Iterator[tuple[Again, str]]:
    from broker.store import dead

    ready = [(each.letter.id, each.event) for each in again if each.event]
    count = len(ready)
    if ready and not dry_run:
        now_ms = int(time.time() * 1000)
        count = store.run(dead.replay(*place, ready, now_ms=now_ms))
    for each in again:
        yield each, (QUEUED if count == len(ready) else GONE) if each.event else CANNOT


def _by_mailbox(letters: Iterable[Letter]) -> Iterator[tuple[tuple[str, str], list[Letter]]]:
    from broker.cli.dead.undelivered import arose

    in_turn = sorted(letters, key=lambda each: (each.to, each.box, *arose(each)))
    for place, each in groupby(in_turn, key=lambda letter: (letter.to, letter.box)):
        yield place, list(each)


def _in_force(store: Store, settings: Settings) -> Mappings:
    from broker.rollout.past import mappings_of

    mappings = mappings_of(store, settings, "")
    if mappings is None:
        typer.echo("no mappings are in force that this program can read", err=True)
        raise typer.Exit(NEGATIVE)
    return mappings


def _boxes(letters: Iterable[Letter]) -> list[str]:
    return sorted({each.box for each in letters if each.event and each.event.kind == "hl7"})


def _ids(letters: Iterable[Letter]) -> str:
    return " ".join(each.id for each in letters)


def _tell(done: Sequence[tuple[Again, str]], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json([each.plain(outcome, whole=dry_run) for each, outcome in done])
        return
    for each, outcome in done:
        new = each.event.control_id if each.event else ""
        told = f"would be {outcome}" if dry_run and outcome == QUEUED else outcome
        named = f" as {new}" if new not in ("", each.letter.id) else ""
        why = f": {each.why}" if each.why else ""
        typer.echo(printable(f"{each.letter.id}  {told}{named}  {each.letter.to}{why}"))
        if dry_run and named and each.event:
            for line in each.event.payload.decode("utf-8", "replace").rstrip("\r").split("\r"):
                typer.echo(printable(f"  {line}"))
    if not done:
        typer.echo("no such message", err=True)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty() or not total:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("sending again", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
