"""How large an expression is once every name of `let:` stands for what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from broker.mapping.language.mentioning import inside
from broker.mapping.language.syntax import Given, Mistake

MOST_TERMS: Final = 500
DEEPEST: Final = 60
MOST_TERMS_IN_FILE: Final = 50_000


@dataclass
class Measure:
    """Bounds what the expressions of one file come to; a name counts as often as it is used."""

    given: dict[str, tuple[int, int]] = field(default_factory=dict)
    terms: int = 0

    def judge(self, tree: Any) -> tuple[int, int]:
        """Terms and depth of a tree, counted into the file. Raises Mistake."""
        terms, depth = self._of(tree)
        if terms > MOST_TERMS or depth > DEEPEST:
            what = f"{terms:,} terms" if terms > MOST_TERMS else f"{depth} levels"
            most = f"{MOST_TERMS} terms" if terms > MOST_TERMS else f"{DEEPEST} levels"
            hint = f"{most} at most; names of 'let:' count as what they stand for"
            raise Mistake(f"comes to {what} when its names are written out", hint)
        self.terms += terms
        if self.terms > MOST_TERMS_IN_FILE:
            raise Mistake(
                f"the expressions of this mapping come to more than {MOST_TERMS_IN_FILE:,} terms",
                "names of 'let:' count as often as they are used",
            )
        return terms, depth

    def name(self, name: str, tree: Any) -> None:
        """Remember what a name of `let:` comes to; its tree was judged."""
        self.given[name] = self._of(tree)

    def _of(self, tree: Any) -> tuple[int, int]:
        if isinstance(tree, Given) and tree.name in self.given:
            terms, depth = self.given[tree.name]
            return terms + 1, depth + 1
        parts = [self._of(each) for each in inside(tree)]
        return 1 + sum(terms for terms, _ in parts), 1 + max((d for _, d in parts), default=0)
