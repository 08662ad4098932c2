"""A mapping file's models to closures; every mistake becomes a complaint at its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from zoneinfo import ZoneInfo

from broker.hl7.charsets import CharsetPolicy
from broker.mapping.compiling.accepting import messages, senders
from broker.mapping.compiling.attributing import compile_rules, numbering_of
from broker.mapping.compiling.compiler import Compiler
from broker.mapping.compiling.sourcing import judge_sources
from broker.mapping.compiling.tabulating import add_tables
from broker.mapping.files.overlaying import Layered
from broker.mapping.files.rules import ActionRule, InboundFile, SourceRule
from broker.mapping.language.parsing import parse_condition
from broker.mapping.language.reaching import unreached
from broker.mapping.language.syntax import Mistake, substituted
from broker.mapping.running.applying import Inbound, Source
from broker.mapping.running.deciding import ActionLine, Decisions, asked_by
from broker.mapping.running.leaf import Place
from broker.mapping.running.shapes import Shapes
from broker.worklist.changes import Action
from broker.worklist.policies import Policies

NAMES: dict[str, str] = {
    "message_time": "when the sender wrote the message (MSH-7), else when it was received",
    "received": "when the message was received, in the site's time",
    "now": "the same",
    "today": "the day on which the message was received",
    "issuer": "the issuer of the source",
}
MOST_UNUSED = 20
"""Tables or names that are each told to be used nowhere."""
INBOUND_NAMES = frozenset(NAMES)


def compile_inbound(file: InboundFile, layered: Layered) -> tuple[Inbound, Compiler]:
    """The mapping, and the compiler with its complaints; useless when there are any."""
    root = layered.root
    compiler = Compiler(root, layered.versions, INBOUND_NAMES, [*layered.complaints])
    compiler.complete = file.abstract == "no"
    add_tables(compiler, file.tables)
    compiler.add_given(file.let)
    actions = _actions(compiler, file.actions)
    rules = compile_rules(compiler, file.attributes, root.at(["attributes"]), (), frozenset())
    _judge_unused(compiler, "tables", "table", file.tables.keys() - compiler.used_tables)
    _judge_unused(compiler, "let", "name", file.let.keys() - compiler.used_given)
    if compiler.complete and any(line.action is Action.SCHEDULE for line in actions.lines):
        judge_sources(compiler, rules, layered.own)
    inbound = Inbound(
        file.mapping,
        root.source.name,
        frozenset(messages(compiler, file.accept.messages, file.accept.versions)),
        tuple(senders(compiler, file.accept.senders)),
        tuple(file.accept.versions),
        _source_of(file.source),
        file.changes,
        actions,
        rules,
        Shapes(rules),
        frozenset(map(int, file.accept.ports)),
        numbering_of(compiler, file.attributes),
    )
    return inbound, compiler


def _judge_unused(compiler: Compiler, block: str, what: str, names: AbstractSet[str]) -> None:
    node = compiler.root.at([block])
    own = [name for name in sorted(names) if node.key_source(name) is compiler.root.source]
    if compiler.unread:  # what that mentions is not known
        return
    for name in own[:MOST_UNUSED]:  # those of the base others may use
        unused = node.key_complaint(name, f"{what} '{name}' is used nowhere")
        compiler.complaints.append(replace(unused, severity="warning"))
    if len(own) > MOST_UNUSED:
        fact = f"{len(own) - MOST_UNUSED} more below are used nowhere"
        rest = node.key_complaint(own[MOST_UNUSED], fact)
        compiler.complaints.append(replace(rest, severity="warning"))


def _source_of(rule: SourceRule) -> Callable[[str, str, str], Source]:
    zone = ZoneInfo(rule.timezone) if rule.timezone else None
    charset = CharsetPolicy(
        tuple(rule.charset.unlabelled), tuple(rule.charset.fallback), rule.charset.unknown
    )

    policies = Policies(rule.patient_from, rule.missing_steps, rule.groups, rule.after_start)

    def source(name: str, _application: str, facility: str) -> Source:
        return Source(
            name=name,
            issuer=rule.issuer or facility,
            timezone=zone,
            charset=charset,
            when_store_down=rule.when_store_down,
            validate=rule.validate_,
            ack=rule.ack,
            policies=policies,
        )

    return source


def _actions(compiler: Compiler, rules: Sequence[ActionRule]) -> Decisions:
    lines: list[ActionLine] = []
    scope = compiler.scope(frozenset())
    before = len(compiler.complaints)
    for number, rule in enumerate(rules):
        node = compiler.root.at(["actions", number])
        wrong = _line_mistake(rule, is_last=number == len(rules) - 1)
        if wrong:
            key, *words = wrong
            compiler.complaints.append(node.key_complaint(key, *words))
        if rule.otherwise is not None:
            lines.append(ActionLine(rule.otherwise, None, rule.note, node.place))
        elif rule.when is not None:
            test = compiler.condition(node.at(["when"]), scope)
            lines.append(ActionLine(rule.do or Action.IGNORE, test, rule.note, node.place))
    if len(compiler.complaints) == before:
        _judge_reach(compiler, rules)
    if all(rule.otherwise is None for rule in rules):
        node = compiler.root.at(["actions"])
        hint = "end with 'otherwise: ignore', so that nothing falls through"
        compiler.complaints.append(node.complaint("the actions table has no 'otherwise'", hint))
        lines.append(ActionLine(Action.IGNORE, None, "", node.place))
    return Decisions(lines, _asked(compiler, rules))


def _asked(compiler: Compiler, rules: Sequence[ActionRule]) -> tuple[Place, ...] | None:
    try:
        conditions = [parse_condition(rule.when) for rule in rules if rule.when]
    except Mistake:
        return None  # told already
    return asked_by(substituted(tuple(conditions), compiler.given))


def _line_mistake(rule: ActionRule, *, is_last: bool) -> tuple[str, str, str] | None:
    """Key, fact and hint of a line that is no line of an actions table."""
    if rule.otherwise is not None:
        if rule.when or rule.do:
            return "otherwise", "'otherwise' stands alone", "take 'when' and 'do' to another line"
        if not is_last:
            fact = "'otherwise' stands last: no message reaches the lines below it"
            return "otherwise", fact, "move it to the end of the table"
    elif rule.when is None and rule.do is None:
        return "", "a line has 'when' and 'do', or 'otherwise'", ""
    elif rule.when is None:
        return "do", "'when' is missing", "for every other message write 'otherwise'"
    elif rule.do is None:
        return "when", "'do' is missing", f"one of {', '.join(Action)}"
    return None


def _judge_reach(compiler: Compiler, rules: Sequence[ActionRule]) -> None:
    try:
        conditions = [parse_condition(rule.when) if rule.when else None for rule in rules]
    except Mistake:
        return  # told already
    for number in unreached(substituted(tuple(conditions), compiler.given)):
        node = compiler.root.at(["actions", number])
        fact = "no message reaches this line: the lines above take all it would"
        compiler.complaints.append(replace(node.complaint(fact), severity="warning"))
