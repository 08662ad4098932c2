"""The grammar of mapping expressions: text to a tree, with the place of every mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NoReturn

from broker.mapping.language.patterns import safe_pattern
from broker.mapping.language.syntax import (
    After,
    Alternatives,
    Call,
    Compare,
    Condition,
    Every,
    Expression,
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

# expr = alternatives ('|' function)*   alternatives = sum ('??' sum)*   sum = term ('+' term)*
# term = path | 'text' | name | (expr)   path = SEG[selector]-field[selector].component.subcomponent
TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>\d+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\?\?|!=|[-=|+()\[\],.])|(?P<end>$))"
)
DASHED: Final = re.compile(r"\b([A-Z][A-Z0-9]{2}-\d+)-(\d+)")
SEGMENT: Final = re.compile(r"[A-Z][A-Z0-9]{2}")
MAX_LENGTH: Final = 1000
MAX_DEPTH: Final = 20
MOST_KNOWN: Final = 512
"""Expressions that are kept parsed: overlays say most of their base's again."""


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    offset: int

    @property
    def width(self) -> int:
        return max(1, len(self.text) + (2 if self.kind == "text" else 0))


@lru_cache(MOST_KNOWN)
def parse_expression(text: str) -> Expression:
    """Raises Mistake."""
    parser = _Parser(text)
    expression = parser.expression()
    parser.finish()
    return expression


@lru_cache(MOST_KNOWN)
def parse_condition(text: str) -> Condition:
    """Raises Mistake."""
    parser = _Parser(text)
    condition = parser.condition()
    parser.finish()
    return condition


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while True:
        match = TOKEN.match(text, position)
        if match is None:
            rest = text[position:]
            offset = position + len(rest) - len(rest.lstrip())
            what = (
                "a text is not closed" if text[offset] == "'" else f"'{text[offset]}' is not known"
            )
            hint = "texts stand in single quotes" if text[offset] in "\"'" else ""
            raise Mistake(what, hint, offset)
        kind = match.lastgroup or "end"
        word = match[kind]
        value = word[1:-1].replace("''", "'") if kind == "text" else word
        yield Token(kind, value, match.start(kind))
        if kind == "end":
            return
        position = match.end()


