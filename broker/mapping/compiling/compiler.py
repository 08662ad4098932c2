"""The expressions of one mapping file compiled, and all that is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from broker.mapping.compiling.kinds import Finding, judge_source, judge_stamps
from broker.mapping.compiling.looking import Walked, judge_arguments, judge_inside
from broker.mapping.language.calling import arguments_of, function_of
from broker.mapping.language.expressions import compile_condition, compile_expression
from broker.mapping.language.measuring import Measure
from broker.mapping.language.mentioning import (
    calls_in,
    heads_in,
    names_in,
    paths_in,
    pipes_in,
    selecting,
)
from broker.mapping.language.parsing import parse_condition, parse_expression
from broker.mapping.language.scope import Scope, Test
from broker.mapping.language.syntax import (
    Alternatives,
    Call,
    Condition,
    Expression,
    Mistake,
    Path,
    Pipe,
    Text,
    substituted,
)
from broker.mapping.standards.dictionaries import data_type, path_mistake, vr_of
from broker.mapping.standards.habits import remedy
from broker.mapping.text.nearest import meant
from broker.mapping.text.nodes import Complaint, Node
from broker.mapping.values.evaluation import Closure, Evaluation
from broker.mapping.values.functions import TABLE
from broker.mapping.values.tables import Table


def _read_call(call: Call, scope: Scope) -> object:
    return arguments_of(call, function_of(call), scope)


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
    # Where a value of a table is written.
    written: dict[str, Callable[[str], Node]] = field(default_factory=dict)
    used_tables: set[str] = field(default_factory=set)
    used_given: set[str] = field(default_factory=set)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = True
    unread: bool = False  # an expression could not be read: what it mentions is not known
    given: dict[str, Expression] = field(default_factory=dict)
    measure: Measure = field(default_factory=Measure)
    walked: tuple[Walked, ...] = ()  # what `each:` walks, where an expression stands under it

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
        tree: Expression | None = None
        try:
            tree = substituted(parse_expression(node.text or ""), self.given)
            self.measure.judge(tree)
            closure = compile_expression(tree, scope, whole=whole)
        except Mistake as mistake:
            self._mistaken(node, mistake, tree, scope, condition=False)
            return _nothing, None
        self._judge(node, tree)
        return closure, tree

    def condition(self, node: Node, scope: Scope) -> Test:
        tree: Condition | None = None
        try:
            tree = substituted(parse_condition(node.text or ""), self.given)
            self.measure.judge(tree)
            test = compile_condition(tree, scope)
        except Mistake as mistake:
            self._mistaken(node, mistake, tree, scope, condition=True)
            return lambda _: False
        self._judge(node, tree)
        return test

    def is_quiet(self, node: Node) -> bool:
        """Whether the condition in a node calls nothing: asking it leaves no trace."""
        try:
            tree = substituted(parse_condition(node.text or ""), self.given)
        except Mistake:
            return False
        return not any(calls_in(tree))

    def _mistaken(
        self,
        node: Node,
        mistake: Mistake,
        tree: Expression | Condition | None,
        scope: Scope,
        *,
        condition: bool,
    ) -> None:
        """The mistake that ended the reading of an expression, and what else is wrong with it."""
        self._helped(node, mistake, condition=condition)
        if tree is None:
            self.unread = True  # what it mentions is not known
            return
        readings: list[Callable[[], object]] = [
            partial(_read_call, call, scope) for call in calls_in(tree)
        ]
        readings += [partial(compile_expression, name, scope) for name in heads_in(tree)]
        for reading in readings:
            try:
                reading()
            except Mistake as another:
                self._helped(node, another, condition=condition)
        self._judge_paths(node, tree)

    def _helped(self, node: Node, mistake: Mistake, *, condition: bool) -> None:
        """Tell a mistake, with the remedy for what is written so elsewhere."""
        hint = remedy(node.text or "", mistake.offset, condition=condition) or mistake.hint
        self._mistake(node, Mistake(mistake.fact, hint, mistake.offset, mistake.width))

    def _mistake(self, node: Node, mistake: Mistake) -> None:
        complaint = node.complaint(
            mistake.fact, mistake.hint, offset=mistake.offset, width=mistake.width
        )
        self.complaints.append(complaint)

    def _judge_paths(self, node: Node, tree: Expression | Condition) -> None:
        written = list(paths_in(tree))
        for path in (*written, *(each for outer in written for each in selecting(outer))):
            wrong = path_mistake(
                self.versions(node), path.segment, path.field, path.component, path.subcomponent
            )
            if wrong:
                self._mistake(node, Mistake(*wrong, path.offset, len(path.label)))
        self.used_given.update(names_in(tree))
        for call in calls_in(tree):
            function = TABLE.get(call.function)
            self.unread |= function is None
            if function is not None and function.names_table:
                name = str(call.arguments[0]) if call.arguments else ""
                self.used_tables.add(name if name in self.tables else meant(name, self.tables))

    def _judge(self, node: Node, tree: Expression | Condition) -> None:
        self._judge_paths(node, tree)
        for pipe in pipes_in(tree):
            self._judge_types(node, pipe)
            self._found(node, judge_stamps(pipe, self.versions(node)))
            self._found(node, judge_arguments(pipe, self.versions(node)))
        self._found(node, judge_inside(tree, self.versions(node), self.walked))

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

    def source(self, node: Node, keyword: str, tree: Expression | None, scope: Scope) -> None:
        """Judge an expression as the source of an attribute."""
        if tree is not None:
            self._found(node, judge_source(keyword, tree, scope, self.versions(node)))

    def _found(self, node: Node, findings: Iterable[Finding]) -> None:
        for fact, hint, offset, width, severity in findings:
            complaint = node.complaint(fact, hint, offset=offset, width=width)
            self.complaints.append(replace(complaint, severity=severity))

    def add_given(self, texts: Mapping[str, str]) -> None:
        """The `let:` block: names for expressions that several attributes share."""
        circles = self._circles(texts)
        for name in texts:
            node = self.root.at(["let", name])
            if not name.isidentifier() or name in self.names or vr_of(name):
                hint = "a small word of its own, as patient_id"
                block = self.root.at(["let"])
                self.complaints.append(
                    block.key_complaint(name, f"'{name}' cannot be a name", hint)
                )
                self.used_given.add(name)
            later = frozenset(texts.keys() - self.given.keys())
            scope = replace(self.scope(frozenset()), later=later, circles=circles)
            _, tree = self.expression(node, scope)
            self.given[name] = tree if tree is not None else Text("")
            self.measure.name(name, self.given[name])

    def _circles(self, texts: Mapping[str, str]) -> dict[str, str]:
        """For names that are made of themselves the way round."""
        uses: dict[str, list[str]] = {}
        for name, text in texts.items():
            try:
                heads = [each.steps[0] for each in heads_in(parse_expression(text))]
            except Mistake:
                continue  # told where it is compiled
            uses[name] = [head for head in dict.fromkeys(heads) if head in texts]
            self.used_given.update(each for each in uses[name] if each != name)
        found = {}
        for name in uses:
            way = _way_round(uses, name)
            if way:
                found[name] = " → ".join(way)
                self.used_given.add(name)
        return found


def _way_round(uses: Mapping[str, Sequence[str]], name: str) -> list[str]:
    """From a name over those it is made of back to itself, [] when there is no such way."""
    ways, seen = [[name]], {name}
    for way in ways:  # grows while it is walked
        for used in uses.get(way[-1], ()):
            if used == name:
                return [*way, name]
            if used not in seen:
                seen.add(used)
                ways.append([*way, used])
    return []
