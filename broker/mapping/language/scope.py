"""What the words of an expression mean where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.mapping.values.evaluation import Evaluation
from broker.mapping.values.tables import Table

Test = Callable[[Evaluation], bool]


Select = Callable[[Evaluation, list[Any]], list[Any]]


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
    # What stands further down, and names of the `let:` block that are made of themselves.
    later: frozenset[str] = frozenset()
    circles: Mapping[str, str] = field(default_factory=dict)