class _Parser:
    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise Mistake(f"is longer than {MAX_LENGTH} characters")
        self.text = text
        self.tokens = list(_tokens(text))
        self.position = 0
        self.depth = 0

    # tokens

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def take(self) -> Token:
        token = self.token
        self.position += 1
        return token

    def accept(self, *texts: str) -> Token | None:
        token = self.token
        known = token.kind in ("sign", "name") and token.text in texts
        return self.take() if known else None

    def expect(self, text: str, why: str) -> Token:
        return self.accept(text) or self.fail(f"'{text}' is missing {why}")

    def fail(self, fact: str, hint: str = "") -> NoReturn:
        raise Mistake(fact, hint, self.token.offset, self.token.width)

    def number(self, what: str) -> int:
        token = self.token
        hint = "counted from 1, as in PID-3.4.1"
        if token.kind != "number":
            self.fail(f"the number of a {what} is missing", hint)
        if not token.text.strip("0"):
            self.fail(f"there is no {what} {token.text}", hint)
        if token.text.startswith("0"):
            self.fail(f"{token.text} begins with 0", f"write {token.text.lstrip('0')}")
        if len(token.text) > 4:
            self.fail(f"no {what} has a number as large as {token.text[:20]}")
        return int(self.take().text)

    def finish(self) -> None:
        if self.token.kind != "end":
            place = DASHED.search(self.text) if self.token.text == "-" else None
            hint = f"write {place[1]}.{place[2]}" if place else ""
            self.fail(f"'{self.token.text}' is not expected here", hint)

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail("is nested too deeply")

    # expressions

    def expression(self) -> Expression:
        source = self.alternatives()
        calls: list[Call] = []
        while self.accept("|"):
            calls.append(self.call())
        return Pipe(source, tuple(calls)) if calls else source

    def alternatives(self) -> Expression:
        choices = [self.sum()]
        while self.accept("??"):
            choices.append(self.sum())
        return Alternatives(tuple(choices)) if len(choices) > 1 else choices[0]

    def sum(self) -> Expression:
        terms = [self.term()]
        while self.accept("+"):
            terms.append(self.term())
        return Sum(tuple(terms)) if len(terms) > 1 else terms[0]

    def term(self) -> Expression:
        token = self.token
        if token.kind == "text":
            return Text(self.take().text)
        if token.text == "(" and token.kind == "sign":
            self.take()
            self.deeper()
            inner = [self.expression()]
            while self.accept(","):
                inner.append(self.expression())
            self.expect(")", "after the expression")
            return Parts(tuple(inner)) if len(inner) > 1 else inner[0]
        if token.text == "." and token.kind == "sign":
            return self.relative_path()
        if token.kind != "name":
            self.fail("a path, a 'text' or a name is missing", "for example PID-3.1")
        following = self.tokens[self.position + 1]
        if SEGMENT.fullmatch(token.text) and following.text in ("-", "["):
            return self.path()
        return self.name()

    def name(self) -> Name:
        token = self.take()
        steps = [token.text]
        while self.token.text == "." and self.tokens[self.position + 1].kind == "name":
            self.take()
            steps.append(self.take().text)
        return Name(tuple(steps), token.offset)

    def call(self) -> Call:
        token = self.token
        if token.kind != "name":
            self.fail("a function is missing after '|'", "as in PID-5 | person")
        self.take()
        arguments: list[str] = []
        places: list[int] = []
        if self.accept("("):
            while not self.accept(")"):
                if arguments:
                    self.expect(",", "between arguments")
                if self.token.kind not in ("text", "name", "number"):
                    self.fail("an argument is missing")
                places.append(self.token.offset + (self.token.kind == "text"))
                arguments.append(self.take().text)
        return Call(token.text, tuple(arguments), token.offset, tuple(places))

    # paths

    def path(self) -> Path:
        head = self.take()
        segment_selector = self.selector(segment=True)
        self.expect("-", "between segment and field")
        field = self.number("field")
        field_selector = self.selector()
        component, subcomponent = self.parts()
        label = self.text[head.offset : self.end()]
        return Path(
            head.text, segment_selector, field, field_selector, component, subcomponent,
            label, head.offset,
        )  # fmt: skip

    def relative_path(self) -> Path:
        start = self.take().offset
        first = self.number("component")
        second, third = self.parts()
        return Path("", None, first, None, second, third, self.text[start : self.end()], start)

    def parts(self) -> tuple[int, int]:
        component = self.number("component") if self.accept(".") else 0
        subcomponent = self.number("subcomponent") if component and self.accept(".") else 0
        return component, subcomponent

    def end(self) -> int:
        last = self.tokens[self.position - 1]
        return last.offset + last.width

    def selector(self, *, segment: bool = False) -> Selector | None:
        if not self.accept("["):
            return None
        selector: Selector
        if self.token.kind == "number":
            selector = self.number("repetition")
        elif word := self.accept("last", "all"):
            selector = word.text
        elif segment and self.accept("after"):
            name = self.token.text
            if self.token.kind != "name" or not SEGMENT.fullmatch(name):
                self.fail("the name of a segment is missing", "as in NTE[after OBR]-3")
            self.take()
            selector = After(name)
        else:
            self.deeper()
            selector = self.condition()
        self.expect("]", "after the selection")
        return selector

    # conditions

    def condition(self) -> Condition:
        parts = [self.conjunction()]
        while self.accept("or"):
            parts.append(self.conjunction())
        return Some(tuple(parts)) if len(parts) > 1 else parts[0]

    def conjunction(self) -> Condition:
        parts = [self.negation()]
        while self.accept("and"):
            parts.append(self.negation())
        return Every(tuple(parts)) if len(parts) > 1 else parts[0]

    def negation(self) -> Condition:
        self.deeper()
        if self.accept("not"):
            condition: Condition = Not(self.negation())
        elif self.token.text == "(" and self.token.kind == "sign" and not self._is_expression():
            self.take()
            condition = self.condition()
            self.expect(")", "after the condition")
        else:
            condition = self.comparison()
        self.depth -= 1
        return condition

    def _is_expression(self) -> bool:
        """Whether the parenthesis that opens here is followed by an operator: (a ?? b) = 'x'."""
        depth = 0
        for index in range(self.position, len(self.tokens)):
            token = self.tokens[index]
            if token.kind == "sign":
                depth += {"(": 1, ")": -1}.get(token.text, 0)
            if depth == 0:
                operators = ("=", "!=", "in", "matches", "valued", "not")
                return self.tokens[index + 1].text in operators
        return False

    def comparison(self) -> Condition:
        operand = self.alternatives()
        if self.accept("not"):
            return Not(self.compared(operand, ("valued", "matches", "in")))
        return self.compared(operand)

    def compared(self, operand: Expression, words: tuple[str, ...] = ()) -> Condition:
        if words and self.token.text not in words:
            self.fail("a comparison is missing", f"one of not {', not '.join(words)}")
        if self.accept("valued"):
            return Valued(operand)
        if self.accept("matches"):
            token = self.token
            if token.kind != "text":
                self.fail("a pattern in quotes is missing")
            self.take()
            return Matches(operand, safe_pattern(token.text, token.offset))
        if self.accept("in"):
            self.expect("(", "after 'in'")
            texts = [self.word()]
            while self.accept(","):
                texts.append(self.word())
            self.expect(")", "after the list")
            return Compare(operand, tuple(texts), True)
        sign = self.accept("=", "!=")
        if sign is None:
            self.fail("a comparison is missing", "one of = != in matches valued")
        return Compare(operand, (self.word(),), sign.text == "=")

    def word(self) -> str:
        if self.token.kind not in ("text", "name", "number"):
            self.fail("a value is missing", "a word, a number or a 'text'")
        return self.take().text
