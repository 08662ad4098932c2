"""What a site may say about one scanner: what it sees, how many answers, in which form."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydicom.charset import STAND_ALONE_ENCODINGS, python_encoding
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.valuerep import validate_value

from broker.worklist.attributes import RANKED, ROWS
from broker.worklist.mpps import Mode
from broker.worklist.records import StepStatus

HIDDEN = (
    StepStatus.HELD,
    StepStatus.STARTED,
    StepStatus.COMPLETED,
    StepStatus.DISCONTINUED,
    StepStatus.CANCELLED,
)
"""Steps that a scanner has no more, or not yet, anything to do with."""
MAX_ANSWERS = 5000
IDENTITY = RANKED | {"PatientName", "PatientBirthDate", "PatientSex"}
_MODALITY = re.compile(r"[A-Z0-9_*?]{1,16}")
SHORTENED_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})


class Overflow(StrEnum):
    """What becomes of a list that is longer than its limit."""

    REFUSE = "refuse"
    CUT = "cut"


class AnswerOrder(StrEnum):
    """What a list is sorted by; equal ones by start and accession number."""

    START = "start"
    NAME = "name"
    ACCESSION = "accession"


def _keyword(keyword: str) -> str:
    if keyword not in ROWS:
        raise ValueError(f"'{keyword}' is no attribute of a worklist item (PS3.4 Table K.6-1)")
    return keyword


def _omissible(keyword: str) -> str:
    if ROWS[_keyword(keyword)].returned == "1":
        raise ValueError(f"'{keyword}' is type 1: no answer may lack it when it is asked for")
    return keyword


def _shortened(keyword: str) -> str:
    if dictionary_VR(_keyword(keyword)) not in SHORTENED_VRS or keyword in RANKED:
        raise ValueError(f"'{keyword}' is an identifier, a code, a date or a number: it is not cut")
    return keyword


def _constant(keyword: str) -> str:
    if _keyword(keyword) in IDENTITY:
        raise ValueError(f"'{keyword}' says who or what is examined: it is never replaced")
    if dictionary_VR(keyword) == "SQ":
        raise ValueError(f"'{keyword}' is a sequence: only a text can be put into all answers")
    return keyword


def _fitting(pair: tuple[str, str]) -> tuple[str, str]:
    keyword, value = pair
    vr = dictionary_VR(keyword)
    if not value and ROWS[keyword].returned == "1":
        raise ValueError(f"'{keyword}' is type 1: no answer may have it empty")
    for each in value.split("\\"):
        if not _is_value(vr, each):
            raise ValueError(f"'{each}' is no value for '{keyword}', which is {vr} (PS3.5 6.2)")
    return pair


def _is_value(vr: str, value: str) -> bool:
    if vr == "US":
        return value.isdecimal() and int(value) < 1 << 16
    try:
        validate_value(vr, value, RAISE)
    except ValueError:
        return False
    return True


def _charset(value: str) -> str:
    for term in value.split("\\"):
        if term and term not in python_encoding:
            raise ValueError(f"'{term}' is no defined term of (0008,0005), as ISO_IR 100 is")
    alone = [term for term in value.split("\\") if term in STAND_ALONE_ENCODINGS]
    if alone and value != alone[0]:
        raise ValueError(
            f"'{alone[0]}' stands alone (PS3.3 C.12.1.1.2): say only that, or only the others"
        )
    return value


def _modality(value: str) -> str:
    if not _MODALITY.fullmatch(value):
        raise ValueError(
            f"'{value}' is no modality (PS3.3 C.7.3.1.1.1): a code as CT, without blanks, in upper "
            "case; * and ? stand for others"
        )
    return value


def _pairs(value: object) -> object:
    """A mapping as a tuple of pairs, which can be compared and hashed."""
    return tuple(value.items()) if isinstance(value, dict) else value


Keyword = Annotated[str, AfterValidator(_keyword)]
Lengths = Annotated[
    tuple[tuple[Annotated[str, AfterValidator(_shortened)], Annotated[int, Field(ge=1)]], ...],
    BeforeValidator(_pairs),
]
Constants = Annotated[
    tuple[
        Annotated[tuple[Annotated[str, AfterValidator(_constant)], str], AfterValidator(_fitting)],
        ...,
    ],
    BeforeValidator(_pairs),
]


class Rules(BaseModel):
    """What holds for one calling AE. Frozen; a list that is empty restricts nothing.

    `stations`, `modalities`, `locations` and `labels` are filters, `*` and `?` allowed, by
    Scheduled Station AE Title, Modality, Scheduled Procedure Step Location and Worklist Label.
    `own_station`: only steps that are scheduled for the calling AE itself, or for one of its group.
    `started_elsewhere`: whether a step that began only outside of the group is hidden as well.
    `past_days`, `ahead_days`: the window of start dates around today; none when not said.
    `charset` is what it reads, as in (0008,0005), and what an unlabelled query of it is read in.
    `mpps`: whether it is held to PS3.4 Table F.7.2-1, or its mistakes are noted and taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stations: tuple[str, ...] = ()
    own_station: bool = False
    modalities: tuple[Annotated[str, AfterValidator(_modality)], ...] = ()
    locations: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    hide: tuple[StepStatus, ...] = HIDDEN
    started_elsewhere: Literal["hide", "show"] = "hide"
    past_days: int | None = Field(None, ge=0)
    ahead_days: int | None = Field(None, ge=0)
    max_answers: int = Field(MAX_ANSWERS, ge=1)
    over_limit: Overflow = Overflow.REFUSE
    order: AnswerOrder = AnswerOrder.START
    charset: Annotated[str, AfterValidator(_charset)] = ""
    beyond_charset: Literal["widen", "transliterate"] = "widen"
    lengths: Lengths = ()
    name_groups: Literal["all", "alphabetic"] = "all"
    name_case: Literal["as stored", "upper"] = "as stored"
    name_components: int = Field(5, ge=1, le=5)
    extra: tuple[Keyword, ...] = ()
    omit: tuple[Annotated[str, AfterValidator(_omissible)], ...] = ()
    constants: Constants = ()
    upper_keys: bool = False
    pending: Literal["standard", "FF00"] = "standard"
    state_timezone: bool = False
    mpps: Mode = Mode.LENIENT
    max_associations: int | None = Field(None, ge=1)
    queries_per_second: float | None = Field(None, gt=0)

    @property
    def terms(self) -> tuple[str, ...]:
        """The terms of `charset`, () when it says none."""
        return tuple(self.charset.split("\\")) if self.charset else ()

    def under(self, general: Rules) -> Rules:
        """Give these rules, with those of `general` where these say nothing."""
        own = {name: getattr(self, name) for name in Rules.model_fields if self.says(name)}
        return general.model_copy(update=own) if own else general

    def says(self, name: str) -> bool:
        """Whether a rule is said, and not only what holds by default."""
        return name in self.model_fields_set
