"""A whole order as lines of text for a person."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

INDENT = "  "


def outline(order: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    """Give the lines of one order as `looking.orders_of` has read it; `zone` is the site's."""
    issuer = f" of {order['issuer']}" if order["issuer"] else ""
    yield printable(f"order {order['accession']}{issuer}")
    for flag in order["flags"]:
        yield printable(f"{INDENT}! {flag}")
    yield f"{INDENT}patient"
    yield from _attributes(order["patient"]["attributes"], 2)
    yield f"{INDENT}request"
    yield from _attributes(order["attributes"], 2)
    for procedure in order["procedures"]:
        yield printable(f"{INDENT}procedure {procedure['id']}")
        yield from _attributes(procedure["attributes"], 2)
        for step in procedure["steps"]:
            yield from _step(step, zone)
    yield from _messages(order, zone)


def outline_of_exam(exam: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    """Give the lines of one performed step: how it stands, of what it is, what its scanner said."""
    yield printable(f"MPPS {exam['sop_instance_uid']}  {exam['status']}")
    for odd in exam["exceptions"]:
        yield printable(f"{INDENT}! {odd}")
    began, changed = moment(exam["began"], zone), moment(exam["changed"], zone)
    yield printable(f"{INDENT}from {exam['station']}, began {began}, last heard of {changed}")
    for of in exam["references"]:
        step = f"order {of['order']}, procedure {of['procedure']}, step {of['step']}"
        yield printable(f"{INDENT}{step}: {of['evidence']}")
    for forgiven in exam["tolerated"]:
        yield printable(f"{INDENT}tolerated: {forgiven}")
    if exam["closed"]:
        yield f"{INDENT}closed: a person has seen to it"
    yield f"{INDENT}{exam['counted']}"
    yield from _attributes(exam["attributes"], 1)


def printable(text: object) -> str:
    """Make a stored value safe for a terminal: control characters could steer it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def moment(epoch_s: float, zone: ZoneInfo) -> str:
    """Give a time of the site as people write it."""
    return f"{datetime.fromtimestamp(epoch_s, zone):%Y-%m-%d %H:%M:%S}"


def _step(step: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    yield printable(f"{INDENT * 2}step {step['id']}  {step['status']}")
    yield from _attributes(step["attributes"], 3)
    for seen in step["received"]:
        first, last = moment(seen["first"], zone), moment(seen["last"], zone)
        said = f"at {first}" if first == last else f"from {first} to {last}"
        yield printable(f"{INDENT * 3}received by {seen['aet']} {said}")
    for performed in step["mpps"]:
        yield printable(f"{INDENT * 3}MPPS {performed['sop_instance_uid']}  {performed['status']}")
        if performed.get("series"):
            said = f"{performed['series']} series with {performed['objects']} objects"
            yield f"{INDENT * 4}{said}"
        for each in performed.get("matched_by", ()):
            yield printable(f"{INDENT * 4}matched by {each}")
        for each in performed.get("to_look_at", ()):
            yield printable(f"{INDENT * 4}! {each}")
        yield from _attributes(performed["attributes"], 4)


def _messages(order: dict[str, Any], zone: ZoneInfo) -> Iterator[str]:
    for message in order["pending"]:
        since = moment(message["created"], zone)
        said = f"{message['note']} ({message['control_id']})".strip()
        yield printable(f"{INDENT}to {message['ris']} since {since}: {said}")
    for letter in order["dead_letters"]:
        said = f"{letter['note']} ({letter['control_id']}): {letter['cause']}"
        yield printable(f"{INDENT}! refused by {letter['ris']}: {said}")


def _attributes(attributes: dict[str, Any], depth: int) -> Iterator[str]:
    for keyword, value in sorted(attributes.items()):
        if value and isinstance(value, list) and isinstance(value[0], dict):
            for item in value:
                yield f"{INDENT * depth}{keyword}"
                yield from _attributes(item, depth + 1)
        else:
            text = "\\".join(value) if isinstance(value, list) else value
            yield printable(f"{INDENT * depth}{keyword}: {text}")
