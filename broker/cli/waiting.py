"""What waits for each destination, and why: what `broker outbox list` tells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from broker.cli import log
from broker.cli.outline import printable
from broker.cli.rows import print_rows

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.store.executors import Store

FOREVER = float("inf")


def strangers(store: Store, known: list[str]) -> list[str]:
    """Destinations that the configuration names no more, and for which something waits."""
    from broker.store import destinations as ways

    cursor, found = store.run(ways.some_with_messages(0))
    while cursor:
        cursor, more = store.run(ways.some_with_messages(cursor))
        found += more
    return sorted({*found} - {*known})


def destinations(
    store: Store, names: list[str], limit: int, zone: ZoneInfo
) -> Iterator[dict[str, Any]]:
    """What waits for each destination, its orders up to a limit, without patient data."""
    from broker.store import dead
    from broker.store import destinations as ways
    from broker.store import outbox as stored

    paused, away = store.run(ways.paused()), store.run(ways.away())
    for name in names:
        pause, gone = paused.get(name), away.get(name)
        yield {
            "to": name,
            "orders": store.run(stored.pending(name)),
            "held": store.run(dead.holding(name)),
            "paused": (
                {"since": iso(pause.at, zone), "by": pause.by, "reason": pause.reason}
                if pause
                else None
            ),
            "away": {"since": iso(gone.since, zone), "why": gone.why} if gone else None,
            "waiting": list(_waiting(store, name, limit, zone)),
        }


def _waiting(store: Store, name: str, limit: int, zone: ZoneInfo) -> Iterator[dict[str, Any]]:
    from broker.store import destinations as ways
    from broker.store import outbox as stored

    troubles = store.run(ways.troubles(name))
    for box, due in store.run(ways.boxes(name, limit=limit)):
        events = store.run(stored.events(name, box))
        trouble = troubles.get(box)
        ours = (
            trouble if trouble and events and trouble.control_id == events[0].control_id else None
        )
        taken = store.run(ways.is_taken(name, box))
        yield {
            "order": box,
            "messages": [
                {
                    "id": each.control_id,
                    "status": each.note,
                    "arose": iso(each.created, zone),
                    "mapping": each.mapping,
                }
                for each in events
            ],
            "attempts": (ours.attempts if ours else 0) + taken,
            "in_flight": taken,
            "cause": "waits for a person: see `broker dead`"
            if due == FOREVER
            else ours.cause
            if ours
            else "",
            "next": None if due == FOREVER else iso(due, zone),
        }


def show(found: dict[str, Any]) -> None:
    """Print one destination for a person."""
    typer.echo(printable(f"{found['to']}: {found['orders']} orders wait"))
    if not found["configured"]:
        typer.echo("  ! the configuration names it no more: name it, or drop what waits")
    if pause := found["paused"]:
        reason = f": {pause['reason']}" if pause["reason"] else ""
        typer.echo(printable(f"  ! paused since {pause['since']} by {pause['by']}{reason}"))
    if away := found["away"]:
        typer.echo(printable(f"  ! cannot be reached since {away['since']}: {away['why']}"))
    if found["held"]:
        typer.echo(f"  ! {found['held']} wait for a person: see `broker dead`")
    rows = [
        {
            "order": each["order"],
            "messages": str(len(each["messages"])),
            "first": each["messages"][0]["id"] if each["messages"] else "",
            "status": ", ".join(m["status"] for m in each["messages"][:5]),
            "tries": str(each["attempts"]),
            "next": "on its way" if each["in_flight"] else each["next"] or "",
            "cause": each["cause"],
        }
        for each in found["waiting"]
    ]
    if rows:
        print_rows(rows)


def iso(epoch_s: float, zone: ZoneInfo) -> str:
    """Give a time (epoch s) as ISO 8601."""
    return log.iso(int(epoch_s * 1000), zone)
