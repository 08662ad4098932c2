"""Expression trees compiled once to closures; a closure reads an Evaluation and gives a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from re import Pattern
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.message import NULL, Repetition, Segment
from broker.mapping.document import did_you_mean
from broker.mapping.evaluation import Closure, Evaluation, Origin, Unfit, Value, note
from broker.mapping.functions import TABLE, Function, Table
from broker.mapping.quantities import UNITS
from broker.mapping.syntax import (
    After,
    Alternatives,
    Call,
    Compare,
    Condition,
    Every,
    Expression,
    Given,
    Matches,
    Mistake,
    Name,
    Not,
    Parts,
    Path,
    Pipe,
    Selector,
    Some,
    Sum,
    Text,
    Valued,
    safe_pattern,
)
from broker.mapping.tables import PARTED
from broker.mapping.texts import PATTERN_INPUT
from broker.worklist.changes import plain

Test = Callable[[Evaluation], bool]


@dataclass(frozen=True)
class Scope:
    """What the words of an expression mean where it stands.

    `element` is the segment name that `each:` walks ('' outside, '.' when it walks repetitions of a
    field); `names` are the given names beside DICOM keywords.
    """

    tables: Mapping[str, Table] = field(default_factory=dict)
    element: str = ""
    names: frozenset[str] = frozenset()
    keywords: frozenset[str] | None = None


def compile_expression(tree: Expression, scope: Scope, *, whole: bool = False) -> Closure:
    """`whole` asks for repetitions with their components instead of texts. Raises Mistake."""
    match tree:
        case Text(text):
            return lambda _: text
        case Path():
            return _path(tree, scope, whole)
        case Name():
            return _name(tree, scope)
        case Given():
            return _given(tree, scope, whole)
        case Sum(terms):
            return _sum(terms, scope)
        case Parts(terms):
            return _parts(terms, scope)
        case Alternatives(choices):
            return _alternatives([compile_expression(each, scope, whole=whole) for each in choices])
        case Pipe(source, calls):
            return _pipe(source, calls, scope)


def _name(tree: Name, scope: Scope) -> Closure:
    head, *rest = tree.steps
    if head in scope.names:
        return lambda evaluation: evaluation.names.get(head, "")
    if scope.keywords is not None and head not in scope.keywords:
        known = scope.keywords | scope.names
        hint = did_you_mean(head, known) or "a constant is written {const: …} or in quotes"
        raise Mistake(f"'{head}' is not known here", hint, tree.offset, len(head))

    def read(evaluation: Evaluation) -> Value:
        value = plain(evaluation.item.get(head) or evaluation.attributes.get(head))
        for step in rest:
            value = plain(value[0].get(step)) if value and isinstance(value, list) else ""
        return value or ""

    return read


def _given(given: Given, scope: Scope, whole: bool) -> Closure:
    """What stands under `let:` is worked out once, unless it looks at what `each:` walks."""
    closure = compile_expression(given.tree, scope, whole=whole)
    if scope.element and any(path.segment == scope.element for path in paths_in(given.tree)):
        return closure
    key = (given.name, whole)

    def read(evaluation: Evaluation) -> Value:
        kept = evaluation.kept.get(key)
        if kept is None:
            before = evaluation.rank
            evaluation.rank = 0
            value = closure(evaluation)
            kept = (value, evaluation.rank, evaluation.origin, evaluation.origin_segment)
            evaluation.kept[key] = kept
            evaluation.rank = before
        value, rank, origin, segment = kept
        if value:
            if rank > evaluation.rank:
                evaluation.rank = rank
            evaluation.origin, evaluation.origin_segment = origin, segment
        return value

    return read


def _sum(terms: tuple[Expression, ...], scope: Scope) -> Closure:
    parts = [(compile_expression(term, scope), isinstance(term, Text)) for term in terms]

    def read(evaluation: Evaluation) -> str:
        texts = []
        said = erased = False
        for part, constant in parts:
            text = one(part(evaluation))
            if text == NULL:
                erased, text = True, ""
            said = said or (bool(text) and not constant)
            texts.append(text)
        if said:
            return "".join(texts)
        return NULL if erased else ""

    return read


def _parts(terms: tuple[Expression, ...], scope: Scope) -> Closure:
    """The key of a table with several key columns."""
    parts = [compile_expression(term, scope) for term in terms]

    def read(evaluation: Evaluation) -> str:
        texts = [one(part(evaluation)).strip() for part in parts]
        texts = ["" if text == NULL else text for text in texts]
        return PARTED.join(texts) if any(texts) else ""

    return read


def _alternatives(choices: list[Closure]) -> Closure:
    numbered = list(enumerate(choices))

    def read(evaluation: Evaluation) -> Value:
        before = evaluation.rank
        for number, choice in numbered:
            value = choice(evaluation)
            if value:  # NULL is text: it is an answer and stops the search
                if number > evaluation.rank:
                    evaluation.rank = number
                return value
            evaluation.rank = before
        return ""

    return read


def _pipe(source: Expression, calls: tuple[Call, ...], scope: Scope) -> Closure:
    functions = [_function(call) for call in calls]
    _judge_keys(source, calls, scope)
    for call, function in zip(calls[1:], functions[1:], strict=True):
        if function.takes == "field":
            fact = f"'{call.function}' needs a field and must be the first function"
            raise Mistake(fact, "", call.offset, len(call.function))
    closure = compile_expression(source, scope, whole=functions[0].takes == "field")
    if functions[0].takes == "field" and not isinstance(source, (Path, Alternatives, Given)):
        fact = f"'{calls[0].function}' needs a field, as PID-5"
        raise Mistake(fact, "", calls[0].offset, len(calls[0].function))
    for call, function in zip(calls, functions, strict=True):
        closure = _applied(closure, function, _arguments(call, function, scope), str(call))
    return closure


def _judge_keys(source: Expression, calls: tuple[Call, ...], scope: Scope) -> None:
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


def _function(call: Call) -> Function:
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


def _arguments(call: Call, function: Function, scope: Scope) -> tuple[Any, ...]:
    """The arguments as the function wants them. Raises Mistake."""
    last = function.arguments[-1:]
    kinds = [argument.kind for argument in function.arguments]
    kinds += [argument.kind for argument in last] * (len(call.arguments) - len(kinds))
    if "pair" in kinds and len(call.arguments) % 2:
        fact = f"'{call.function}' takes pairs of a text and its value"
        raise Mistake(fact, function.summary, call.offset, len(call.function))
    return tuple(
        READ.get(kind, _plain)(text, call, scope)
        for text, kind in zip(call.arguments, kinds, strict=False)
    )


def _plain(text: str, _call: Call, _scope: Scope) -> str:
    return text


def _number(text: str, call: Call, _scope: Scope) -> int:
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 4 and int(text)):
        fact = f"'{call.function}' takes numbers"
        raise Mistake(fact, TABLE[call.function].summary, call.offset, len(call.function))
    return int(text)


def _table(text: str, call: Call, scope: Scope) -> Table:
    if text not in scope.tables:
        hint = did_you_mean(text, scope.tables) or "tables are named under 'tables:'"
        raise Mistake(f"unknown table '{text}'", hint, call.offset, len(call.function))
    return scope.tables[text]


def _unit(text: str, call: Call, _scope: Scope) -> str:
    if text not in UNITS:
        hint = did_you_mean(text, UNITS) or f"known: {', '.join(UNITS)}"
        raise Mistake(f"unknown unit '{text}'", hint, call.offset, len(call.function))
    return text


def _pattern(text: str, call: Call, _scope: Scope) -> Pattern[str]:
    try:
        return safe_pattern(text, call.offset, searching=True)
    except Mistake as mistake:
        raise Mistake(mistake.fact, mistake.hint, call.offset, len(call.function)) from mistake


def _zone(text: str, call: Call, _scope: Scope) -> ZoneInfo:
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:
        fact = f"'{text}' is not a time zone"
        raise Mistake(fact, "as 'Europe/Berlin'", call.offset, len(call.function)) from error


READ: Mapping[str, Callable[[str, Call, Scope], Any]] = {
    "number": _number,
    "table": _table,
    "unit": _unit,
    "pattern": _pattern,
    "zone": _zone,
}


def _applied(
    source: Closure, function: Function, arguments: tuple[Any, ...], label: str
) -> Closure:
    call = function.call
    if function.takes == "value":
        return lambda evaluation: note(
            evaluation, label, call(evaluation, source(evaluation), *arguments)
        )
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


def one(value: Value) -> str:
    """The value as one text: of several the first that is not null."""
    if isinstance(value, str):
        return value
    texts = [each for each in value if isinstance(each, str) and each]
    return next((text for text in texts if text != NULL), texts[0] if texts else "")


# paths


def _path(path: Path, scope: Scope, whole: bool) -> Closure:
    if not path.segment:
        if not scope.element:
            fact = f"'{path.label}' has nothing to start from"
            hint = "paths that start with a dot stand in [ ] or under each:"
            raise Mistake(fact, hint, path.offset, len(path.label))
        return _relative_path(path, scope)
    if whole and path.field_selector is None and path.segment_selector is None:
        return _whole_path(path, scope)
    find = _finder(path, scope)
    select = _selection(path.field_selector, "repetition", scope)
    origin = Origin(path.label, path.segment, path.field, path.component)
    number = path.field
    take = None if whole else _taker(path.component or 1, path.subcomponent)

    def read(evaluation: Evaluation) -> Value:
        value: Value = []
        for segment in find(evaluation):
            repetitions = segment.repetitions(number)
            if select is not None:
                repetitions = select(evaluation, repetitions)
            found = _said(repetitions) if take is None else take(repetitions)
            if found:
                evaluation.origin = origin
                evaluation.origin_segment = segment
                value = found if not value else [*_listed(value), *_listed(found)]
        return value

    if take is not None and select is None and path.segment_selector is None:
        return _plain_path(path, scope, origin)
    return read


def _whole_path(path: Path, scope: Scope) -> Closure:
    """All repetitions of a field with their components, without any selection."""
    name, number = path.segment, path.field
    origin = Origin(path.label, name, number, path.component)
    from_element = scope.element == name

    def read(evaluation: Evaluation) -> Value:
        if from_element:
            segment: Segment | None = evaluation.element
            if segment is None:
                return ""
            raw = segment.field(number)
        else:
            found = evaluation.firsts[name]
            if found is None or len(found[1]) <= number:
                return ""
            raw = found[1][number]
            segment = found[0]
        if not raw or not raw.strip("^&~ "):
            return ""
        evaluation.origin = origin
        evaluation.origin_segment = segment
        repetitions = segment.repetitions(number)
        return repetitions if len(repetitions) == 1 else _said(repetitions)

    return read


def _plain_path(path: Path, scope: Scope, origin: Origin) -> Closure:
    """The path without any selection, which is nearly every path of an order message."""
    name, number = path.segment, path.field
    component, subcomponent = path.component or 1, path.subcomponent
    take = _taker(component, subcomponent)
    from_element = scope.element == name

    def read(evaluation: Evaluation) -> Value:
        if from_element:
            segment: Segment | None = evaluation.element
            if segment is None:
                return ""
            raw = segment.field(number)
        else:
            found = evaluation.firsts[name]
            if found is None or len(found[1]) <= number:
                return ""
            raw = found[1][number]
            segment = found[0]
        if not raw:
            return ""
        separators = evaluation.separators
        if separators.repetition in raw or separators.escape in raw or subcomponent:
            value = take(segment.repetitions(number))
        elif raw == NULL or (component == 1 and separators.component not in raw):
            value = raw
        else:
            value = _component(raw, separators.component, component)
        if value:
            evaluation.origin = origin
            evaluation.origin_segment = segment
        return value

    return read


def _component(raw: str, separator: str, number: int) -> str:
    parts = raw.split(separator, number)
    return parts[number - 1] if number <= len(parts) else ""


def _relative_path(path: Path, scope: Scope) -> Closure:
    first, second, third = path.field, path.component, path.subcomponent
    if scope.element == ".":  # a repetition: .component.subcomponent
        take_part = _taker(first, second)
        return lambda evaluation: take_part([evaluation.element])
    take = _taker(second or 1, third)  # a segment: .field.component.subcomponent
    return lambda evaluation: (
        take(evaluation.element.repetitions(first)) if evaluation.element is not None else ""
    )


def _taker(component: int, subcomponent: int) -> Callable[[list[Repetition]], Value]:
    def take(repetitions: list[Repetition]) -> Value:
        if len(repetitions) == 1:
            only = repetitions[0]
            return NULL if only.raw == NULL else only.text(component, subcomponent)
        texts = [
            NULL if each.raw == NULL else each.text(component, subcomponent) for each in repetitions
        ]
        said = [text for text in texts if text]
        return said[0] if len(said) == 1 else said

    return take


def _said(repetitions: list[Repetition]) -> list[Repetition]:
    """Repetitions in which something is said: `^^^` is nothing."""
    return [each for each in repetitions if each.raw.strip("^&~ ")]


def _listed(value: Value) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _finder(path: Path, scope: Scope) -> Callable[[Evaluation], list[Segment]]:
    name = path.segment
    if scope.element == name and path.segment_selector is None:
        return lambda evaluation: [evaluation.element] if evaluation.element is not None else []
    if isinstance(path.segment_selector, After):
        return _follower(name, path.segment_selector.segment)
    select = _selection(path.segment_selector, "segment", scope)

    def find(evaluation: Evaluation) -> list[Segment]:
        found = evaluation.segments.all(name)  # type: ignore[union-attr] # inbound
        return select(evaluation, found) if select is not None else found[:1]

    return find


def _follower(name: str, leader: str) -> Callable[[Evaluation], list[Segment]]:
    """Segments that follow one named `leader`, others of their own name between at most."""

    def find(evaluation: Evaluation) -> list[Segment]:
        if not evaluation.segments or not evaluation.segments.first(name):
            return []
        found: list[Segment] = []
        last = ""
        for segment in evaluation.segments.segments:
            if segment.name != name:
                last = segment.name
            elif last == leader:
                found.append(segment)
        return found

    return find


def _selection(
    selector: Selector | None, what: str, scope: Scope
) -> Callable[[Evaluation, list[Any]], list[Any]] | None:
    if selector is None:
        return None
    if isinstance(selector, int):
        number = selector
        return lambda _, found: found[number - 1 : number]
    if isinstance(selector, After):
        raise Mistake("'after' selects segments, not repetitions")
    if isinstance(selector, str):
        return (lambda _, found: found) if selector == "all" else (lambda _, found: found[-1:])
    inner = Scope(scope.tables, "." if what == "repetition" else "*", scope.names, scope.keywords)
    test = compile_condition(selector, inner)

    def select(evaluation: Evaluation, found: list[Any]) -> list[Any]:
        outer = evaluation.element
        chosen = []
        for evaluation.element in found:
            if test(evaluation):
                chosen.append(evaluation.element)
        evaluation.element = outer
        return chosen

    return select


# conditions: null counts as empty here


def compile_condition(tree: Condition, scope: Scope) -> Test:
    """Raises Mistake."""
    match tree:
        case Every(conditions):
            return _all_of([compile_condition(each, scope) for each in conditions])
        case Some(conditions):
            tests = [compile_condition(each, scope) for each in conditions]
            return lambda evaluation: any(test(evaluation) for test in tests)
        case Not(condition):
            test = compile_condition(condition, scope)
            return lambda evaluation: not test(evaluation)
        case Compare(operand, texts, wanted):
            read, words = _operand(operand, scope), frozenset(texts)
            return lambda evaluation: (read(evaluation) in words) is wanted
        case Matches(operand, pattern):
            read = _operand(operand, scope)
            return _matching(read, pattern)
        case Valued(operand):
            read = _operand(operand, scope)
            return lambda evaluation: bool(read(evaluation))


def _matching(read: Callable[[Evaluation], str], pattern: Pattern[str]) -> Test:
    """What is too long for a pattern does not match it."""

    def test(evaluation: Evaluation) -> bool:
        text = read(evaluation)
        return len(text) <= PATTERN_INPUT and pattern.fullmatch(text) is not None

    return test


def _all_of(tests: list[Test]) -> Test:
    if len(tests) == 2:  # nearly every condition
        first, second = tests
        return lambda evaluation: first(evaluation) and second(evaluation)
    return lambda evaluation: all(test(evaluation) for test in tests)


def _operand(tree: Expression, scope: Scope) -> Callable[[Evaluation], str]:
    if isinstance(tree, Path) and not tree.segment and scope.element == ".":
        component, subcomponent = tree.field, tree.component

        def read_part(evaluation: Evaluation) -> str:
            text = evaluation.element.text(component, subcomponent)
            return "" if text == NULL else text.strip()

        return read_part
    closure = compile_expression(tree, scope)

    def read(evaluation: Evaluation) -> str:
        rank, origin, segment = evaluation.rank, evaluation.origin, evaluation.origin_segment
        try:
            text = one(closure(evaluation))
        except Unfit:  # a table that refuses: a condition on what it does not have does not hold
            text = ""
        evaluation.rank, evaluation.origin, evaluation.origin_segment = rank, origin, segment
        return "" if text == NULL else text.strip()

    return read


# what an expression mentions, for checks


def paths_in(tree: Expression | Condition) -> Iterator[Path]:
    """Every path with a segment, predicates included, in the order written."""
    yield from (each for each in _walk(tree) if isinstance(each, Path) and each.segment)


def calls_in(tree: Expression | Condition) -> Iterator[Call]:
    """Every function call, in the order written."""
    for each in _walk(tree):
        if isinstance(each, Pipe):
            yield from each.calls


def names_in(tree: Expression | Condition) -> Iterator[str]:
    """Every name of the `let:` block that is used."""
    yield from (each.name for each in _walk(tree) if isinstance(each, Given))


def _walk(tree: Expression | Condition) -> Iterator[Expression | Condition]:
    yield tree
    for inner in _inside(tree):
        yield from _walk(inner)


def _inside(tree: Expression | Condition) -> tuple[Expression | Condition, ...]:
    match tree:
        case Path(segment_selector=first, field_selector=second):
            return tuple(
                each
                for each in (first, second)
                if each is not None and not isinstance(each, (int, str, After))
            )
        case Sum(terms) | Parts(terms):
            return terms
        case Alternatives(choices):
            return choices
        case Pipe(source) | Given(tree=source):
            return (source,)
        case Compare(operand) | Matches(operand) | Valued(operand):
            return (operand,)
        case Not(condition):
            return (condition,)
        case Every(conditions) | Some(conditions):
            return conditions
        case _:
            return ()
