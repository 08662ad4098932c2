"""A mapping file's models to closures; every mistake becomes a complaint at its place."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any
from zoneinfo import ZoneInfo

from broker.hl7.charsets import CharsetPolicy
from broker.mapping.applying import ActionLine, Inbound, Items, Leaf, Option, Source
from broker.mapping.dictionaries import (
    data_type,
    is_multiple,
    keyword_mistake,
    path_mistake,
    vr_of,
)
from broker.mapping.document import Complaint, Complaints, Node, decode, did_you_mean
from broker.mapping.evaluation import Closure, Evaluation, Origin
from broker.mapping.expressions import (
    Scope,
    Test,
    calls_in,
    compile_condition,
    compile_expression,
    paths_in,
)
from broker.mapping.fitting import fit_for
from broker.mapping.functions import TABLE, Table
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
    Path,
    Pipe,
    Text,
    parse_condition,
    parse_expression,
    substituted,
)
from broker.worklist.attributes import ROWS, STEPS
from broker.worklist.changes import Action

INBOUND_NAMES = frozenset({"message_time", "received", "issuer"})
MAX_ROWS = 100_000
ANY_OTHER = "*"


def _nothing(_: Evaluation) -> str:
    return ""


@dataclass
class Compiler:
    """Compiles the expressions of one file and gathers what is wrong with it."""

    root: Node
    folder: FilePath
    versions: Sequence[str]
    names: frozenset[str]
    complaints: list[Complaint] = field(default_factory=list)
    tables: dict[str, Table] = field(default_factory=dict)
    used_tables: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    given: dict[str, Expression] = field(default_factory=dict)

    def scope(self, keywords: frozenset[str], element: str = "") -> Scope:
        return Scope(self.tables, element, self.names, keywords)

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
                self.versions, path.segment, path.field, path.component, path.subcomponent
            )
            if wrong:
                self._mistake(node, Mistake(*wrong, path.offset, len(path.label)))
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
            kind = data_type(self.versions, path.segment, path.field)
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
            rows = rule.rows if rule.file is None else self._csv(node, rule)
            default = rows.get(ANY_OTHER)
            folded = {key.strip().upper(): value for key, value in rows.items() if key != ANY_OTHER}
            plain = {key: value for key, value in rows.items() if key != ANY_OTHER}
            self.tables[name] = Table(name, plain, default, folded)

    def _csv(self, node: Node, rule: TableRule) -> dict[str, str]:
        where = node.at(["file"])
        text = self._beside(where, rule.file or "")
        if text is None:
            return {}
        reader = csv.DictReader(io.StringIO(text), strict=True)
        shown = f"{FilePath(node.source.name).parent / (rule.file or '')}"
        try:
            return self._rows(node, rule, reader, shown)
        except csv.Error as error:
            self.complaints.append(Complaint(shown, reader.line_num, 1, f"is not CSV: {error}"))
            return {}

    def _rows(
        self, node: Node, rule: TableRule, reader: csv.DictReader[str], shown: str
    ) -> dict[str, str]:
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        for wanted, key in ((rule.key, "key"), (rule.value, "value")):
            if wanted not in columns:
                hint = did_you_mean(wanted, columns) or f"columns: {', '.join(columns)}"
                place = node.at([key])
                self.complaints.append(place.complaint(f"{shown} has no column '{wanted}'", hint))
                return {}
        rows: dict[str, str] = {}
        for row in reader:
            key, value = (row[rule.key] or "").strip(), (row[rule.value] or "").strip()
            if not key or key.startswith("#"):
                continue
            if key in rows:
                fact = f"'{key}' again; the first row holds"
                self.complaints.append(Complaint(shown, reader.line_num, 1, fact))
            if len(rows) >= MAX_ROWS:
                raise csv.Error(f"more than {MAX_ROWS:,} rows")
            rows.setdefault(key, value)
        return rows

    def _beside(self, node: Node, name: str) -> str | None:
        """The text of a file named in the mapping; it must lie below the mapping's folder."""
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            self.complaints.append(node.complaint("lies outside the folder of the mapping"))
            return None
        try:
            data = path.read_bytes()
        except OSError as error:
            reason = (error.strerror or type(error).__name__).lower()
            self.complaints.append(node.complaint(f"'{name}' cannot be read: {reason}"))
            return None
        self.files[name] = data
        try:
            return decode(data, str(FilePath(node.source.name).parent / name))
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


