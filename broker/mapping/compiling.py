"""A mapping file's models to closures; every mistake becomes a complaint at its place."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.charsets import CharsetPolicy
from broker.mapping.applying import ActionLine, Inbound, Items, Leaf, Option, Place, Source
from broker.mapping.dictionaries import (
    data_type,
    is_multiple,
    keyword_mistake,
    path_mistake,
    vr_of,
)
from broker.mapping.document import (
    Complaint,
    Complaints,
    Node,
    decode,
    did_you_mean,
    read_bytes,
    why,
)
from broker.mapping.evaluation import Closure, Evaluation, Origin, Unfit
from broker.mapping.expressions import (
    Scope,
    Test,
    calls_in,
    compile_condition,
    compile_expression,
    names_in,
    paths_in,
)
from broker.mapping.fitting import Fit, fit_for
from broker.mapping.functions import TABLE
from broker.mapping.identifying import mistake, stand_in
from broker.mapping.overlaying import Layered
from broker.mapping.reaching import unreached
from broker.mapping.rules import (
    ActionRule,
    AttributeRule,
    Choice,
    InboundFile,
    SourceRule,
    TableRule,
)
from broker.mapping.syntax import (
    Alternatives,
    Condition,
    Expression,
    Given,
    Mistake,
    Parts,
    Path,
    Pipe,
    Sum,
    Text,
    parse_condition,
    parse_expression,
    substituted,
)
from broker.mapping.tables import ANY_OTHER, Table, table_of
from broker.worklist.attributes import ROWS, STEPS
from broker.worklist.changes import Action

NAMES: dict[str, str] = {
    "message_time": "when the sender wrote the message (MSH-7), else when it was received",
    "received": "when the message was received, in the site's time",
    "now": "the same",
    "today": "the day on which the message was received",
    "issuer": "the issuer of the source",
}
INBOUND_NAMES = frozenset(NAMES)
MAX_ROWS = 100_000
DERIVED_LATER = frozenset({"StudyInstanceUID", "RequestedProcedureID", "ScheduledProcedureStepID"})
"""Type 1 attributes that the worklist derives where a message has none."""
NEEDED = (
    "AccessionNumber",  # the identity of an order
    *(key for key, row in ROWS.items() if row.returned == "1" and key not in DERIVED_LATER),
)
NEEDED_EITHER = (
    ("RequestedProcedureDescription", "RequestedProcedureCodeSequence"),
    ("ScheduledProcedureStepDescription", "ScheduledProtocolCodeSequence"),
)


def _nothing(_: Evaluation) -> str:
    return ""


@dataclass
class Compiler:
    """Compiles the expressions of one file and gathers what is wrong with it."""

    root: Node
    versions_of: Mapping[str, Sequence[str]]
    names: frozenset[str]
    complaints: list[Complaint] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    used_tables: set[str] = field(default_factory=set)
    used_given: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = True
    given: dict[str, Expression] = field(default_factory=dict)

    def scope(self, keywords: frozenset[str], element: str = "") -> Scope:
        return Scope(self.tables, element, self.names, keywords)

    def versions(self, node: Node) -> Sequence[str]:
        """The HL7 versions that the file of a node was written for."""
        return self.versions_of[node.source.name]

    def is_own(self, node: Node) -> bool:
        """Whether a node stands in the mapping itself and not in what it extends."""
        return node.source is self.root.source

    # expressions

    def expression(
        self, node: Node, scope: Scope, *, whole: bool = False
    ) -> tuple[Closure, Expression | None]:
        """The closure of the expression in a node, and its tree; None after a mistake."""
        try:
            tree = substituted(parse_expression(node.text or ""), self.given)
            closure = compile_expression(tree, scope, whole=whole)
        except Mistake as mistake:
            self._mistake(node, mistake)
            return _nothing, None
        self._judge(node, tree)
        return closure, tree

    def condition(self, node: Node, scope: Scope) -> Test:
        try:
            tree = substituted(parse_condition(node.text or ""), self.given)
            test = compile_condition(tree, scope)
        except Mistake as mistake:
            self._mistake(node, mistake)
            return lambda _: False
        self._judge(node, tree)
        return test

    def _mistake(self, node: Node, mistake: Mistake) -> None:
        complaint = node.complaint(
            mistake.fact, mistake.hint, offset=mistake.offset, width=mistake.width
        )
        self.complaints.append(complaint)

    def _judge(self, node: Node, tree: Expression | Condition) -> None:
        for path in paths_in(tree):
            wrong = path_mistake(
                self.versions(node), path.segment, path.field, path.component, path.subcomponent
            )
            if wrong:
                self._mistake(node, Mistake(*wrong, path.offset, len(path.label)))
        self.used_given.update(names_in(tree))
        for call in calls_in(tree):
            if TABLE[call.function].names_table:
                self.used_tables.add(call.arguments[0])
        for pipe in _pipes(tree):
            self._judge_types(node, pipe)

    def _judge_types(self, node: Node, pipe: Pipe) -> None:
        function = TABLE[pipe.calls[0].function]
        choices = pipe.source.choices if isinstance(pipe.source, Alternatives) else (pipe.source,)
        for path in choices:
            if not (isinstance(path, Path) and function.types and path.segment):
                continue
            kind = data_type(self.versions(node), path.segment, path.field)
            if kind and kind not in function.types:
                fact = f"'{function.name}' does not understand {kind}, the type of {path.label}"
                others = (each.name for each in TABLE.values() if kind in each.types)
                hint = f"for {kind} there is: {', '.join(others) or 'nothing special'}"
                self._mistake(node, Mistake(fact, hint, path.offset, len(path.label)))

    def add_given(self, texts: Mapping[str, str]) -> None:
        """The `let:` block: names for expressions that several attributes share."""
        for name in texts:
            node = self.root.at(["let", name])
            if not name.isidentifier() or name in self.names or vr_of(name):
                hint = "a small word of its own, as patient_id"
                self.complaints.append(node.complaint(f"'{name}' cannot be a name here", hint))
            _, tree = self.expression(node, self.scope(frozenset()))
            self.given[name] = tree if tree is not None else Text("")

    # tables

    def add_tables(self, rules: dict[str, TableRule]) -> None:
        for name, rule in rules.items():
            node = self.root.at(["tables", name])
            rows = dict(self._inline(node, rule))
            if rule.file is not None:
                rows = self._csv(node, rule) | rows
            table = table_of(
                name,
                rows.items(),
                exact=rule.case == "exact",
                default=rule.default,
                on_miss=rule.on_miss or "default",
                parts=len(rule.key),
            )
            if rule.on_miss == "default" and table.default is None:
                hint = "write 'default:', or a row for '*'"
                place = node.at(["on_miss"])
                self.complaints.append(place.complaint("there is no default to give", hint))
            self.tables[name] = table

    def _inline(self, node: Node, rule: TableRule) -> Iterator[tuple[tuple[str, ...], str]]:
        for text, value in rule.rows.items():
            parts = text.split("|") if len(rule.key) > 1 and text != ANY_OTHER else [text]
            if len(parts) != len(rule.key) and text != ANY_OTHER:
                rows = node.at(["rows"])
                fact = f"'{text}' has {len(parts)} parts, the key has {len(rule.key)}"
                self.complaints.append(rows.key_complaint(text, fact, "write CT|WARD3"))
            elif text == ANY_OTHER:
                yield (ANY_OTHER,) * len(rule.key), value
            else:
                yield tuple(part.strip() for part in parts), value

    def _csv(self, node: Node, rule: TableRule) -> dict[tuple[str, ...], str]:
        where = node.at(["file"])
        text = self._beside(where, rule.file or "")
        if text is None:
            return {}
        shown = f"{FilePath(where.source.name).parent / (rule.file or '')}"
        if "\0" in text:
            self.complaints.append(Complaint(shown, 1, 1, "is not CSV: it holds NUL bytes"))
            return {}
        reader = csv.DictReader(io.StringIO(text), strict=True)
        try:
            return self._rows(node, rule, reader, shown)
        except csv.Error as error:
            self.complaints.append(Complaint(shown, reader.line_num, 1, f"is not CSV: {error}"))
            return {}

    def _rows(
        self, node: Node, rule: TableRule, reader: csv.DictReader[str], shown: str
    ) -> dict[tuple[str, ...], str]:
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        if not self._has_columns(node, rule, columns, shown):
            return {}
        rows: dict[tuple[str, ...], str] = {}
        for row in reader:
            key = tuple((row[column] or "").strip() for column in rule.key)
            if not any(key) or key[0].startswith("#"):
                continue
            wrong = "has more cells than columns" if None in row else ""
            wrong = f"'{'|'.join(key)}' again; the first row holds" if key in rows else wrong
            if wrong:
                self.complaints.append(Complaint(shown, reader.line_num, 1, wrong))
            if len(rows) >= MAX_ROWS:
                raise csv.Error(f"more than {MAX_ROWS:,} rows")
            rows.setdefault(key, (row[rule.value] or "").strip())
        return rows

    def _has_columns(self, node: Node, rule: TableRule, columns: Sequence[str], shown: str) -> bool:
        missing = False
        wanted: list[tuple[str, list[str | int]]] = [
            (column, ["key", number]) for number, column in enumerate(rule.key)
        ]
        wanted.append((rule.value, ["value"]))
        for column, where in wanted:
            if column not in columns:
                hint = did_you_mean(column, columns) or f"columns: {', '.join(columns)}"
                fact = f"{shown} has no column '{column}'"
                self.complaints.append(node.at(where).complaint(fact, hint))
                missing = True
        return not missing

    def _beside(self, node: Node, name: str) -> str | None:
        """The text of a file named in the mapping; it must lie below the mapping's folder."""
        folder = FilePath(node.source.name).parent
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            self.complaints.append(node.complaint("lies outside the folder of the mapping"))
            return None
        try:
            data = read_bytes(folder / name)
        except OSError as error:
            self.complaints.append(node.complaint(f"'{name}' cannot be read: {why(error)}"))
            return None
        self.files[str(folder / name)] = data
        try:
            return decode(data, str(folder / name))
        except Complaints as complaints:
            self.complaints.extend(complaints.complaints)
            return None


