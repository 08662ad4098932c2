"""How a message came to what it does, for a person: attributes in their nesting, and their origins.

A line reads from right to left: the rule's file and line, the functions with what each gave, the
field as it was sent, the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.mapping.running.applying import Inbound, Outcome
    from broker.mapping.running.leaf import Traced
    from broker.mapping.values.evaluation import Step

LONGEST_RAW = 60
LONG_CONDITION = re.compile(r"\[[^][]{30,}\]")
MADE_OF = {
    "StudyInstanceUID": "issuer, accession number and procedure ID",
    "RequestedProcedureID": "the accession number",
    "ScheduledProcedureStepID": "the procedure ID",
}
"""What the worklist makes type 1 attributes of where a message has none."""


@dataclass(frozen=True)
class _Row:
    name: str
    value: str = ""
    origin: str = ""
    remarks: tuple[str, ...] = ()


def outcome_lines(outcome: Outcome, explained: Inbound | None) -> Iterator[str]:
    """One order and its attributes; with the mapping that is to be explained, all there is to say.

    Files are named without their folders, as a refusal names them to the sender.
    """
    if outcome.change.refused:
        yield f"{outcome.change.location}: refused: {outcome.change.refused}"
        return
    note = f"   {outcome.line.note}" if outcome.line.note else ""
    action = outcome.change.action
    yield f"{outcome.change.location}: {action}   {near(outcome.line.place)}{note}"
    traced = [each for each in outcome.traced if explained or not each.left_out]
    silent = outcome.silent if explained and traced else ()
    yield from _told(_rows(traced, silent, explained))
    for unmapped in outcome.change.held:
        yield f"  waits for {unmapped.key!r} in table '{unmapped.table}'"
    if outcome.change.numbering:
        yield f"  AccessionNumber is made by {outcome.change.numbering}, if the order is unknown"
    for warning in outcome.warnings if not explained else ():
        yield f"  warning: {warning}"


def unfinished_lines(traced: Sequence[Traced]) -> Iterator[str]:
    """What was read of an order before it was refused."""
    if traced:
        yield "read until then"
        yield from _told(_rows([each for each in traced if not each.left_out], (), None, full=True))


def near(place: str) -> str:
    """File and line without the folders."""
    return Path(place).name


def shown(value: Any) -> str:
    """A value on one line; several are parted as DICOM parts them."""
    if value is None:
        return "erased"
    if isinstance(value, dict):
        return ", ".join(f"{name} {shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "\\".join(shown(each) for each in value)
    raw = getattr(value, "raw", value)
    return str(raw) if raw != "" else "—"


def _told(rows: Iterable[_Row]) -> Iterator[str]:
    rows = list(rows)
    widest = max((len(row.name) for row in rows if row.value), default=0)
    for row in rows:
        line = f"{row.name:<{widest}}  {row.value}" if row.value else row.name
        yield f"  {line}  {row.origin}".rstrip()
        yield from (f"  {' ' * widest}  warning: {remark}" for remark in row.remarks)


def _rows(
    traced: Sequence[Traced],
    silent: Sequence[Traced],
    explained: Inbound | None,
    *,
    full: bool = False,
) -> Iterator[_Row]:
    """Attributes in the order of the mapping, below the sequences and items that they stand in."""
    entries = [*traced, *silent]
    if explained:
        entries = _in_order(entries, explained)
    above: tuple[Any, ...] = ()
    for each in entries:
        sequences = tuple(zip(each.keyword.split("/"), each.within, strict=False))
        if sequences != above:
            yield from _headings(sequences, above, each.left_out)
            above = sequences
        if not each.left_out:
            yield _row(each, explained is not None or full, each in silent)


def _headings(sequences: tuple[Any, ...], above: tuple[Any, ...], left_out: str) -> Iterator[_Row]:
    shared = 0
    while shared < min(len(sequences), len(above)) and sequences[shared] == above[shared]:
        shared += 1
    for depth, (keyword, item) in enumerate(sequences[shared:], shared):
        is_none = bool(left_out) and depth == len(sequences) - 1
        what = f"no item, {left_out}" if is_none else f"item {item.number}"
        made_of = f" ← '{_short(item.raw)}'" if item.raw else ""
        yield _Row(f"{'>' * depth}{keyword}  {what}{made_of}")


def _in_order(entries: Sequence[Traced], inbound: Inbound) -> list[Traced]:
    from broker.mapping.trials.coverage import leaves

    at: dict[str, int] = {}
    for leaf in leaves(inbound):
        words = leaf.name.split("/")
        for depth in range(1, len(words) + 1):
            at.setdefault("/".join(words[:depth]), len(at))

    def key(entry: Traced) -> tuple[int, ...]:
        words = entry.keyword.split("/")
        numbers: list[int] = []
        for depth, item in enumerate(entry.within, 1):
            numbers += [at.get("/".join(words[:depth]), 0), item.number]
        return (*numbers, at.get(entry.keyword, 0))

    return sorted(entries, key=key)


def _row(traced: Traced, full: bool, silent: bool) -> _Row:
    *outer, name = traced.keyword.split("/")
    remarks = tuple(f"{each}   {near(traced.place)}" for each in traced.warnings) if full else ()
    shown_name = ">" * len(outer) + name
    if silent:
        return _Row(shown_name, "—", _emptiness(traced, name), remarks)
    return _Row(shown_name, shown(traced.value), _origin(traced, full), remarks)


def _emptiness(traced: Traced, keyword: str) -> str:
    """Why nothing came out: which fields are empty, and what those that are not became."""
    from broker.worklist.attributes import ROWS

    place, why = near(traced.place), ""
    if traced.path:
        why = f"← nothing usable in {_folded(traced.path)}{_after(traced.steps)}   "
    if keyword in MADE_OF:
        return f"{why}{place}, so the worklist makes it of {MADE_OF[keyword]}"
    row = ROWS.get(keyword)
    kind = f"   type {row.returned} in MWL" if row and row.returned in ("1", "1C") else ""
    return f"{why}{place}{kind}"


def _after(steps: Sequence[Step]) -> str:
    calls = "".join(_call(step) for step in steps if not step.source)
    return f":{calls}" if calls else ""


def _origin(traced: Traced, full: bool) -> str:
    from broker.worklist.changes import FILLS_GAPS

    words = [_way(traced)] if full else [_field(traced.path, traced.raw)] if traced.path else []
    if traced.is_constant:
        words = ["const, fills a gap only"]
    elif traced.rank >= FILLS_GAPS:
        words.append("default, follows the message" if traced.anew else "default, fills a gap only")
    elif traced.rank:
        words.append(f"choice {traced.rank + 1}")
    said = ", ".join(filter(None, words))
    return f"← {said}   {near(traced.place)}" if said else near(traced.place)


def _way(traced: Traced) -> str:
    """From the field as it was sent through every function; where several are read, each."""
    told, at = "", ""
    for step in traced.steps:
        if step.source:
            at = step.path
            told = _joined(told, _source(step))
            continue
        if step.path and step.path != at:
            at = step.path
            told = _joined(told, _field(step.path, step.raw))
        told += _call(step)
    if not told and traced.path:
        return _field(traced.path, traced.raw)
    return told


def _source(step: Step) -> str:
    """A name, a relative path, or summands with what they say."""
    equals = " =" if " + " in step.call or step.call.startswith("(") else ""
    return f"{_folded(step.call)}{equals} '{_short(shown(step.result))}'"


def _joined(told: str, more: str) -> str:
    return f"{told}; {more}" if told else more


def _call(step: Step) -> str:
    if step.result:
        return f" → {step.call} '{shown(step.result)}'"
    return f" → {step.call} {'is in no row' if step.call.startswith('lookup(') else 'is nothing'}"


def _field(path: str, raw: str) -> str:
    return f"{_folded(path)} '{_short(raw)}'"


def _folded(path: str) -> str:
    """A path whose long conditions stand in the file anyway."""
    return LONG_CONDITION.sub("[…]", path)


def _short(raw: str) -> str:
    return raw if len(raw) <= LONGEST_RAW else raw[:LONGEST_RAW] + "…"
