"""The function calls of a pipe: what is wrong with them, and how they are applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from re import Pattern
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from broker.hl7.message import NULL, Repetition
from broker.mapping.language.patterns import safe_pattern
from broker.mapping.language.scope import Scope
from broker.mapping.language.syntax import Call, Expression, Mistake, Parts
from broker.mapping.text.nearest import did_you_mean
from broker.mapping.values.evaluation import Closure, Evaluation, Value, note
from broker.mapping.values.functions import TABLE, Function
from broker.mapping.values.quantities import UNITS
from broker.mapping.values.tables import Table


def judge_keys(source: Expression, calls: tuple[Call, ...], scope: Scope) -> None:
    """Whether as many parts are looked up as the table has key columns. Raises Mistake."""
    given = len(source.terms) if isinstance(source, Parts) else 1
    for call in calls:
        table = scope.tables.get(call.arguments[0]) if call.function == "lookup" else None
        if table is not None and table.parts != given:
            fact = f"table '{table.name}' has keys of {table.parts} parts, not {given}"
            hint = "write (a, b) | lookup(table) with a part for each key column"
            raise Mistake(fact, hint, call.offset, len(call.function))
        if given > 1 and call is calls[0] and call.function != "lookup":
            raise Mistake("several parts are only for lookup", "", call.offset, len(call.function))
        given = 1


def function_of(call: Call) -> Function:
    function = TABLE.get(call.function)
    width = len(call.function)
    if function is None:
        fact = f"unknown function '{call.function}'"
        raise Mistake(fact, did_you_mean(call.function, TABLE), call.offset, width)
    least, most = function.counts
    if not least <= len(call.arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}"
        fact = f"'{call.function}' takes {wanted} arguments, not {len(call.arguments)}"
        raise Mistake(fact, function.summary, call.offset, width)
    return function


def arguments_of(call: Call, function: Function, scope: Scope) -> tuple[Any, ...]:
    """The arguments as the function wants them. Raises Mistake."""
    last = function.arguments[-1:]
    kinds = [argument.kind for argument in function.arguments]
    kinds += [argument.kind for argument in last] * (len(call.arguments) - len(kinds))
    if "pair" in kinds and len(call.arguments) % 2:
        fact = f"'{call.function}' takes pairs of a text and its value"
        raise Mistake(fact, function.summary, call.offset, len(call.function))
    read = tuple(
        READ.get(kind, _plain)(text, call, scope)
        for text, kind in zip(call.arguments, kinds, strict=False)
    )
    if kinds == ["unit", "unit"] and UNITS[read[0]][0] != UNITS[read[1]][0]:
        measures = " and ".join(f"{unit} measures {UNITS[unit][0]}" for unit in read)
        raise Mistake(measures, "both units measure the same", call.offset, len(call.function))
    return read


def _plain(text: str, _call: Call, _scope: Scope) -> str:
    return text


def _number(text: str, call: Call, _scope: Scope) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 4 and int(text)):
        fact = f"'{call.function}' takes numbers"
        raise Mistake(fact, TABLE[call.function].summary, *call.where(text))
    return int(text)


def _table(text: str, call: Call, scope: Scope) -> Table:
    if text not in scope.tables:
        hint = did_you_mean(text, scope.tables) or "tables are named under 'tables:'"
        raise Mistake(f"unknown table '{text}'", hint, *call.where(text))
    return scope.tables[text]


def _unit(text: str, call: Call, _scope: Scope) -> str:
    if text not in UNITS:
        hint = did_you_mean(text, UNITS) or f"known: {', '.join(UNITS)}"
        raise Mistake(f"unknown unit '{text}'", hint, *call.where(text))
    return text


def _pattern(text: str, call: Call, _scope: Scope) -> Pattern[str]:
    try:
        return safe_pattern(text, call.offset, searching=True)
    except Mistake as mistake:
        raise Mistake(mistake.fact, mistake.hint, *call.where(text)) from mistake


def _zone(text: str, call: Call, _scope: Scope) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        hint = did_you_mean(text, available_timezones()) or "as 'Europe/Berlin'"
        raise Mistake(f"'{text}' is not a time zone", hint, *call.where(text)) from error


READ: Mapping[str, Callable[[str, Call, Scope], Any]] = {
    "number": _number,
    "table": _table,
    "unit": _unit,
    "pattern": _pattern,
    "zone": _zone,
}


def applied(source: Closure, function: Function, arguments: tuple[Any, ...], label: str) -> Closure:
    call = function.call
    if function.takes == "value":
        return _applied_to_value(source, call, arguments, label)
    if function.takes == "field":
        return _applied_to_field(source, call, arguments, label)

    def read(evaluation: Evaluation) -> Value:
        value = source(evaluation)
        if not value or value == NULL:
            return value
        if value.__class__ is str:
            value = call(evaluation, value, *arguments)
        else:
            value = _each(evaluation, value, call, arguments)
        return value if evaluation.watch is None else note(evaluation, label, value)

    return read


def _applied_to_value(
    source: Closure, call: Callable[..., Value], arguments: tuple[Any, ...], label: str
) -> Closure:
    def read(evaluation: Evaluation) -> Value:
        said = source(evaluation)
        value = call(evaluation, said, *arguments)
        return note(evaluation, label, value) if said or value else value

    return read


def _each(
    evaluation: Evaluation,
    values: list[Any],
    call: Callable[..., Value],
    arguments: tuple[Any, ...],
) -> Value:
    before = evaluation.rank
    said, ranks = [], [before]
    for each in values:
        if isinstance(each, str):
            evaluation.rank = before
            said.append(each if each == NULL else call(evaluation, each, *arguments))
            if said[-1]:  # a default for one of several that says nothing ranks nothing
                ranks.append(evaluation.rank)
    evaluation.rank = max(ranks)
    return said


def _applied_to_field(
    source: Closure, call: Callable[..., Value], arguments: tuple[Any, ...], label: str
) -> Closure:
    def read(evaluation: Evaluation) -> Value:
        repetitions: list[Repetition] = source(evaluation)
        if not repetitions:
            return ""
        if len(repetitions) == 1 and repetitions[0].raw == NULL:
            return NULL
        value = call(evaluation, repetitions, *arguments)
        return value if evaluation.watch is None else note(evaluation, label, value)

    return read
