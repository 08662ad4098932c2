"""Values made fit for their VR (PS3.5 6.2): identifiers fit or are refused, text is made to fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from decimal import Decimal
from functools import lru_cache

from broker.hl7.refusal import TOO_LONG
from broker.mapping.standards.dictionaries import vr_of
from broker.mapping.values.evaluation import Evaluation, Unfit
from broker.mapping.values.texts import INVISIBLE, UID_RULE, surrogate

LENGTHS = {
    "AE": 16,
    "CS": 16,
    "SH": 16,
    "LO": 64,
    "ST": 1024,
    "LT": 10240,
    "UI": 64,
    "DS": 16,
    "IS": 12,
}
LONG_TEXT = {"ST", "LT", "UT", "UC"}
# What names something is never cut: two different numbers would become one.
IDENTIFIERS = frozenset(
    {
        "AccessionNumber",
        "AdmissionID",
        "CodeValue",
        "FillerAppointmentID",
        "FillerOrderNumberImagingServiceRequest",
        "IssuerOfPatientID",
        "LocalNamespaceEntityID",
        "PatientID",
        "PlacerAppointmentID",
        "PlacerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "UniversalEntityID",
    }
)
# A code is none of them: it names a kind of exam, not one patient or order.
NEVER_REWRITTEN = IDENTIFIERS - {"CodeValue"}
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
CONTROLS_IN_LONG_TEXT = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f]+")
CODE_STRING = re.compile(r"[A-Z0-9 _]{1,16}")
AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
DECIMAL = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
WHOLE = re.compile(r"[+-]?\d{1,20}", re.ASCII)
AGE = re.compile(r"\d{3}[DWMY]", re.ASCII)
STAMP = re.compile(r"\d{4}(\d\d){0,5}(\.\d{1,6})?([+-]\d{4})?", re.ASCII)
TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?(\.\d{1,6})?")

BODILY = {
    "PatientWeight": (Decimal("0"), Decimal("650"), "kg"),
    "PatientSize": (Decimal("0.1"), Decimal("2.8"), "m"),
}
"""What people measure: more than the one, and no more than the other. Doses are reckoned by it."""

Fit = Callable[[Evaluation, str], str]


def fit_for(keyword: str, vr: str, too_long: str | None) -> Fit:
    """The function that makes text fit an attribute; it raises Unfit."""
    if keyword in BODILY:
        return _bodily(keyword)
    special = SPECIAL.get(vr)
    if special:
        return special
    limit = LENGTHS.get(vr, 0)
    reject = (too_long or ("reject" if keyword in IDENTIFIERS else "truncate")) == "reject"
    clean = _as_it_is if keyword in NEVER_REWRITTEN else _lines if vr in LONG_TEXT else _one_line
    if too_long == "surrogate" and vr in ("SH", "LO"):
        return _surrogate_of(keyword, limit, clean)
    if vr in ("SH", "LO"):
        return _line_of(limit, reject, clean)
    if vr in LONG_TEXT:
        return lambda evaluation, text: _limited(evaluation, clean(text), limit, reject)
    return lambda _, text: text  # PN comes from the name functions


def clean_limit(vr: str) -> int | None:
    """How many characters without controls and backslash fit as they stand, but for blanks around.

    None where more is asked than a length.
    """
    if vr in LONG_TEXT or vr in ("SH", "LO", "LT"):
        return LENGTHS.get(vr, sys.maxsize)
    return None


def _line_of(limit: int, reject: bool, clean: Callable[[str], str]) -> Fit:
    def line(evaluation: Evaluation, text: str) -> str:
        if len(text) <= limit and text.isprintable() and "\\" not in text:
            return text.strip()
        return _limited(evaluation, clean(text), limit, reject, names=clean is _as_it_is)

    return line


def _surrogate_of(keyword: str, limit: int, clean: Callable[[str], str]) -> Fit:
    """What is too long gets a number that stands for it; the whole is kept where people see it."""

    def fit(evaluation: Evaluation, text: str) -> str:
        number = clean(text)
        if len(number) <= limit:
            return number
        evaluation.warn(f"is longer than {limit} characters: a derived number stands for it")
        evaluation.whole.append(f"{keyword}: {number}")
        return surrogate(evaluation, number)

    return fit


@lru_cache(maxsize=1024)
def fit_of(keyword: str) -> Fit:
    """The usual function of a keyword, for the items that functions make."""
    return fit_for(keyword, vr_of(keyword), None)


def _one_line(text: str) -> str:
    """Without control characters; the backslash would part values (PS3.5 6.2) and becomes '/'."""
    return CONTROLS.sub(" ", INVISIBLE.sub("", text)).replace("\\", "/").strip()


def _lines(text: str) -> str:
    return CONTROLS_IN_LONG_TEXT.sub(" ", INVISIBLE.sub("", text)).strip()


def _as_it_is(text: str) -> str:
    """An identifier that was rewritten could be another patient's or order's own."""
    if "\\" in text or CONTROLS.search(text) or INVISIBLE.search(text):
        raise Unfit(
            "holds a backslash, a control character or an invisible one",
            narrows=True,
            remedy="identifiers are never rewritten: send one of visible characters without \\",
        )
    return text.strip()


def _limited(
    evaluation: Evaluation, text: str, limit: int, reject: bool, *, names: bool = False
) -> str:
    """Text that is not too long; one that `names` something is refused in a cancel, too."""
    if not limit or len(text) <= limit:
        return text
    if reject:
        raise Unfit(
            f"is longer than {limit} characters",
            TOO_LONG,
            narrows=names,
            remedy="identifiers are never cut: send a shorter one, or map it 'too_long: surrogate'",
        )
    evaluation.warn(f"was cut to {limit} characters")
    return text[:limit].rstrip()


def _ae_title(_: Evaluation, text: str) -> str:
    title = text.strip()
    if title and not AE_TITLE.fullmatch(title):
        raise Unfit("is not an AE title of up to 16 plain characters")
    return title


def _code_string(_: Evaluation, text: str) -> str:
    term = text.strip().upper()
    if term and not CODE_STRING.fullmatch(term):
        raise Unfit("is not a code string of capitals, digits, space and _", "103")
    return term


def _age(_: Evaluation, text: str) -> str:
    age = text.strip().upper()
    if not AGE.fullmatch(age):
        raise Unfit("is not an age as 045Y")
    return age


def _stamp(_: Evaluation, text: str) -> str:
    stamp = text.strip()
    if not STAMP.fullmatch(stamp):
        raise Unfit("is not a date and time YYYYMMDDHHMMSS")
    return stamp


def _integer(least: int, most: int) -> Fit:
    def integer(_: Evaluation, text: str) -> str:
        number = text.strip()
        if not WHOLE.fullmatch(number) or not least <= int(number) <= most:
            raise Unfit(f"is not a whole number from {least} to {most}")
        return number

    return integer


def _real(_: Evaluation, text: str) -> str:
    number = text.strip().replace(",", ".")
    if not DECIMAL.fullmatch(number):
        raise Unfit("is not a number")
    return number


def _bodily(keyword: str) -> Fit:
    above, most, unit = BODILY[keyword]

    def measured(evaluation: Evaluation, text: str) -> str:
        number = _real(evaluation, text)
        if above < Decimal(number) <= most:
            return number
        evaluation.warn(f"is not above {above} and up to {most} {unit}: nobody is that")
        return ""

    return measured


def _none_at_all(_: Evaluation, _text: str) -> str:
    raise Unfit("is text, where a worklist has none")


def _uid(_: Evaluation, text: str) -> str:
    value = text.strip()
    if len(value) > LENGTHS["UI"] or not UID.fullmatch(value):
        raise Unfit("is not a valid UID", narrows=True, remedy=UID_RULE)
    return value


def _date(_: Evaluation, text: str) -> str:
    if len(text) != 8 or not text.isdigit():
        raise Unfit("is not a date YYYYMMDD")
    return text


def _time(_: Evaluation, text: str) -> str:
    if not TIME.fullmatch(text):
        raise Unfit("is not a time HHMMSS")
    return text


def _decimal(_: Evaluation, text: str) -> str:
    number = text.strip().replace(",", ".")
    if len(number) > LENGTHS["DS"] or not DECIMAL.fullmatch(number):
        raise Unfit("is not a number")
    return number


SPECIAL: dict[str, Fit] = {
    "AE": _ae_title,
    "CS": _code_string,
    "UI": _uid,
    "DA": _date,
    "TM": _time,
    "DS": _decimal,
    "IS": _integer(-(2**31), 2**31 - 1),
    "US": _integer(0, 2**16 - 1),
    "SS": _integer(-(2**15), 2**15 - 1),
    "UL": _integer(0, 2**32 - 1),
    "SL": _integer(-(2**31), 2**31 - 1),
    "UV": _integer(0, 2**64 - 1),
    "SV": _integer(-(2**63), 2**63 - 1),
    "FL": _real,
    "FD": _real,
    "AS": _age,
    "DT": _stamp,
    **dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN", "AT", "OB or OW"), _none_at_all),
}
