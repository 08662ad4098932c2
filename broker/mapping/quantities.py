"""Weights and lengths in the unit that DICOM wants."""

from __future__ import annotations

import re
from decimal import Decimal

from broker.mapping.evaluation import Evaluation

QUANTITY = re.compile(r"\s*([+-]?\d{1,9}(?:[.,]\d{1,9})?)\s*(\S{0,12})\s*")
MASS, LENGTH = "mass", "length"
UNITS: dict[str, tuple[str, Decimal]] = {
    **{name: (MASS, Decimal("1")) for name in ("kg", "kilogram", "kilograms")},
    **{name: (MASS, Decimal("0.001")) for name in ("g", "gram", "grams")},
    **{name: (MASS, Decimal("0.45359237")) for name in ("lb", "lbs", "[lb_av]", "pound", "pounds")},
    **{name: (MASS, Decimal("0.028349523125")) for name in ("oz", "[oz_av]", "ounce", "ounces")},
    **{name: (LENGTH, Decimal("1")) for name in ("m", "meter", "metre")},
    **{name: (LENGTH, Decimal("0.01")) for name in ("cm", "centimeter", "centimetre")},
    **{name: (LENGTH, Decimal("0.001")) for name in ("mm", "millimeter", "millimetre")},
    **{name: (LENGTH, Decimal("0.0254")) for name in ("in", "[in_i]", "inch", "inches")},
    **{name: (LENGTH, Decimal("0.3048")) for name in ("ft", "[ft_i]", "foot", "feet")},
}
"""Unit as people and UCUM write it: what it measures, and how many kilograms or metres it is."""


def convert(evaluation: Evaluation, text: str, unit: str, wanted: str) -> str:
    """A number in one unit as a number in another; what is no number is absent."""
    match = QUANTITY.fullmatch(text)
    if match is None or match[2]:
        evaluation.warn("is not a number")
        return ""
    return _converted(match[1], unit, wanted)


def measure(evaluation: Evaluation, text: str, wanted: str) -> str:
    """A number followed by its unit; without a unit, or with a strange one, it says nothing."""
    match = QUANTITY.fullmatch(text)
    unit = match[2].lower().rstrip(".") if match else ""
    if match is None or unit not in UNITS or UNITS[unit][0] != UNITS[wanted][0]:
        evaluation.warn("is not a number with a known unit")
        return ""
    return _converted(match[1], unit, wanted)


def _converted(number: str, unit: str, wanted: str) -> str:
    value = Decimal(number.replace(",", ".")) * UNITS[unit][1] / UNITS[wanted][1]
    shown = f"{value.quantize(Decimal('0.001')):f}"
    return shown.rstrip("0").rstrip(".")
