"""`broker why`: why an entry is, or is not, on the list of a scanner."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli import asking, auditing
from broker.cli.configuration import ConfigOption, load_settings
from broker.cli.opening import opened
from broker.cli.outline import moment, printable
from broker.cli.printing import NEGATIVE, AsJson, print_json

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from broker.settings import Settings
    from broker.store.executors import Store
    from broker.store.sightings import AskedOnce
    from broker.worklist.query.explaining import Verdict
    from broker.worklist.records import Item


PERIOD = re.compile(r"(\d{8})-(\d{8})")


def register(program: typer.Typer) -> None:
    """Add `why` to the program."""
    program.command("why")(why)


def why(
    accession: Annotated[str, typer.Argument(help="An accession number, or ISSUER|ACCESSION.")],
    aet: Annotated[str, typer.Option(help="The AE title of the scanner.")],
    query: Annotated[
        Path | None, typer.Option(help="A query as a DICOM file; default: the AE's last one.")
    ] = None,
    as_json: AsJson = False,
    config: ConfigOption = None,
) -> None:
    """Explain why an entry is on a scanner's list or not, key by key; 1 when a step is not.

    Shows what the scanner asked for, patient data and all.
    """
    from broker.cli.looking import items_of

    settings = load_settings(config)
    with opened(settings) as store:
        items = items_of(store, accession)
        if not items:
            remedy = f"see `broker trace {accession}` for what came of it"
            typer.echo(f"no order has the accession number {accession}; {remedy}", err=True)
            raise typer.Exit(NEGATIVE)
        question = asking.question_of(store, settings, aet, query, {})
        found = explained(settings, question, items)
        found["rejected"] = _rejected(store, settings, question)
    auditing.of_orders(settings, "R", f"why, for {aet}", (item.order for item in items[:1]))
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(map(printable, _lines(found, settings.timezone))))
    if not all(step["on_list"] for step in found["steps"]):
        raise typer.Exit(NEGATIVE)


def _rejected(store: Store, settings: Settings, question: asking.Question) -> list[dict[str, Any]]:
    """Give how its associations were rejected since it asked, the last one first."""
    from broker.store import sightings

    meant, since = settings.dicom.directory().profile, question.at or 0.0
    return [
        peer
        for peer in store.run(sightings.rejected())
        if peer["last"] >= since
        and question.title in (peer["calling"], meant(peer["calling"]).title)
    ]


def explained(
    settings: Settings, question: asking.Question, items: Sequence[Item]
) -> dict[str, Any]:
    """Give the query, what the door answers it now, and the reasons of each step.

    Raises StoreUnavailable.
    """
    got = asking.put(settings, question)
    asked = question.remembered[0] if question.at is not None else None
    today = datetime.now(settings.timezone).date()
    return {
        "aet": question.title,
        "in_directory": bool(got.told.profile.title),
        "query": {
            "how": question.how,
            "at": question.at,
            **_result(question, got, asked),
        },
        "steps": [
            _unasked(step, question.rejected)
            for step in (_step(item, got, asked, question.remembered, today) for item in items)
        ],
    }


def _result(question: asking.Question, got: asking.Got, asked: AskedOnce | None) -> dict[str, Any]:
    """Give what it got, or gets now; an AE whose associations are rejected is answered nothing."""
    if asked is not None:
        status, answered = asked.status, len(asked.answered)
    elif question.rejected:
        return {"status": "", "answers": 0, "comment": question.rejected}
    else:
        status, answered = got.told.status, len(got.told.answered)
    return {"status": f"{status:04X}", "answers": answered, "comment": got.comment}


def _unasked(step: dict[str, Any], rejected: str) -> dict[str, Any]:
    """Give a step as it is to an AE whose associations are rejected: it gets nothing now."""
    if not rejected:
        return step
    return {**step, "on_list": False, "now": None, "reasons": [*step["reasons"], rejected]}


def _step(
    item: Item,
    got: asking.Got,
    asked: AskedOnce | None,
    remembered: Sequence[AskedOnce],
    today: Any,
) -> dict[str, Any]:
    from broker.store.indexes import member_of
    from broker.store.sightings import unversioned
    from broker.worklist.query.explaining import verdicts

    member, query = member_of(item), got.told.query
    any_status = query is not None and query.asks_for_status()
    hidden = got.told.profile.hidden(item.attributes, today, any_status=any_status)
    keys = verdicts(query, item.attributes) if query else ()
    now = _place(member, [unversioned(each) for each in got.told.answered])
    returned = next((_returned(member, once) for once in remembered if member in once.answered), {})
    reasons = [_compared(key) for key in keys if not key.matches]
    reasons += [f"hidden by the rule '{hidden.rule}': {hidden}"] if hidden else []
    if not now and not reasons:
        reasons = [_otherwise(item, got)]
    by_it = bool(asked and member in asked.answered)
    return {
        "order": item.order.key,
        "step": item.step.id,
        "status": item.step.status.value,
        "on_list": by_it or (asked is None and bool(now)),
        "returned": returned or None,
        "now": now or None,
        "keys": [{**key._asdict(), "text": _compared(key)} for key in keys],
        "hidden": {**hidden._asdict(), "text": str(hidden)} if hidden else None,
        "reasons": reasons,
    }


def _compared(key: Verdict) -> str:
    """What a key asks and the step has; a difference that is easily overlooked is named."""
    said = f"{key.keyword}: asked {key.asked}, has {key.held or 'nothing'}"
    return said if key.matches else f"{said}{_slip(key)}"


def _slip(key: Verdict) -> str:
    from broker.worklist.form import is_in_capitals

    days = PERIOD.fullmatch(key.asked)
    if days and days[1] > days[2]:
        return " (the period ends before it begins)"
    held = key.held.split("\\")
    if key.asked in held or key.asked.upper() not in map(str.upper, held):
        return ""
    remedy = "; `upper_keys` of its AE reads it so" if is_in_capitals(key.keyword) else ""
    return f" (only small letters for capitals{remedy})"


def _returned(member: bytes, once: AskedOnce) -> dict[str, Any]:
    return {"at": once.at, **_place(member, once.answered)}


def _place(member: bytes, answered: Sequence[bytes]) -> dict[str, int]:
    if member not in answered:
        return {}
    return {"response": answered.index(member) + 1, "of": len(answered)}


def _otherwise(item: Item, got: asking.Got) -> str:
    """Why a step that no key and no rule keeps out is not in the answer."""
    from broker.dicom.dimse import SUCCESS
    from broker.worklist.records import OPEN

    rules = got.told.profile.rules
    if got.told.status != SUCCESS:
        return f"the query is answered {got.told.status:04X}: {got.comment}"
    if len(got.told.answered) >= rules.max_answers:
        return f"beyond the limit: this AE gets {rules.max_answers} answers of a longer list"
    if item.step.status not in OPEN:
        return "it is over: found only by accession number, study or patient ID"
    return "it cannot be encoded, or the index does not lead to it: see the broker's log"


def _lines(found: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    query = found["query"]
    at = f" at {moment(query['at'], zone)}" if query["at"] else ""
    known = "" if found["in_directory"] else ", which dicom.aes does not name"
    got = f"{query['status']}, {query['answers']} answer{'' if query['answers'] == 1 else 's'}"
    got = got if query["status"] else "its association is rejected"
    yield f"{found['aet']}{known}, {query['how']}{at}: {got}"
    for peer in found["rejected"]:
        at, by = moment(peer["last"], zone), f"as {peer['called']} from {peer['address']}"
        yield f"  ! rejected at {at}, when it called us {by}: {peer['reason']}"
    for step in found["steps"]:
        yield f"step {step['step']} of {step['order']}, {step['status']}: {_verdict(step, zone)}"
        for key in step["keys"]:
            sign = " " if key["matches"] else "!"
            yield f"  {sign} {key['text']}"
        said = len([key for key in step["keys"] if not key["matches"]])
        yield from (f"  ! {reason}" for reason in step["reasons"][said:])


def _verdict(step: dict[str, Any], zone: ZoneInfo) -> str:
    returned, now = step["returned"], step["now"]
    was = f"returned at {moment(returned['at'], zone)}, {_response(returned)}" if returned else ""
    if step["on_list"]:
        gone = "" if now else ", not on the list any more"
        return f"{was}{gone}" if was else f"on the list, {_response(now)}"
    late = f"would be {_response(now)} now: it came or changed after the query" if now else ""
    return ", ".join(filter(None, ("not on the list", late, was and f"{was} to another query")))


def _response(place: dict[str, int]) -> str:
    return f"response {place['response']} of {place['of']}"
