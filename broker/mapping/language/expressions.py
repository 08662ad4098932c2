"""Expression trees compiled once to closures; a closure reads an Evaluation and gives a value."""

from __future__ import annotations

from collections.abc import Callable
from re import Pattern
from typing import Any, TypeGuard

from broker.hl7.message import NULL
from broker.mapping.language.calling import applied, arguments_of, function_of, judge_keys
from broker.mapping.language.mentioning import paths_in
from broker.mapping.language.paths import compile_path
from broker.mapping.language.predicates import predicate_of
from broker.mapping.language.reading import reading_of
from broker.mapping.language.scope import Scope, Select, Test
from broker.mapping.language.syntax import (
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
)
from broker.mapping.standards.dictionaries import vr_of
from broker.mapping.text.nearest import did_you_mean
from broker.mapping.values.evaluation import Closure, Evaluation, Unfit, Value, note, one
from broker.mapping.values.tables import PARTED
from broker.mapping.values.texts import PATTERN_INPUT
from broker.worklist.changes import plain


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


def _path(path: Path, scope: Scope, whole: bool) -> Closure:
    follows = isinstance(path.segment_selector, After)  # who follows whom is for the path itself
    pick = None if follows else _selection(path.segment_selector, "segment", scope)
    choose = _selection(path.field_selector, "repetition", scope)
    closure = compile_path(path, scope, pick, choose, whole=whole)
    return closure if path.segment else _told(closure, path.label)


def _told(closure: Closure, label: str) -> Closure:
    """A source that is no field of the message by itself: whoever watches is told its name."""

    def read(evaluation: Evaluation) -> Value:
        value = closure(evaluation)
        if value and evaluation.watch is not None:
            note(evaluation, label, value, source=True)
        return value

    return read


def _name(tree: Name, scope: Scope) -> Closure:
    head, *rest = tree.steps
    if head in scope.names:
        return _told(lambda evaluation: evaluation.names.get(head, ""), head)
    if scope.keywords is not None and head not in scope.keywords:
        raise Mistake(*_unknown(head, scope), tree.offset, len(head))

    def read(evaluation: Evaluation) -> Value:
        value = evaluation.item.get(head) or evaluation.attributes.get(head)
        if not rest and value.__class__ is str:  # nearly always
            return value
        value = plain(value)
        for step in rest:
            value = plain(value[0].get(step)) if value and isinstance(value, list) else ""
        return value or ""

    return _told(read, ".".join(tree.steps))


def _unknown(name: str, scope: Scope) -> tuple[str, str]:
    """Fact and hint about a name that nothing has filled yet."""
    if name in scope.circles:
        return f"'{name}' is made of itself: {scope.circles[name]}", "one must do without the other"
    if name in scope.later:
        hint = "put it above this line: an expression uses what stands above it"
        return f"'{name}' stands further down", hint
    constant = f"a constant is written {{const: {name}}}, or in quotes within an expression"
    if vr_of(name):
        return f"'{name}' is filled nowhere above this line", constant
    known = (scope.keywords or frozenset()) | scope.names
    return f"'{name}' is not known here", did_you_mean(name, known) or constant


def _given(given: Given, scope: Scope, whole: bool) -> Closure:
    """What stands under `let:` is worked out once, unless it looks at what `each:` walks."""
    closure = compile_expression(given.tree, scope, whole=whole)
    if scope.element and any(path.segment == scope.element for path in paths_in(given.tree)):
        return closure
    key = (given.name, whole)

    def read(evaluation: Evaluation) -> Value:
        kept, watch = evaluation.kept.get(key), evaluation.watch
        steps = len(watch.steps) if watch is not None else 0
        if kept is None:
            before = evaluation.rank
            evaluation.rank = 0
            value = closure(evaluation)
            kept = (value, evaluation.rank, evaluation.origin, evaluation.origin_segment)
            evaluation.kept[key] = kept
            evaluation.rank = before
            if watch is not None:
                watch.given[key] = watch.steps[steps:]
        elif watch is not None:
            watch.steps += watch.given[key]
        value, rank, origin, segment = kept
        if value:
            if rank > evaluation.rank:
                evaluation.rank = rank
            evaluation.origin, evaluation.origin_segment = origin, segment
            if watch is not None:
                note(evaluation, f"let {given.name}", value)
        return value

    return read


def _sum(terms: tuple[Expression, ...], scope: Scope) -> Closure:
    parts = [(compile_expression(term, scope), isinstance(term, Text)) for term in terms]
    labels = [_label(term) for term in terms]

    def read(evaluation: Evaluation) -> str:
        texts = []
        said = erased = False
        for part, constant in parts:
            text = one(part(evaluation))
            if text == NULL:
                erased, text = True, ""
            said = said or (bool(text) and not constant)
            texts.append(text)
        if not said:
            return NULL if erased else ""
        if evaluation.watch is not None:
            summands = (label.format(text) for label, text in zip(labels, texts, strict=True))
            note(evaluation, " + ".join(summands), "".join(texts), source=True)
        return "".join(texts)

    return read


