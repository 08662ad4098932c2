"""`broker mpps`: exams that nobody has found a step of, or that do not end, put right by hand."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli import auditing
from broker.cli.by_hand import Deed, archived
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.deciding import messages_of, print_events
from broker.cli.map.deploy import refused
from broker.cli.opening import opened, store_url
from broker.cli.outline import outline_of_exam, printable
from broker.cli.printing import NEGATIVE, AsJson, print_json
from broker.cli.rows import Row, print_rows
from broker.cli.spreading import spread
from broker.worklist.changes import text_of

if TYPE_CHECKING:
    from broker.modality.by_hand import Decide, Done
    from broker.settings import Settings
    from broker.store.archive import Archived
    from broker.store.executors import Store
    from broker.worklist.finding import Known
    from broker.worklist.mpps import Performed

app = typer.Typer(no_args_is_help=True, help="Performed procedure steps (MPPS) to look at.")
Uid = Annotated[str, typer.Argument(metavar="MPPS", help="SOP Instance UID.")]


def register(program: typer.Typer) -> None:
    """Add `mpps` to the program."""
    app.callback()(mpps)
    for name, verb in (
        ("list", list_),
        ("show", show),
        ("link", spread(link)),
        ("unlink", spread(unlink)),
        ("close", spread(close)),
    ):
        app.command(name)(verb)
    program.add_typer(app, name="mpps")


def mpps() -> None:
    """Exams that nobody has found a step of, or that do not end, put right by hand."""


def list_(
    every: Annotated[bool, typer.Option("--all", help="Also those in order.")] = False,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """List the exams that a person should look at, oldest first, no patient data; 1 if none."""
    from broker.cli.looking import exams_by
    from broker.store import keys

    settings = load_settings(config)
    index = keys.MPPS_BY_TIME if every else keys.EXCEPTIONS
    with opened(settings) as store:
        exams = exams_by(store, index)
    rows = [_row(exam, settings) for exam in exams]
    if as_json:
        print_json(rows)
    elif rows:
        print_rows(rows)
    if not rows:
        raise typer.Exit(NEGATIVE)


def show(uid: Uid, as_json: AsJson = False, config: ConfigOption = None) -> None:
    """Show one exam with all that its scanner has said, patient data too."""
    from broker.worklist.mpps import SERIES, series_of

    settings = load_settings(config)
    with opened(settings) as store:
        exam = _exam(store, uid)
    auditing.of_exams(settings, "R", "mpps show", [uid])
    plain = exam.model_dump(mode="json")
    if as_json:
        print_json(plain)
        return
    series, objects = series_of(exam.attributes)
    said = {keyword: value for keyword, value in plain["attributes"].items() if keyword != SERIES}
    counted = f"{series} series with {objects} objects"
    shown = {**plain, "attributes": said, "counted": counted}
    for line in outline_of_exam(shown, settings.timezone):
        typer.echo(line)


def link(
    uid: Uid,
    accession: Annotated[str, typer.Argument(help="Of the order that the exam is of.")],
    step: Annotated[str, typer.Option(help="Step ID, where the order has several.")] = "",
    issuer: Annotated[str, typer.Option(help="Of the accession number, if several have it.")] = "",
    *,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Say of which order an exam is: its step starts or ends, and the RIS is told."""
    from broker.worklist import by_hand
    from broker.worklist.by_hand import Impossible

    settings = load_settings(config)

    def decide(exam: Performed, known: Known) -> by_hand.Corrected:
        orders = [
            order
            for order in known.orders.values()
            if order.accession == accession and issuer in ("", order.issuer)
        ]
        if len(orders) != 1:
            several = ", ".join(order.issuer for order in orders)
            raise Impossible(
                f"say which with --issuer: {several}" if orders else "no such accession number"
            )
        return by_hand.link(exam, orders[0], step, known, settings.mpps.rules, deed.by)

    _correct(settings, "link", uid, decide, deed, as_json, accession)