def _pipes(tree: Any) -> list[Pipe]:
    found = [tree] if isinstance(tree, Pipe) else []
    for name in ("choices", "terms", "conditions"):
        for inner in getattr(tree, name, ()):
            found += _pipes(inner)
    for name in ("source", "operand", "condition"):
        if hasattr(tree, name):
            found += _pipes(getattr(tree, name))
    return found


# inbound


def compile_inbound(file: InboundFile, layered: Layered) -> tuple[Inbound, Compiler]:
    """The mapping, and the compiler with its complaints; useless when there are any."""
    root = layered.root
    compiler = Compiler(root, layered.versions, INBOUND_NAMES, [*layered.warnings])
    compiler.complete = file.abstract == "no"
    compiler.add_tables(file.tables)
    compiler.add_given(file.let)
    actions = _actions(compiler, file.actions)
    rules = _rules(compiler, file.attributes, root.at(["attributes"]), (), frozenset())
    _judge_unused(compiler, "tables", "table", file.tables.keys() - compiler.used_tables)
    _judge_unused(compiler, "let", "name", file.let.keys() - compiler.used_given)
    if compiler.complete and any(line.action is Action.SCHEDULE for line in actions):
        _judge_sources(compiler, rules)
    inbound = Inbound(
        file.mapping,
        root.source.name,
        frozenset(_messages(compiler, file.accept.messages)),
        tuple(_senders(compiler, file.accept.senders)),
        tuple(file.accept.versions),
        _source_of(file.source),
        file.changes == "per order",
        actions,
        rules,
    )
    return inbound, compiler