def _label(term: Expression) -> str:
    """How people are told of one summand: a format for its text."""
    if isinstance(term, Text):
        return "'{}'"
    source = term.source if isinstance(term, Pipe) else term
    name = getattr(source, "label", "") or getattr(source, "name", "")
    name = name or ".".join(getattr(source, "steps", ())) or "…"
    calls = "".join(f" | {call}" for call in term.calls) if isinstance(term, Pipe) else ""
    return f"{name}{calls}".replace("{", "{{").replace("}", "}}") + " '{}'"


def _parts(terms: tuple[Expression, ...], scope: Scope) -> Closure:
    """The key of a table with several key columns."""
    parts = [compile_expression(term, scope) for term in terms]
    labels = [_label(term) for term in terms]

    def read(evaluation: Evaluation) -> str:
        texts = [one(part(evaluation)).strip() for part in parts]
        texts = ["" if text == NULL else text for text in texts]
        if any(texts) and evaluation.watch is not None:
            summands = (label.format(text) for label, text in zip(labels, texts, strict=True))
            note(evaluation, f"({', '.join(summands)})", "|".join(texts), source=True)
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
    functions = [function_of(call) for call in calls]
    judge_keys(source, calls, scope)
    for call, function in zip(calls[1:], functions[1:], strict=True):
        if function.takes == "field":
            fact = f"'{call.function}' needs a field and must be the first function"
            raise Mistake(fact, "", call.offset, len(call.function))
    closure = compile_expression(source, scope, whole=functions[0].takes == "field")
    if functions[0].takes == "field" and not isinstance(source, (Path, Alternatives, Given)):
        fact = f"'{calls[0].function}' needs a field, as PID-5"
        raise Mistake(fact, "", calls[0].offset, len(calls[0].function))
    for call, function in zip(calls, functions, strict=True):
        closure = applied(closure, function, arguments_of(call, function, scope), str(call))
    return closure


def _selection(selector: Selector | None, what: str, scope: Scope) -> Select | None:
    if selector is None:
        return None
    if isinstance(selector, int):
        number = selector
        return lambda _, found: found[number - 1 : number]
    if isinstance(selector, After):
        raise Mistake("'after' selects segments, not repetitions")
    if isinstance(selector, str):
        return (lambda _, found: found) if selector == "all" else (lambda _, found: found[-1:])
    predicate = predicate_of(selector) if what == "repetition" else None
    if predicate is not None:
        return lambda _, found: [each for each in found if predicate(each.components())]
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
            if _is_part(operand, scope):
                return _part_among(operand, frozenset(texts), wanted)
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

    def every(evaluation: Evaluation) -> bool:
        for test in tests:  # noqa: SIM110 - a generator takes longer than three tests
            if not test(evaluation):
                return False
        return True

    return every


def _operand(tree: Expression, scope: Scope) -> Callable[[Evaluation], str]:
    if _is_part(tree, scope):
        component, subcomponent = tree.field, tree.component

        def read_part(evaluation: Evaluation) -> str:
            text = evaluation.element.text(component, subcomponent)
            return "" if text == NULL else text.strip()

        return read_part
    closure = compile_expression(tree, scope)
    if reading_of(tree, scope) and isinstance(tree, Path) and tree.segment != scope.element:
        return _field_text(tree, closure)
    return _kept_apart(closure)


def _is_part(tree: Expression, scope: Scope) -> TypeGuard[Path]:
    """Whether an operand is a component of the repetition that a predicate looks at."""
    return isinstance(tree, Path) and not tree.segment and scope.element == "."


def _part_among(path: Path, words: frozenset[str], wanted: bool) -> Test:
    component, subcomponent = path.field, path.component

    def test(evaluation: Evaluation) -> bool:
        text = evaluation.element.text(component, subcomponent)
        return (("" if text == NULL else text.strip()) in words) is wanted

    return test


def _field_text(path: Path, closure: Closure) -> Callable[[Evaluation], str]:
    """The text of a field without repetitions and escapes: what nearly every condition asks."""
    name, number, component = path.segment, path.field, path.component or 1
    whole = _kept_apart(closure)

    def read(evaluation: Evaluation) -> str:
        found = evaluation.firsts[name]
        raw = found[1][number] if found is not None and number < len(found[1]) else ""
        if not raw:
            return ""
        separators = evaluation.separators
        if separators.repetition in raw or separators.escape in raw or NULL in raw:
            return whole(evaluation)
        if component == 1 and separators.component not in raw:
            return raw.strip()
        parts = raw.split(separators.component, component)
        return parts[component - 1].strip() if component <= len(parts) else ""

    return read


def _kept_apart(closure: Closure) -> Callable[[Evaluation], str]:
    """What a condition reads is no origin of a value."""

    def read(evaluation: Evaluation) -> str:
        rank, origin, segment = evaluation.rank, evaluation.origin, evaluation.origin_segment
        watch = evaluation.watch
        steps = len(watch.steps) if watch is not None else 0
        try:
            text = one(closure(evaluation))
        except Unfit:  # a table that refuses: a condition on what it does not have does not hold
            text = ""
        evaluation.rank, evaluation.origin, evaluation.origin_segment = rank, origin, segment
        if watch is not None:
            del watch.steps[steps:]
        return "" if text == NULL else text.strip()

    return read
