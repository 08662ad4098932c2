"""The form in which one AE gets its answers: what is left out, put in, cut, how names look."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydicom.datadict import dictionary_VR

from broker.worklist.attributes import ROWS, Kept
from broker.worklist.changes import Attributes
from broker.worklist.query.matching import Query
from broker.worklist.rules import Rules


def with_extra(query: Query, rules: Rules) -> Query:
    """Give the query with what this AE gets unasked as universal keys.

    A step's attributes are added only where the step is asked for at all.
    """
    if not rules.extra:
        return query
    of_step = {keyword for keyword in rules.extra if ROWS[keyword].kept is Kept.STEP}
    top = dict.fromkeys((k for k in rules.extra if k not in of_step), "")
    step = query.step and {**dict.fromkeys(of_step, ""), **query.step}
    return query.with_keys({**top, **query.top}, step)


def in_capitals(query: Query) -> Query:
    """Give the query with its AE titles and codes in capitals, for a scanner that has no others."""
    step = query.step and {k: _upper(k, v) for k, v in query.step.items()}
    return query.with_keys({k: _upper(k, v) for k, v in query.top.items()}, step)


def is_in_capitals(keyword: str) -> bool:
    """Tell whether a key is an AE title or a code, which `upper_keys` reads in capitals."""
    return _is(keyword, "AE", "CS")


def _upper(keyword: str, key: Any) -> Any:
    if not is_in_capitals(keyword):
        return key
    return [str(value).upper() for value in key] if isinstance(key, list) else str(key).upper()


def formed(answer: Attributes, rules: Rules) -> Attributes:
    """Give an answer as this AE wants it; what it did not ask for is not put in."""
    if not shapes(rules):
        return answer
    return _formed(answer, rules, dict(rules.lengths), dict(rules.constants))


def shapes(rules: Rules) -> bool:
    """Tell whether these rules change an answer at all."""
    return bool(rules.omit or rules.constants or rules.lengths) or _shapes_names(rules)


def _formed(
    answer: Mapping[str, Any],
    rules: Rules,
    lengths: Mapping[str, int],
    constants: Mapping[str, str],
) -> Attributes:
    formed: Attributes = {}
    for keyword, value in answer.items():
        if keyword in rules.omit:
            continue
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            formed[keyword] = [
                _formed(item, rules, lengths, constants) if isinstance(item, Mapping) else item
                for item in value
            ]
            continue
        given: Any = constants.get(keyword, value)
        many = given if isinstance(given, list) else [given]
        texts = [_text(keyword, text, rules, lengths.get(keyword)) for text in many]
        formed[keyword] = texts if isinstance(given, list) else texts[0]
    return formed


def _text(keyword: str, value: Any, rules: Rules, length: int | None) -> Any:
    if not isinstance(value, str):
        return value
    if _is(keyword, "PN"):
        if _shapes_names(rules):
            value = _name(value, rules)
        return value if length is None else "=".join(_cut(g, length) for g in value.split("="))
    return value if length is None else _cut(value, length)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rstrip("^ ")


def _shapes_names(rules: Rules) -> bool:
    standard = ("all", "as stored", 5)
    return (rules.name_groups, rules.name_case, rules.name_components) != standard


def _name(value: str, rules: Rules) -> str:
    """Give a person's name in the groups and components that are wanted (PS3.5 6.2.1).

    A name of which the alphabetic group is empty keeps its other groups: it is all there is.
    """
    groups = value.split("=")
    if rules.name_groups == "alphabetic" and groups[0].strip("^ "):
        groups = groups[:1]
    short = ("^".join(group.split("^")[: rules.name_components]).rstrip("^") for group in groups)
    name = "=".join(short)
    return name.upper() if rules.name_case == "upper" else name


@lru_cache(maxsize=1024)
def _is(keyword: str, *vrs: str) -> bool:
    return dictionary_VR(keyword) in vrs