def _judge_unused(compiler: Compiler, block: str, what: str, names: AbstractSet[str]) -> None:
    for name in sorted(names):
        node = compiler.root.at([block])
        if node.key_source(name) is not compiler.root.source:
            continue  # of the base: others may use it
        unused = node.key_complaint(name, f"{what} '{name}' is used nowhere")
        compiler.complaints.append(replace(unused, severity="warning"))


def _judge_sources(compiler: Compiler, rules: Sequence[Leaf | Items]) -> None:
    """Whether an order that schedules can be a worklist item: type 1 of Table K.6-1 (PS3.4)."""
    steps = next(
        (each.rules for each in rules if isinstance(each, Items) and each.keyword == STEPS), ()
    )
    filled = {each.keyword for each in (*rules, *steps) if isinstance(each, Leaf)}
    place = compiler.root.key_complaint("attributes", "")
    lacking = [keyword for keyword in NEEDED if keyword not in filled]
    if lacking:
        fact = f"nothing fills {', '.join(lacking)}"
        hint = "no worklist item is without (type 1, PS3.4 Table K.6-1): name a field or a default"
        compiler.complaints.append(replace(place, fact=fact, hint=hint))
    for either in NEEDED_EITHER:
        if filled.isdisjoint(either):
            fact = f"nothing fills {' or '.join(either)}"
            hint = "scanners show one of them (type 1C, PS3.4 Table K.6-1)"
            warning = replace(place, fact=fact, hint=hint, severity="warning")
            compiler.complaints.append(warning)