def compile_inbound(file: InboundFile, root: Node, folder: FilePath) -> tuple[Inbound, Compiler]:
    """The mapping, and the compiler with its complaints; useless when there are any."""
    compiler = Compiler(root, folder, tuple(file.accept.versions), INBOUND_NAMES)
    compiler.add_tables(file.tables)
    compiler.add_given(file.let)
    actions = _actions(compiler, file.actions)
    rules = _rules(compiler, file.attributes, root.at(["attributes"]), (), frozenset())
    for name in file.tables.keys() - compiler.used_tables:
        unused = root.at(["tables"]).key_complaint(name, f"table '{name}' is used nowhere")
        compiler.complaints.append(replace(unused, severity="warning"))
    inbound = Inbound(
        file.mapping,
        root.source.name,
        frozenset(_messages(compiler, file.accept.messages)),
        tuple(_senders(compiler, file.accept.senders)),
        _source_of(file.source),
        file.changes == "per order",
        actions,
        rules,
    )
    return inbound, compiler


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
    if not lines or lines[-1].test is not None:
        node = compiler.root.at(["actions"])
        hint = "end with 'otherwise: ignore', so that nothing falls through"
        compiler.complaints.append(node.complaint("the actions table has no 'otherwise'", hint))
        lines.append(ActionLine(Action.IGNORE, None, "", node.place))
    return tuple(lines)


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
    options, trees = _options(compiler, rule.from_, node, "from", scope)
    defaults, _ = _options(compiler, rule.default, node, "default", scope)
    if (rule.const is None) == (not options):
        fact = "needs a source: a path, 'from', 'const' or 'item'"
        compiler.complaints.append(node.complaint(fact if not options else "has two sources"))
    when = compiler.condition(node.at(["when"]), scope) if rule.when is not None else None
    # A source with a condition of its own is no place where the value is missed.
    always = (tree for option, tree in zip(options, trees, strict=False) if option.test is None)
    paths = [path for tree in always for path in _sources(tree)]
    return Leaf(
        keyword,
        "/".join((*parents, keyword)),
        node.place,
        options,
        defaults,
        rule.const,
        when,
        None if vr == "SQ" else fit_for(keyword, vr, rule.too_long),
        is_multiple(keyword),
        vr == "SQ",
        rule.required,
        rule.unfit == "reject",
        any(TABLE[call.function].names_table for tree in trees for call in calls_in(tree)),
        tuple(Origin(path.label, path.segment, path.field, path.component) for path in paths),
        bool(defaults) or rule.required != "no" or rule.unfit == "reject",
        rule.required == "no" and not (keyword in ROWS and ROWS[keyword].returned == "1"),
    )


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
    elements, element = _elements(compiler, rule, node, scope)
    when = compiler.condition(node.at(["when"]), scope) if rule.when is not None else None
    inner = _rules(
        compiler,
        rule.item or {},
        node.at(["item"]),
        (*parents, keyword),
        scope.keywords or frozenset(),
        element or scope.element,
    )
    return Items(keyword, inner, elements, when, tuple(rule.leave_out), keyword == STEPS)


def _elements(
    compiler: Compiler, rule: AttributeRule, node: Node, scope: Scope
) -> tuple[Callable[[Evaluation], Sequence[Any]], str]:
    """What `each:` walks: segments of a name, or the repetitions of a field ('.')."""
    if rule.each is None:
        return lambda evaluation: (evaluation.element,), ""
    name = rule.each.strip()
    if name.isalnum() and len(name) == 3:
        wrong = path_mistake(compiler.versions, name, 1, 0, 0)
        if wrong:
            compiler.complaints.append(node.at(["each"]).complaint(*wrong))
        return lambda evaluation: evaluation.segments.all(name) or (None,), name
    closure, _ = compiler.expression(node.at(["each"]), scope, whole=True)
    return lambda evaluation: closure(evaluation) or (), "."
