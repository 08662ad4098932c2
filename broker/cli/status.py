"""`broker status`: how the running broker is, hop by hop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened, store_url
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.console.health import Health
    from broker.settings import Settings


PEERS = 20
INVISIBLE, UNENDED = "broker_updates_invisible_steps", "broker_updates_unended_steps"
HOW = ": see `broker unmapped`"


def register(program: typer.Typer) -> None:
    """Add `status` to the program."""
    program.command("status")(status)


Here = Annotated[
    str,
    typer.Option(
        "--here", metavar="DOOR", help="Only whether its processes on this machine are heard."
    ),
]


def status(here: Here = "", as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Show the mappings in force, the doors, and what waits; 1 when orders cannot be taken.

    With --here, which is for health checks, it is 1 where a process of that door was not heard.
    """
    settings = load_settings(config)
    if here:
        _judge_here(settings, here, as_json=as_json)
        return
    health = _looked(settings)
    report = {**_report(health), **_redis(settings)}
    if as_json:
        print_json(report)
    else:
        from broker.cli.outline import printable

        for line in _lines(report, settings.timezone):
            typer.echo("\n".join(map(printable, line.split("\n"))))
    if health.refusal:
        raise typer.Exit(NEGATIVE)


def _judge_here(settings: Settings, role: str, *, as_json: bool) -> None:
    """Say of each process of a door on this machine whether it was heard; 1 where one was not."""
    from broker.console.health import SILENT_S
    from broker.store import metrics
    from broker.supervising.doors import instances
    from broker.supervising.service_manager import PUBLISHING

    if role not in PUBLISHING:
        raise typer.BadParameter(f"it is {', '.join(PUBLISHING)}", param_hint="--here")
    with opened(settings, of_any_version=True) as store:
        published = store.run(metrics.published())
    fresh = metrics.fresh(published, now=time.time(), within_s=SILENT_S)
    names = [metrics.own_name(role, number) for number in range(instances(settings, role))]
    if as_json:
        print_json({name: name in fresh for name in names})
    for name in names if not as_json else ():
        said = "heard" if name in fresh else f"! not heard for {SILENT_S:g} s: see its log"
        typer.echo(f"door      {name}: {said}")
    if not fresh.keys() >= set(names):
        raise typer.Exit(NEGATIVE)


def _looked(settings: Settings) -> Health:
    from broker.store import reads

    with opened(settings, of_any_version=True) as store:
        store.run(reads.ping())  # away is another finding than unwell
        return health_of(settings)


def health_of(settings: Settings) -> Health:
    """Look at everything that the store tells; one that is away is a finding."""
    from broker.console.health import look
    from broker.store.executors import AsyncStore

    async def looked() -> Health:
        store = AsyncStore(store_url(settings))
        try:
            return await look(store, [each.name for each in settings.destinations], now=time.time())
        finally:
            await store.close()

    return asyncio.run(looked())


def _redis(settings: Settings) -> dict[str, Any]:
    """Who is master and how many replicas follow; nothing where Redis is one server."""
    from dataclasses import asdict

    from broker.store import external
    from broker.store.stamping import ServerProblem

    if settings.redis.is_ours:
        return {}
    try:
        standing = external.standing(settings.redis.full_url)
    except ServerProblem as problem:  # gone since we asked it
        unknown = dict.fromkeys(("replicas", "behind", "silent_s", "agree"), 0)
        named = settings.redis.sentinel
        needed, sentinels = (named.replicas, len(named.hosts)) if named else (0, 0)
        troubles = {"short": True, "troubles": (f"{problem}",)}
        return {
            "redis": {"master": "", "needed": needed, "sentinels": sentinels, **unknown, **troubles}
        }
    return {"redis": asdict(standing)} if standing else {}


def _report(health: Health) -> dict[str, Any]:
    """What /readyz says, why the last reload failed, and how each peer fares."""
    from broker.console import faring

    failed = health.failed_reload
    why = {"at": failed.at, "by": failed.by, "reason": failed.reason} if failed else None
    report: dict[str, Any] = health.report()
    return {
        **report,
        "mappings": {**report["mappings"], "failed_reload": why},
        "worklist": {
            **report["worklist"],
            "invisible": told(health, INVISIBLE),
            "unended": told(health, UNENDED),
        },
        "senders": [each._asdict() for each in faring.senders(health.doors.values())],
        "aes": [each._asdict() for each in faring.aes(health.doors.values())],
    }