def _messages(compiler: Compiler, messages: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for number, text in enumerate(messages):
        kind, _, trigger = text.partition("^")
        if not (kind and trigger):
            node = compiler.root.at(["accept", "messages", number])
            hint = "write type^trigger, as ORM^O01, or ADT^* for every trigger"
            compiler.complaints.append(node.complaint(f"'{text}' is not a message type", hint))
        found.append((kind, trigger))
    return found


def _senders(compiler: Compiler, senders: Sequence[str]) -> list[tuple[str, str]]:
    found = []
    for number, text in enumerate(senders):
        application, bar, facility = text.partition("|")
        if not (bar and application and facility):
            node = compiler.root.at(["accept", "senders", number])
            hint = "write MSH-3|MSH-4, as EPIC|NORTH or EPIC|*"
            compiler.complaints.append(node.complaint(f"'{text}' is not a sender", hint))
        found.append((application.strip(), facility.strip()))
    return found


def _source_of(rule: SourceRule) -> Callable[[str, str, str], Source]:
    zone = ZoneInfo(rule.timezone) if rule.timezone else None
    charset = CharsetPolicy(
        tuple(rule.charset.unlabelled), tuple(rule.charset.fallback), rule.charset.unknown
    )

    def source(name: str, _application: str, facility: str) -> Source:
        return Source(
            name, rule.issuer or facility, zone, charset, rule.when_store_down, rule.validate_
        )

    return source


def _actions(compiler: Compiler, rules: Sequence[ActionRule]) -> tuple[ActionLine, ...]:
    lines: list[ActionLine] = []
    scope = compiler.scope(frozenset())
    for number, rule in enumerate(rules):
        node = compiler.root.at(["actions", number])
        last = number == len(rules) - 1
        if rule.otherwise is not None:
            if not last or rule.when or rule.do:
                compiler.complaints.append(node.complaint("'otherwise' stands alone and last"))
            lines.append(ActionLine(rule.otherwise, None, rule.note, node.place))
        elif rule.when is None or rule.do is None:
            compiler.complaints.append(node.complaint("a line has 'when' and 'do', or 'otherwise'"))
        else:
            test = compiler.condition(node.at(["when"]), scope)
            lines.append(ActionLine(rule.do, test, rule.note, node.place))
    _judge_reach(compiler, rules)
    if not lines or lines[-1].test is not None:
        node = compiler.root.at(["actions"])
        hint = "end with 'otherwise: ignore', so that nothing falls through"
        compiler.complaints.append(node.complaint("the actions table has no 'otherwise'", hint))
        lines.append(ActionLine(Action.IGNORE, None, "", node.place))
    return tuple(lines)


def _judge_reach(compiler: Compiler, rules: Sequence[ActionRule]) -> None:
    try:
        conditions = [parse_condition(rule.when) if rule.when else None for rule in rules]
    except Mistake:
        return  # told already
    for number in unreached(substituted(tuple(conditions), compiler.given)):
        node = compiler.root.at(["actions", number])
        fact = "no message reaches this line: the lines above take all it would"
        compiler.complaints.append(replace(node.complaint(fact), severity="warning"))


def _rules(
    compiler: Compiler,
    attributes: dict[str, AttributeRule],
    node: Node,
    parents: tuple[str, ...],
    known: frozenset[str],
    element: str = "",
) -> tuple[Leaf | Items, ...]:
    rules: list[Leaf | Items] = []
    for keyword, rule in attributes.items():
        if not _allowed(compiler, node, keyword, parents):
            continue
        scope = compiler.scope(known, element)
        if rule.item is not None:
            rules.append(_items(compiler, keyword, rule, node.at([keyword]), parents, scope))
        else:
            rules.append(_leaf(compiler, keyword, rule, node.at([keyword]), parents, scope))
        known |= {keyword}  # an expression may use what stands above it
    return tuple(rules)


def _allowed(compiler: Compiler, node: Node, keyword: str, parents: tuple[str, ...]) -> bool:
    wrong = keyword_mistake(keyword, parents)
    if wrong is None:
        return True
    fact, hint, severity = wrong
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
    vr = vr_of(keyword)
    rule, missing = _missing(compiler, keyword, rule, node, scope)
    options, trees = _options(compiler, rule.from_, node, "from", scope)
    defaults, default_trees = _options(compiler, rule.default, node, "default", scope)
    defaults += missing
    fit = None if vr == "SQ" else fit_for(keyword, vr, rule.too_long)
    _judge_values(compiler, keyword, rule, node, [*trees, *default_trees], fit)
    if (rule.const is None) == (not options):
        fact = "needs a source: a path, 'from', 'const' or 'item'"
        compiler.complaints.append(node.complaint(fact if not options else "has two sources"))
    when = compiler.condition(node.at(["when"]), scope) if rule.when is not None else None
    # A source with a condition of its own is no place where the value is missed.
    always = (tree for option, tree in zip(options, trees, strict=False) if option.test is None)
    paths = [path for tree in always for path in _sources(tree)]
    insists = bool(defaults) or rule.required != "no" or rule.unfit == "reject"
    erasable = rule.required == "no" and not (keyword in ROWS and ROWS[keyword].returned == "1")
    alone = len(options) == 1 and options[0].test is None and when is None
    simple = alone and erasable and not insists and rule.const is None
    return Leaf(
        keyword,
        "/".join((*parents, keyword)),
        node.place,
        options,
        defaults,
        rule.const,
        when,
        fit,
        is_multiple(keyword),
        vr == "SQ",
        rule.required,
        rule.unfit == "reject",
        any(TABLE[call.function].names_table for tree in trees for call in calls_in(tree)),
        tuple(Origin(path.label, path.segment, path.field, path.component) for path in paths),
        insists,
        erasable,
        None if insists or rule.const is not None else _needs(trees, scope.element),
        options[0].read if simple else None,
    )


def _missing(
    compiler: Compiler, keyword: str, rule: AttributeRule, node: Node, scope: Scope
) -> tuple[AttributeRule, tuple[Option, ...]]:
    """The rule and one more default, after the policy for an identifier that is missing."""
    policy = rule.missing
    if policy is None:
        return rule, ()
    place = node.at(["missing"])
    wrong = mistake(keyword, policy)
    if wrong:
        compiler.complaints.append(place.complaint(*wrong))
        return rule, ()
    if policy == "accept":
        return rule.model_copy(update={"required": "no"}), ()
    if rule.required == "no":
        rule = rule.model_copy(update={"required": "schedule"})
    text = stand_in(keyword, policy)
    if not text:
        return rule, ()
    closure, _ = compiler.expression(replace(place, value=text, text_column=0), scope)
    return rule, (Option(closure),)


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
        return
    if rule.const and (unfit := _unfit(fit, rule.const)):
        compiler.complaints.append(node.at(["const"]).complaint(f"the constant {unfit}"))
    for tree in trees:
        last = tree.calls[-1] if isinstance(tree, Pipe) else None
        if last is None or last.function != "lookup":
            continue
        table = compiler.tables[last.arguments[0]]
        values = [*table.rows.values(), table.default or "", *last.arguments[1:]]
        for value in dict.fromkeys(values):
            if value and (unfit := _unfit(fit, value)):
                fact = f"'{value[:40]}' of table '{table.name}' {unfit}, as {keyword} must be"
                compiler.complaints.append(compiler.root.at(["tables", table.name]).complaint(fact))


def _unfit(fit: Fit, text: str) -> str:
    try:
        fit(Evaluation(), text)
    except Unfit as unfit:
        return unfit.fact
    return ""


def _sources(tree: Expression) -> list[Path]:
    """The paths a value is read from, without those that only select."""
    if isinstance(tree, Path):
        return [tree] if tree.segment else []
    inner: Sequence[Expression] = ()
    if isinstance(tree, Pipe):
        inner = (tree.source,)
    elif isinstance(tree, Given):
        inner = (tree.tree,)
    elif isinstance(tree, Alternatives):
        inner = tree.choices
    else:
        inner = getattr(tree, "terms", ())
    return [path for each in inner for path in _sources(each)]


def _needs(trees: Sequence[Expression], element: str) -> frozenset[Place] | None:
    """Fields without all of which these expressions say nothing; None when they may anyway."""
    needed: frozenset[Place] = frozenset()
    for tree in trees:
        inner: frozenset[Place] | None
        if isinstance(tree, Path):
            anywhere = tree.segment_selector is not None or tree.segment == element
            place = (tree.segment, 0 if anywhere else tree.field)
            inner = frozenset({place}) if tree.segment else None
        elif isinstance(tree, Pipe):
            speaks = any(call.function == "default" for call in tree.calls)
            inner = None if speaks else _needs([tree.source], element)
        elif isinstance(tree, Given):
            inner = _needs([tree.tree], element)
        elif isinstance(tree, Alternatives):
            inner = _needs(tree.choices, element)
        elif isinstance(tree, (Sum, Parts)):
            said = [term for term in tree.terms if not isinstance(term, Text)]
            inner = _needs(said, element) if said else None
        else:
            inner = None  # a text or a name speaks for itself
        if inner is None:
            return None
        needed |= inner
    return needed


def _options(
    compiler: Compiler, choices: Sequence[Choice], node: Node, key: str, scope: Scope
) -> tuple[tuple[Option, ...], list[Expression]]:
    options: list[Option] = []
    trees: list[Expression] = []
    for number, choice in enumerate(choices):
        place = node.at([key, number])
        closure, tree = compiler.expression(place.at(["from"]), scope)
        test = compiler.condition(place.at(["when"]), scope) if choice.when is not None else None
        options.append(Option(closure, test))
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
    inner = _rules(
        compiler,
        rule.item or {},
        node.at(["item"]),
        (*parents, keyword),
        scope.keywords or frozenset(),
        element or scope.element,
    )
    needs = _needs([each], scope.element) if each is not None else None
    return Items(keyword, inner, elements, when, tuple(rule.leave_out), keyword == STEPS, needs)


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
