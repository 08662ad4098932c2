"""Values made fit for their VR (PS3.5 6.2): identifiers are refused when too long, text is cut."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from broker.mapping.dictionaries import vr_of
from broker.mapping.evaluation import Evaluation, Unfit
from broker.mapping.texts import surrogate

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
        "FillerOrderNumberImagingServiceRequest",
        "IssuerOfPatientID",
        "LocalNamespaceEntityID",
        "PatientID",
        "PlacerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "UniversalEntityID",
    }
)
CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
CONTROLS_IN_LONG_TEXT = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]+")
CODE_STRING = re.compile(r"[A-Z0-9 _]{1,16}")
AE_TITLE = re.compile(r"[\x20-\x5b\x5d-\x7e]{1,16}")
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
DECIMAL = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d|60)?)?(\.\d{1,6})?")

Fit = Callable[[Evaluation, str], str]


def fit_for(keyword: str, vr: str, too_long: str | None) -> Fit:
    """The function that makes text fit an attribute; it raises Unfit."""
    special = SPECIAL.get(vr)
    if special:
        return special
    limit = LENGTHS.get(vr, 0)
    reject = (too_long or ("reject" if keyword in IDENTIFIERS else "truncate")) == "reject"
    if vr in LONG_TEXT:
        return lambda evaluation, text: _limited(
            evaluation, CONTROLS_IN_LONG_TEXT.sub(" ", text).strip(), limit, reject
        )
    if too_long == "surrogate" and vr in ("SH", "LO"):
        return _surrogate_of(keyword, limit)
    if vr in ("SH", "LO"):
        return _line_of(limit, reject)
    return lambda _, text: text  # PN comes from the name functions; US and others are small numbers


def _line_of(limit: int, reject: bool) -> Fit:
    def line(evaluation: Evaluation, text: str) -> str:
        if len(text) <= limit and text.isprintable() and "\\" not in text:
            return text.strip()
        return _limited(evaluation, _one_line(text), limit, reject)

    return line


def _surrogate_of(keyword: str, limit: int) -> Fit:
    """What is too long gets a number that stands for it; the whole is kept where people see it."""

    def fit(evaluation: Evaluation, text: str) -> str:
        clean = _one_line(text)
        if len(clean) <= limit:
            return clean
        evaluation.warn(f"is longer than {limit} characters: a derived number stands for it")
        evaluation.whole.append(f"{keyword}: {clean}")
        return surrogate(evaluation, clean)

    return fit


@lru_cache(maxsize=1024)
def fit_of(keyword: str) -> Fit:
    """The usual function of a keyword, for the items that functions make."""
    return fit_for(keyword, vr_of(keyword), None)


def _one_line(text: str) -> str:
    """Without control characters; the backslash would part values (PS3.5 6.2) and becomes '/'."""
    return CONTROLS.sub(" ", text).replace("\\", "/").strip()


def _limited(evaluation: Evaluation, text: str, limit: int, reject: bool) -> str:
    if not limit or len(text) <= limit:
        return text
    if reject:
        raise Unfit(f"is longer than {limit} characters and identifiers are never cut")
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


def _uid(_: Evaluation, text: str) -> str:
    value = text.strip()
    if len(value) > LENGTHS["UI"] or not UID.fullmatch(value):
        raise Unfit("is not a valid UID")
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
    "IS": _decimal,
}
