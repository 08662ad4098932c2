"""Lookup tables: keys of one or several parts, upper and lower case, and what a miss means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from broker.mapping.values.evaluation import Evaluation, Unfit
from broker.worklist.changes import FILLS_GAPS

ANY_OTHER = "*"
PARTED = "\x1f"
"""Between the parts of a key: no text of a message holds it."""


@dataclass(frozen=True)
class Table:
    """A lookup table. A miss gives `default` ('' is absent, None is no default) after `on_miss`.

    `rows` are as written, `folded` the same in capitals when case does not matter. `parts` is how
    many a key has; `wild` tells which of them are '*' in some row, the most specific first.
    """

    name: str
    rows: Mapping[str, str]
    default: str | None = None
    folded: Mapping[str, str] = field(default_factory=dict)
    on_miss: str = "default"
    parts: int = 1
    wild: tuple[tuple[bool, ...], ...] = ()

    def find(self, text: str) -> str | None:
        """The value of a key, or None."""
        found = self.rows.get(text)
        if found is None:
            key = text.strip()
            found = self.folded.get(key.upper()) if self.folded else self.rows.get(key)
        return self._wild(text) if found is None and self.wild else found

    def _wild(self, text: str) -> str | None:
        rows = self.folded or self.rows
        parts = (text.upper() if self.folded else text).split(PARTED)
        for mask in self.wild:
            key = PARTED.join(
                ANY_OTHER if any_ else part for any_, part in zip(mask, parts, strict=False)
            )
            if key in rows:
                return rows[key]
        return None


def table_of(
    name: str,
    rows: Iterable[tuple[tuple[str, ...], str]],
    *,
    exact: bool = False,
    default: str | None = None,
    on_miss: str = "default",
    parts: int = 1,
) -> Table:
    """A table of rows with keys in parts; a key of '*' alone is the default."""
    plain: dict[str, str] = {}
    wild: set[tuple[bool, ...]] = set()
    for key, value in rows:
        mask = (
            tuple(part in (ANY_OTHER, "") for part in key) if parts > 1 else (key[0] == ANY_OTHER,)
        )
        if all(mask):
            default = value if default is None else default
            continue
        if any(mask):
            wild.add(mask)
        plain[
            PARTED.join(ANY_OTHER if any_ else part for any_, part in zip(mask, key, strict=True))
        ] = value
    folded = {} if exact else {key.upper(): value for key, value in plain.items()}
    order = tuple(sorted(wild, key=lambda mask: (sum(mask), mask)))
    return Table(name, plain, default, folded, on_miss, parts, order)


def lookup(evaluation: Evaluation, text: str, table: Table, *default: str) -> str:
    """The table's value; a miss gives the default, with its rank, or nothing and a warning.

    Raises Unfit where a miss is refused; where it is held, the evaluation knows of it.
    """
    found = table.find(text)
    if found is not None:
        return found
    evaluation.miss(table.name, text)
    fallback = default[0] if default else table.default
    if table.on_miss == "reject":
        raise not_in_table(table.name, final=True)
    if table.on_miss == "hold":
        evaluation.hold(table.name, text.replace(PARTED, "|"))
    if fallback is None:
        evaluation.warn(f"is not in table '{table.name}'")
        return ""
    evaluation.rank = FILLS_GAPS
    return fallback


def known_as(_: Evaluation, text: str, table: Table) -> str:
    """The table's value, else the text itself: a name that has no other one is no miss."""
    return table.find(text) or text


def not_in_table(name: str, *, final: bool = False) -> Unfit:
    """Why a value is refused that a table does not have."""
    return Unfit(
        f"is not in table '{name}'",
        "103",
        final=final,
        remedy="send a value that the table has, or add a row to it",
    )
