"""The `attributes:` of a mapping file to the rules that fill them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from broker.mapping.compiling.compiler import Compiler
from broker.mapping.compiling.kinds import REMEDY, looked_up, texts_of
from broker.mapping.compiling.looking import walked_by
from broker.mapping.compiling.sourcing import needs, sources, stands_on
from broker.mapping.files.rules import AttributeRule, Choice
from broker.mapping.language.mentioning import calls_in
from broker.mapping.language.reading import origin_of, reading_of, selection_of
from broker.mapping.language.scope import Scope
from broker.mapping.language.syntax import Expression
from broker.mapping.running.items import Items
from broker.mapping.running.leaf import Leaf, Option
from broker.mapping.standards.dictionaries import (
    closest,
    is_multiple,
    keyword_mistake,
    path_mistake,
    vr_of,
)
from broker.mapping.standards.terms import odd_term
from broker.mapping.text.nodes import Complaint, Node
from broker.mapping.values.evaluation import Closure, Evaluation, Origin, Unfit
from broker.mapping.values.fitting import Fit, clean_limit, fit_for
from broker.mapping.values.functions import TABLE
from broker.mapping.values.identifying import USUAL_PATTERN, mistake, pattern_mistake, stand_in
from broker.worklist.attributes import RANKED, ROWS, STEPS

SEVERAL = "several values in one row: a / between them, and | split('/') behind the lookup"
OPTIONS = frozenset(info.alias or name for name, info in AttributeRule.model_fields.items())


def compile_rules(
    compiler: Compiler,
    attributes: dict[str, AttributeRule],
    node: Node,
    parents: tuple[str, ...],
    known: frozenset[str],
    element: str = "",
) -> tuple[Leaf | Items, ...]:
    rules: list[Leaf | Items] = []
    waiting = list(attributes)
    for written, rule in attributes.items():
        waiting.remove(written)
        keyword = written
        if not _allowed(compiler, node, keyword, parents):
            # Judged as what was perhaps meant, so that the rest of its mistakes is told as well.
            keyword = _stand_in(keyword, rule, parents)
        scope = replace(compiler.scope(known, element), later=frozenset(waiting))
        if rule.item is not None:
            rules.append(_items(compiler, keyword, rule, node.at([written]), parents, scope))
        else:
            rules.append(_leaf(compiler, keyword, rule, node.at([written]), parents, scope))
        known |= {keyword, written}  # an expression may use what stands above it
    return tuple(rules)


def _stand_in(keyword: str, rule: AttributeRule, parents: tuple[str, ...]) -> str:
    if vr_of(keyword):
        return keyword
    close = closest(keyword, parents)
    if close and (vr_of(close) == "SQ") == (rule.item is not None):
        return close
    return "PatientComments" if rule.item is None else "ReferencedPatientSequence"


def _allowed(compiler: Compiler, node: Node, keyword: str, parents: tuple[str, ...]) -> bool:
    wrong = keyword_mistake(keyword, parents)
    if wrong is None:
        return True
    fact, hint, severity = wrong
    if keyword in OPTIONS:
        hint = "it is an option of an attribute: indent it below one, beside its 'from:'"
    complaint = node.key_complaint(keyword, fact, hint)
    compiler.complaints.append(replace(complaint, severity=severity))
    return severity != "error"


def _leaf(
    compiler: Compiler,
    keyword: str,
    rule: AttributeRule,
    node: Node,
    parents: tuple[str, ...],
    scope: Scope,
) -> Leaf:
    generated = rule.missing == "generate"
    rule, missing = _missing(compiler, keyword, rule, node, scope)
    options, trees = _options(compiler, keyword, rule.from_, node, "from", scope)
    defaults, default_trees = _options(compiler, keyword, rule.default, node, "default", scope)
    ranked = keyword in RANKED if rule.ranked is None else rule.ranked == "yes"
    if ranked:
        options, defaults = _only_filling(options), _only_filling(defaults)
    vr = vr_of(keyword)
    fit = None if vr == "SQ" else fit_for(keyword, vr, rule.too_long)
    _judge_values(compiler, keyword, rule, node, [*trees, *default_trees], fit)
    if (rule.const is None) == (not options):
        fact = "needs a source: a path, 'from', 'const' or 'item'"
        compiler.complaints.append(node.complaint(fact if not options else "has two sources"))
    type_1 = keyword in ROWS and ROWS[keyword].returned == "1"
    leaf = Leaf(
        keyword=keyword,
        name="/".join((*parents, keyword)),
        place=node.place,
        options=options,
        defaults=(*defaults, *missing),
        constant=_constant(rule.const, fit),
        test=compiler.condition(node.at(["when"]), scope) if rule.when is not None else None,
        fit=fit,
        multiple=is_multiple(keyword),
        is_sequence=vr == "SQ",
        required=rule.required,
        refuse_unfit=rule.unfit == "reject",
        table=_table_named(trees),
        places=_places(options, trees),
        erasable=rule.required == "no" and not generated and not type_1,
        walked=scope.element,
        clean_limit=clean_limit(vr),
        ranked=ranked,
    )
    demanded = leaf.required != "no" or leaf.refuse_unfit
    leaf = replace(leaf, insists=demanded or bool(leaf.defaults))
    silent = not demanded and not missing and _is_quiet(compiler, rule, node) and _is_silent(leaf)
    needed = needs([*trees, *default_trees], scope.element) if silent else None
    return replace(leaf, needs=needed, only=_only_source(leaf))


def _places(options: Sequence[Option], trees: Sequence[Expression]) -> tuple[Origin, ...]:
    """Where the value is missed: a source with a condition of its own is no such place."""
    always = (tree for option, tree in zip(options, trees, strict=False) if option.test is None)
    return tuple(origin_of(path) for tree in always for path in sources(tree))


def _is_silent(leaf: Leaf) -> bool:
    """Whether neither it nor a condition of a source speaks where no field is sent."""
    return leaf.constant is None and all(each.quiet for each in (*leaf.options, *leaf.defaults))


def _only_source(leaf: Leaf) -> Closure | None:
    """The source of a leaf of which nothing is to be asked before or after it is read."""
    if len(leaf.options) != 1 or leaf.insists or not leaf.erasable or leaf.constant is not None:
        return None
    [only] = leaf.options
    unconditional = leaf.test is None and only.test is None
    return only.read if unconditional and only.stands_on is None else None


def _only_filling(options: Sequence[Option]) -> tuple[Option, ...]:
    """Sources of an identifier: what was once derived follows nothing."""
    return tuple(replace(option, stands_on=None) for option in options)


def _is_quiet(compiler: Compiler, rule: AttributeRule, node: Node) -> bool:
    """Whether the condition of the rule itself leaves no trace where it does not hold."""
    return rule.when is None or compiler.is_quiet(node.at(["when"]))


def _table_named(trees: Sequence[Expression]) -> str:
    """The name of the first table that is looked up, '' when none is."""
    calls = (call for tree in trees for call in calls_in(tree))
    return next((str(call.arguments[0]) for call in calls if TABLE[call.function].names_table), "")


def _missing(
    compiler: Compiler, keyword: str, rule: AttributeRule, node: Node, scope: Scope
) -> tuple[AttributeRule, tuple[Option, ...]]:
    """The rule and one more default, after the policy for an identifier that is missing."""
    policy = rule.missing
    if rule.pattern is not None and policy != "generate":
        fact = "a pattern is for generated numbers: write 'missing: generate'"
        compiler.complaints.append(node.at(["pattern"]).complaint(fact))
    if policy is None:
        return rule, ()
    place = node.at(["missing"])
    wrong = mistake(keyword, policy)
    if wrong:
        compiler.complaints.append(place.complaint(*wrong))
        return rule, ()
    if policy in ("accept", "generate"):
        return rule.model_copy(update={"required": "no"}), ()
    if rule.required == "no":
        rule = rule.model_copy(update={"required": "schedule"})
    text = stand_in(keyword, policy)
    if not text:
        return rule, ()
    closure, _ = compiler.expression(replace(place, value=text, text_column=0), scope)
    return rule, (Option(closure),)


def numbering_of(compiler: Compiler, attributes: Mapping[str, AttributeRule]) -> str:
    """The pattern of accession numbers that are made where a message has none, '' for never."""
    rule = attributes.get("AccessionNumber")
    if rule is None or rule.missing != "generate":
        return ""
    pattern = USUAL_PATTERN if rule.pattern is None else rule.pattern
    wrong = pattern_mistake(pattern)
    if wrong:
        place = compiler.root.at(["attributes", "AccessionNumber", "pattern"])
        compiler.complaints.append(place.complaint(*wrong))
    return pattern


def _judge_values(
    compiler: Compiler,
    keyword: str,
    rule: AttributeRule,
    node: Node,
    trees: Sequence[Expression],
    fit: Fit | None,
) -> None:
    """Whether constants, and the tables that have the last word, hold only what may stand there."""
    if rule.too_long == "surrogate" and vr_of(keyword) not in ("SH", "LO"):
        fact = f"a surrogate stands for numbers, and {keyword} is none"
        compiler.complaints.append(node.at(["too_long"]).complaint(fact))
    if fit is None:
        if rule.const:
            fact = f"{keyword} is a sequence, this is text"
            compiler.complaints.append(node.at(["const"]).complaint(fact, REMEDY["SQ"]))
        return
    _judge_value(compiler, keyword, node.at(["const"]), "the constant", rule.const, fit)
    for tree in trees:
        for text, what in texts_of(tree):
            _judge_value(compiler, keyword, node, f"{what} '{text[:40]}'", text, fit)
        for name, separator in looked_up(tree):
            _judge_rows(compiler, keyword, name, separator, fit)


def _judge_rows(compiler: Compiler, keyword: str, name: str, separator: str, fit: Fit) -> None:
    """Whether the values of a table fit, or the parts that they are split into."""
    table, judged = compiler.tables[name], set[str]()
    for whole in dict.fromkeys((*table.rows.values(), table.default or "")):
        for part in map(str.strip, whole.split(separator)) if separator else (whole,):
            wrong = _wrong(keyword, part, fit, of_table=True) if part not in judged else None
            judged.add(part)
            if wrong is not None:
                what, place = f"'{part[:40]}' of table '{name}'", compiler.written[name](whole)
                compiler.complaints.append(wrong.told(place, what))


def _judge_value(
    compiler: Compiler, keyword: str, node: Node, what: str, value: str | None, fit: Fit
) -> None:
    """Whether a value that stands in the mapping fits its attribute, as the encoder will see it."""
    if wrong := _wrong(keyword, value or "", fit):
        compiler.complaints.append(wrong.told(node, what))


class _Wrong(NamedTuple):
    """Why a value that a mapping gives cannot stand in its attribute, or is odd there."""

    fact: str
    hint: str
    severity: str = "error"

    def told(self, node: Node, what: str) -> Complaint:
        """The complaint about it where it stands; `what` says what it is."""
        complaint = node.complaint(f"{what} {self.fact}", self.hint)
        return replace(complaint, severity=self.severity)


def _wrong(keyword: str, value: str, fit: Fit, *, of_table: bool = False) -> _Wrong | None:
    if not value:
        return None
    if unfit := _unfit(fit, value):
        needed = f", as {keyword} must be" if of_table else ""
        several = of_table and is_multiple(keyword) and "\\" in value
        return _Wrong(f"{unfit}{needed}", SEVERAL if several else "")
    if odd := odd_term(keyword, value):
        return _Wrong(*odd, "warning")
    return None


def _constant(text: str | None, fit: Fit | None) -> str | None:
    """A constant as it is stored; what does not fit was told."""
    if not text or fit is None:
        return text
    try:
        return fit(Evaluation(), text)
    except Unfit:
        return text


def _unfit(fit: Fit, text: str) -> str:
    try:
        fit(Evaluation(), text)
    except Unfit as unfit:
        return unfit.fact
    return ""


def _options(
    compiler: Compiler,
    keyword: str,
    choices: Sequence[Choice],
    node: Node,
    key: str,
    scope: Scope,
) -> tuple[tuple[Option, ...], list[Expression]]:
    options: list[Option] = []
    trees: list[Expression] = []
    for number, choice in enumerate(choices):
        place = node.at([key, number])
        closure, tree = compiler.expression(place.at(["from"]), scope)
        compiler.source(place.at(["from"]), keyword, tree, scope)
        test = compiler.condition(place.at(["when"]), scope) if choice.when is not None else None
        readings, selection = reading_of(tree, scope), selection_of(tree, scope)
        quiet = test is None or compiler.is_quiet(place.at(["when"]))
        follows = stands_on(tree, default=key == "default") if tree is not None else None
        needed = needs([tree], scope.element) if tree is not None else None
        options.append(Option(closure, test, readings, selection, quiet, follows, needed))
        if tree is not None:
            trees.append(tree)
    return tuple(options), trees


def _items(
    compiler: Compiler,
    keyword: str,
    rule: AttributeRule,
    node: Node,
    parents: tuple[str, ...],
    scope: Scope,
) -> Items:
    if vr_of(keyword) != "SQ":
        compiler.complaints.append(node.complaint(f"{keyword} is not a sequence: no 'item'"))
    elements, element, each = _elements(compiler, rule, node, scope)
    when = compiler.condition(node.at(["when"]), scope) if rule.when is not None else None
    outer = compiler.walked
    compiler.walked = (((element, 0),) if element != "." else walked_by(each)) if element else outer
    inner = compile_rules(
        compiler,
        rule.item or {},
        node.at(["item"]),
        (*parents, keyword),
        scope.keywords or frozenset(),
        element or scope.element,
    )
    compiler.walked = outer
    quiet = each is not None and _is_quiet(compiler, rule, node)
    needed = needs([each], scope.element) if each is not None and quiet else None
    return Items(keyword, inner, elements, when, tuple(rule.leave_out), keyword == STEPS, needed)


def _elements(
    compiler: Compiler, rule: AttributeRule, node: Node, scope: Scope
) -> tuple[Callable[[Evaluation], Sequence[Any]], str, Expression | None]:
    """What `each:` walks: segments of a name, or the repetitions of a field ('.')."""
    if rule.each is None:
        return lambda evaluation: (evaluation.element,), "", None
    name = rule.each.strip()
    if name.isalnum() and len(name) == 3:
        wrong = path_mistake(compiler.versions(node), name, 1, 0, 0)
        if wrong:
            compiler.complaints.append(node.at(["each"]).complaint(*wrong))
        return lambda evaluation: evaluation.segments.all(name) or (None,), name, None
    closure, tree = compiler.expression(node.at(["each"]), scope, whole=True)
    return lambda evaluation: closure(evaluation) or (), ".", tree
