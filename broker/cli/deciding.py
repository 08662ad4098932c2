"""What a person decides of orders: found, carried out, printed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

import typer

from broker.cli import auditing
from broker.cli.map.deploy import refused
from broker.cli.opening import store_url
from broker.cli.outline import printable
from broker.cli.printing import NEGATIVE, print_json

if TYPE_CHECKING:
    from broker.orders.by_hand import Act, Done
    from broker.orders.intake import Intake
    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.outbox import Event
    from broker.worklist.records import Order


ACTIONS: Final = {"add": "C", "cancel": "D"}
"""What a verb is to an auditor; every other one is an update."""


def order_of(store: Store, accession: str) -> Order:
    """The one order of this number; exit 1 where there is none, or several."""
    from broker.store import reads
    from broker.worklist.finding import Identifier, Wanted

    keys = (accession,) if "|" in accession else ()
    numbers = () if keys else (Identifier("accession", accession),)
    known = store.run(reads.lookup(Wanted(keys, (), numbers))).known
    orders = list(known.orders.values())
    if len(orders) != 1:
        several = ", ".join(sorted(order.key for order in orders))
        problem = f"say which: {several}" if orders else f"no order {accession}"
        typer.echo(printable(problem), err=True)
        raise typer.Exit(NEGATIVE)
    return orders[0]


def issuer_of(store: Store) -> str:
    """The issuer that all open orders have: that of the only RIS."""
    from broker.store import keys
    from broker.store.call import Call
    from broker.store.reads import stood
    from broker.worklist.identity import parted

    some = Call(("ZRANGE", keys.starts("start"), 0, 999), list)
    issuers = sorted({parted(stood(member).order)[0] for member in store.run(some)})
    if len(issuers) != 1:
        which = f"one of {', '.join(issuers)}" if issuers else "the issuer of the RIS's numbers"
        raise typer.BadParameter(f"say {which}", param_hint="--issuer")
    return issuers[0]


def carry_out(
    settings: Settings,
    act: Act,
    do: Callable[[Intake], Awaitable[Done]],
    *,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Do it, and print what became of it; exit 1 where it cannot be done or changes nothing."""
    from broker.hl7.refusal import Refusal
    from broker.mapping.text.nodes import Complaints
    from broker.worklist.downtime import Impossible
    from broker.worklist.refusals import Reason, Refused

    try:
        done = asyncio.run(_done(settings, do))
    except Refused as problem:
        remedy = "; say it by its option, or --set" if problem.reason is Reason.INCOMPLETE else ""
        typer.echo(printable(f"{problem.fact}{remedy}"), err=True)
        raise typer.Exit(NEGATIVE) from None
    except (Impossible, Refusal) as problem:
        typer.echo(printable(f"{problem}"), err=True)
        raise typer.Exit(NEGATIVE) from None
    except Complaints as wrong:
        refused(wrong, as_json=as_json)
        raise typer.Exit(NEGATIVE) from None
    if not dry_run:
        action, said = ACTIONS.get(act.verb, "U"), f"{act.verb}: {act.reason}"
        auditing.of_orders(settings, action, said, done.orders, by=act.operator)
    _print(done, as_json=as_json, would=dry_run)
    if not done.orders:
        raise typer.Exit(NEGATIVE)


async def _done(settings: Settings, do: Callable[[Intake], Awaitable[Done]]) -> Done:
    from broker.cli import logs
    from broker.orders.door import intake_of
    from broker.orders.metrics import OrdersMetrics
    from broker.rollout.current import Current
    from broker.store.executors import AsyncStore

    logs.configure(settings.log.model_copy(update={"level": "critical"}))  # outcomes are printed
    store = AsyncStore(store_url(settings))
    try:
        current = await Current.opened(store, settings)
        return await do(intake_of(settings, store, current, OrdersMetrics()))
    finally:
        await store.close()


def print_events(events: Iterable[Event], *, would: bool) -> None:
    """Say who is told what; of what only would be told the whole message."""
    for event in events:
        told = "would be told" if would else "is told"
        typer.echo(printable(f"{event.ris} {told}: {event.note}"))
        for line in event.payload.decode().rstrip("\r").split("\r") if would else ():
            typer.echo(printable(f"  {line}"))


def messages_of(events: Iterable[Event]) -> list[dict[str, str]]:
    """The same as JSON."""
    return [
        {"ris": each.ris, "status": each.note, "message": each.payload.decode()} for each in events
    ]


def _print(done: Done, *, as_json: bool, would: bool) -> None:
    from broker.orders.rehearsing import differences

    changes = list(differences(done.changes))
    if as_json:
        print_json(
            {
                "orders": [order.key for order in done.orders],
                "changes": [
                    {"record": d.record, "what": d.what, "before": d.before, "after": d.after}
                    for d in changes
                ],
                "messages": messages_of(done.events),
                "notes": list(done.notes),
            }
        )
        return
    for order in done.orders:
        statuses = ", ".join(step.status.value for _, step in order.steps())
        typer.echo(printable(f"{order.key} {'would be' if would else 'is'} {statuses}"))
    for each in changes if would else ():
        typer.echo(printable(f"  {each.record} {each.what}: '{each.before}' -> '{each.after}'"))
    print_events(done.events, would=would)
    if not done.orders:
        noted = "; ".join(done.notes)
        typer.echo(f"nothing {'would change' if would else 'is changed'}: {noted}", err=True)
