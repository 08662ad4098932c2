"""Weights and lengths in the unit that DICOM wants."""

from __future__ import annotations

import re
from decimal import Decimal

from broker.mapping.values.evaluation import Evaluation

QUANTITY = re.compile(r"\s*([+-]?\d{1,9}(?:[.,]\d{1,9})?)\s*(\S{0,12})\s*")
MASS, LENGTH = "mass", "length"
UNITS: dict[str, tuple[str, Decimal]] = {
    name: (kind, Decimal(size))
    for kind, size, names in (
        (MASS, "1", "kg kgs kgm kilo kilogram kilograms kilogramme kilogrammes"),
        (MASS, "0.001", "g gm grm gram grams gramme grammes"),
        (MASS, "0.45359237", "lb lbs lbr [lb_av] pound pounds"),
        (MASS, "0.028349523125", "oz onz [oz_av] ounce ounces"),
        (LENGTH, "1", "m mtr meter meters metre metres"),
        (LENGTH, "0.01", "cm cms cmt centimeter centimeters centimetre centimetres"),
        (LENGTH, "0.001", "mm mmt millimeter millimeters millimetre millimetres"),
        (LENGTH, "0.0254", "in inh [in_i] [in_us] inch inches"),
        (LENGTH, "0.3048", "ft fot [ft_i] [ft_us] foot feet"),
    )
    for name in names.split()
}
"""Unit as people, UCUM, ISO+ and trade write it: what it measures, how many kg or metres it is."""


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
    if match is not None and not unit:
        evaluation.warn("is a number without a unit")
        return ""
    if match is None or unit not in UNITS or UNITS[unit][0] != UNITS[wanted][0]:
        evaluation.warn("is not a number with a known unit")
        return ""
    return _converted(match[1], unit, wanted)


def _converted(number: str, unit: str, wanted: str) -> str:
    value = Decimal(number.replace(",", ".")) * UNITS[unit][1] / UNITS[wanted][1]
    shown = f"{value.quantize(Decimal('0.001')):f}"
    return shown.rstrip("0").rstrip(".")