def told(health: Health, gauge: str) -> int:
    """How many steps nobody gets, or ends, as the door that looks for them has told last."""
    return sum(
        int(sample.value)
        for door in health.doors.values()
        for family in door.families
        if family.name == gauge
        for sample in family.samples
    )


def _lines(report: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    yield from _of_store(report)
    yield from _of_mappings(report["mappings"], zone)
    yield from _of_orders(report["orders"])
    yield from _of_worklist(report)
    yield from _of_updates(report["updates"], zone)
    yield from _of_peers(report, zone)
    yield from _of_doors(report["doors"])


def _of_store(report: dict[str, Any]) -> Iterator[str]:
    refusal = report["store"]["why"]
    yield f"store     {f'! takes no writes: {refusal}' if refusal else 'takes writes'}"
    if redis := report.get("redis"):
        short = "; ! too few, so nothing is acknowledged" if redis["short"] else ""
        yield f"redis     master {redis['master']}, followed by {redis['replicas']}{short}"
        yield f"          the last of them {redis['behind']} bytes and {redis['silent_s']} s behind"
        yield f"          {redis['agree']} of {redis['sentinels']} Sentinels would carry a failover"
        yield from (f"          ! {trouble}" for trouble in redis["troubles"])


def _of_mappings(mappings: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    from broker.cli.outline import moment

    if mappings["version"]:
        since = moment(mappings["since"], zone)
        yield f"mappings  version {mappings['version']} since {since} by {mappings['by']}"
    else:
        yield "mappings  none in force yet"
    if failed := mappings["failed_reload"]:
        at = moment(failed["at"], zone)
        yield f"          ! {failed['by']} failed at {at}, the former ones stay:"
        yield from (f"            {line}" for line in failed["reason"].split("\n"))


def _of_orders(orders: dict[str, Any]) -> Iterator[str]:
    held = orders["held"]
    yield f"orders    {'! ' if held else ''}{held} wait for a code{HOW if held else ''}"
    refused = orders["refused"]
    yield f"          {refused} could not be applied{': see `broker dead`' if refused else ''}"


def _of_worklist(report: dict[str, Any]) -> Iterator[str]:
    yield f"worklist  {report['worklist']['open_steps']} open steps"
    if lost := report["worklist"]["invisible"]:
        yield f"          ! {lost} that no known AE can get: see `broker list --invisible`"
    if begun := report["worklist"]["unended"]:
        yield f"          ! {begun} began long ago and have no end: see `broker list --unended`"
    if odd := report["mpps"]["exceptions"]:
        yield f"          ! {odd} exams to look at: see `broker mpps list`"


def _of_updates(updates: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    from broker.cli.outline import moment

    for ris, pending in (updates["pending"] or {}).items():
        yield f"updates   {ris}: {pending} orders wait"
        if since := updates["paused"].get(ris):
            at = moment(since, zone)
            yield f"          ! {ris} is paused since {at}: see `broker outbox`"
        if since := updates["away"].get(ris):
            at = moment(since, zone)
            yield f"          ! {ris} cannot be reached since {at}: see `broker outbox`"
        if stopped := updates["stopped"].get(ris):
            yield f"          ! {ris}: {stopped} orders wait for a person: see `broker dead`"
    dead = updates["dead_letters"]
    yield f"          {dead} dead letters{': see `broker dead`' if dead else ''}"


def _of_peers(report: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    from broker.cli.outline import moment

    for kind, peers, asked in (
        ("sender", report["senders"], "messages"),
        ("ae", report["aes"], "queries"),
    ):
        for each in peers[:PEERS]:
            within = f"95 % within {each['within']:g} s" if each["within"] else "some wait long"
            empty = f", {each['empty']} of them empty" if each["empty"] else ""
            errors = f", ! {each['errors']} refused" if each["errors"] else ""
            said = f"{each['answers']} {asked}{empty}{errors}, {within}"
            yield f"{kind:10}{each['peer']}: last {moment(each['last'], zone)}, {said}"
        if (more := len(peers) - PEERS) > 0:
            yield f"{kind:10}and {more} more: see `broker status --json`"


def _of_doors(doors: dict[str, Any]) -> Iterator[str]:
    for name, door in doors.items():
        silent = f"silent {door['age_s']:g} s"
        heard = f"heard {door['age_s']:g} s ago" if door["heard"] else f"! {silent}"
        version = f", mappings {door['mappings']}" if "mappings" in door else ""
        yield f"door      {name}: {heard}{version}"
