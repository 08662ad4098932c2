"""Functions of whole fields, for the text of one that is clean: the same, and no object is made.

Clean is one repetition without an escape, a null or a control character, in the usual separators:
nearly every field. What is longer or less usual the functions themselves do. Names, addresses and
telephone numbers are each patient's own, so that nothing can be remembered of them: an order with
five of them takes 85 µs by this, and took 91, of which they had 20.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from broker.hl7.header import STANDARD
from broker.hl7.message import Repetition, Syntax
from broker.mapping.values.coding import NO_PARTS, address, phone
from broker.mapping.values.evaluation import Evaluation, Value
from broker.mapping.values.names import GROUP_LENGTH, person_name

_SYNTAX: Final = Syntax(STANDARD, "utf-8")
_BEFORE_SCRIPT: Final = 7
"""Components of an XPN before the one that says in which script it is."""


def _alone(text: str) -> list[Repetition]:
    return [Repetition(text, 1, _SYNTAX)]


def _person(evaluation: Evaluation, text: str) -> Value:
    parts = text.split("^")
    if len(parts) > _BEFORE_SCRIPT or "&" in text or "," in text or "=" in text:
        return person_name(evaluation, _alone(text))
    family, given, middle, suffix, prefix, degree = [*map(str.strip, parts), *NO_PARTS][:6]
    last = f"{suffix} {degree}".strip() if degree else suffix
    name = f"{family}^{given}^{middle}^{prefix}^{last}".rstrip("^")
    return name if len(name) <= GROUP_LENGTH else person_name(evaluation, _alone(text))


def _address(evaluation: Evaluation, text: str) -> str:
    if "&" in text:
        return address(evaluation, _alone(text))
    parts = [*map(str.strip, text.split("^")), *NO_PARTS]
    street, other, town, state, postcode, country = parts[:6]
    return " ".join([each for each in (street, other, postcode, town, state, country) if each])


def _phone(evaluation: Evaluation, text: str) -> Value:
    dialled = text.split("^", 1)[0].strip() if "^" in text else text.strip()
    return [dialled] if dialled else phone(evaluation, _alone(text))


OF_TEXT: Final[Mapping[Callable[..., Value], Callable[[Evaluation, str], Value]]] = {
    person_name: _person,
    address: _address,
    phone: _phone,
}
"""By the function that takes repetitions the one that takes a clean text."""