def unlink(
    uid: Uid,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Say that an exam is not of its order: the step is what it was, and the RIS is told (DC)."""
    from broker.worklist import by_hand

    _correct(load_settings(config), "unlink", uid, by_hand.unlink, deed, as_json)


def close(
    uid: Uid,
    ended: Annotated[
        str, typer.Option("--as", help="COMPLETED or DISCONTINUED, of one in progress.")
    ] = "",
    *,
    deed: Deed,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Take an exam off the list; one that still runs is ended, and the RIS told."""
    from broker.worklist import by_hand

    if ended not in ("", "COMPLETED", "DISCONTINUED"):
        raise typer.BadParameter("COMPLETED or DISCONTINUED", param_hint="--as")
    settings = load_settings(config)

    def decide(exam: Performed, known: Known) -> by_hand.Corrected:
        return by_hand.close(exam, ended, known, settings.mpps.rules)

    _correct(settings, "close", uid, decide, deed, as_json)


def _correct(
    settings: Settings,
    verb: str,
    uid: str,
    decide: Decide,
    deed: Deed,
    as_json: bool,
    accession: str = "",
) -> None:
    from broker.mapping.text.nodes import Complaints
    from broker.worklist.by_hand import Impossible

    deed.check()
    entry = None if deed.dry_run else archived(f"mpps {verb}", uid, deed.reason, by=deed.by)
    with opened(settings):
        try:
            done = asyncio.run(_corrected(settings, uid, decide, accession, entry))
        except Impossible as problem:
            typer.echo(printable(f"{uid}: {problem}"), err=True)
            raise typer.Exit(NEGATIVE) from None
        except Complaints as wrong:
            refused(wrong, as_json=as_json)
            raise typer.Exit(NEGATIVE) from None
    if not deed.dry_run:
        auditing.of_exams(settings, "U", f"mpps {verb}: {deed.reason}", [uid], by=deed.by)
    _print(done, as_json=as_json, would=deed.dry_run)


async def _corrected(
    settings: Settings, uid: str, decide: Decide, accession: str, entry: Archived | None
) -> Done:
    from broker.cli import logs
    from broker.modality.by_hand import correct
    from broker.modality.door import recording_of
    from broker.rollout.current import Current
    from broker.store.executors import AsyncStore

    logs.configure(settings.log.model_copy(update={"level": "critical"}))  # outcomes are printed
    store = AsyncStore(store_url(settings))
    try:
        current = await Current.opened(store, settings)
        recording = recording_of(settings, store, current)
        return await correct(recording, uid, decide, accession=accession, archived=entry)
    finally:
        await store.close()


def _print(done: Done, *, as_json: bool, would: bool) -> None:
    if as_json:
        print_json({"orders": list(done.orders), "messages": messages_of(done.events)})
        return
    for order in done.orders:
        typer.echo(printable(f"{order} {'would change' if would else 'is changed'}"))
    print_events(done.events, would=would)
    if not done.orders:
        typer.echo("no order " + ("would change" if would else "is changed"))


def _row(exam: Performed, settings: Settings) -> Row:
    """What tells one exam from another; `accession` is what its scanner named, right or wrong."""
    from broker.worklist.mpps import SCHEDULED_ITEMS

    items = exam.attributes.get(SCHEDULED_ITEMS) or ()
    named = dict.fromkeys(text_of(item, "AccessionNumber").strip() for item in items)
    began = datetime.fromtimestamp(exam.began, settings.timezone)
    return {
        "mpps": exam.sop_instance_uid,
        "began": f"{began:%Y-%m-%d %H:%M}",
        "station": exam.station,
        "modality": str(exam.attributes.get("Modality", "")),
        "status": exam.status,
        "accession": ", ".join(filter(None, named)),
        "orders": ", ".join(reference.order for reference in exam.references),
        "to_look_at": "; ".join(exam.exceptions),
    }


def _exam(store: Store, uid: str) -> Performed:
    from broker.store import reads

    exam, _ = store.run(reads.mpps(uid))
    if exam is None:
        typer.echo(printable(f"no performed procedure step {uid}"), err=True)
        raise typer.Exit(NEGATIVE)
    return exam
