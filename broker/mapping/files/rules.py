"""What a mapping file may say: models of its keys; expressions are compiled elsewhere."""

from __future__ import annotations

import codecs
from collections.abc import Collection
from encodings.aliases import aliases
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from broker.mapping.text.nearest import did_you_mean
from broker.mapping.values.identifying import Missing
from broker.worklist.changes import Action
from broker.worklist.policies import AfterStart, Groups, MissingSteps, PatientFrom

LAST_PORT = 65535


def _port(text: str) -> str:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= LAST_PORT):
        raise ValueError(f"'{text[:20]}' is not a port: a number from 1 to {LAST_PORT}")
    return str(int(text))


Version = Literal[
    "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2"
]
Port = Annotated[str, AfterValidator(_port)]
WhenStoreDown = Literal["close", "AR", "AE"]
Validation = Literal["lenient", "strict"]
AckMode = Literal["auto", "original", "enhanced"]


class Keys(BaseModel):
    """A block of a mapping file: unknown keys are mistakes."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=False, use_attribute_docstrings=True
    )


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, dict)) else value


def _as_from(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


def _as_table(value: Any) -> Any:
    return {"rows": value} if isinstance(value, dict) and not is_long_table(value) else value


def is_long_table(keys: Collection[str]) -> bool:
    """Whether a table is written with its options; the short form is nothing but rows."""
    return bool({"file", "rows"} & set(keys)) or set(keys) <= set(TableRule.model_fields)


class Choice(Keys):
    """One place a value may come from, and when it is looked at."""

    from_: str = Field(alias="from")
    """An expression, as `PID-3[.5 = MR].1`."""
    when: str | None = None
    """Only where this condition holds."""


Choices = Annotated[
    list[Annotated[Choice, BeforeValidator(_as_from)]],
    BeforeValidator(_as_list),
]


class AttributeRule(Keys):
    """How one DICOM attribute is filled: a leaf by `from` or `const`, a sequence by `item`."""

    from_: Choices = Field(default=[], alias="from")
    """An expression, or several: the first that says something counts."""
    const: str | None = None
    """The same text always; it only fills gaps."""
    default: Choices = []
    """What stands in where the message says nothing; it follows what it is made of."""
    when: str | None = None
    """Only where this condition holds."""
    required: Literal["no", "schedule", "always"] = "no"
    """Refuse (AE 101) an order that lacks it: when scheduling, or always."""
    missing: Missing | None = None
    """What happens where an identifier is missing."""
    pattern: str | None = None
    """Of a generated number, as REF-{yy}-######: # are digits; {yyyy} {yy} {mm} {dd} the day."""
    ranked: Literal["yes", "no"] | None = None
    """yes: a later place never overwrites what an earlier one once said; usual for identifiers."""
    too_long: Literal["reject", "truncate", "surrogate"] | None = None
    """Refuse, cut, or let a derived number stand for what does not fit."""
    unfit: Literal["reject", "ignore"] = "ignore"
    """Refuse (AE 102) or ignore a value that came to nothing."""
    each: str | None = None
    """One item for each of these: a segment, or the repetitions of a field."""
    item: dict[str, Annotated[AttributeRule, BeforeValidator(_as_from)]] | None = None
    """The attributes of an item of a sequence."""
    leave_out: list[str] = []
    """Leave out items in which these say the same as outside."""


Attribute = Annotated[AttributeRule, BeforeValidator(_as_from)]


class TableRule(Keys):
    """A table written here (`rows`), or in a CSV file beside the mapping, or both: rows win.

    Several `key` columns make a key of several parts, in rows written CT|WARD3; '*' is any.
    """

    rows: dict[str, str] = {}
    """Keys and values."""
    file: str | None = None
    """A CSV file beside this one."""
    key: Annotated[list[str], BeforeValidator(_as_list)] = ["key"]
    """The column of the key, or several columns."""
    value: str = "value"
    """The column of the value."""
    case: Literal["ignore", "exact"] = "ignore"
    """Whether capitals and small letters are the same."""
    default: str | None = None
    """The value for every other key."""
    on_miss: Literal["default", "reject", "hold"] | None = None
    """A key that is missing: give the default, refuse (AE 103), or hold the order."""


class ActionRule(Keys):
    """One line of the actions table: the first whose condition holds decides."""

    when: str | None = None
    """The condition; the first line that holds decides."""
    do: Action | None = None
    """What happens to the order or patient."""
    otherwise: Action | None = None
    """What happens where no line holds."""
    note: str = ""
    """Why, for people."""


class Accept(Keys):
    """Which messages a mapping is for. A sender is `APPLICATION|FACILITY`, either may be `*`."""

    messages: list[str]
    """Types and triggers, as ORM^O01 or ADT^*."""
    senders: list[str] = ["*|*"]
    """MSH-3|MSH-4, as EPIC|NORTH or EPIC|*; the closest wins."""
    ports: Annotated[list[Port], BeforeValidator(_as_list)] = []
    """Ports of the listener, where not every one is meant; a mapping that names one comes first."""
    versions: list[Version] = ["2.3.1", "2.5.1"]
    """Versions it is written for: they judge paths and choose between mappings."""


class CharsetRule(Keys):
    """What bytes mean when MSH-18 is silent, lies, or is unknown: names of Python's codecs."""

    unlabelled: list[str] = ["utf-8", "windows-1252"]
    """Tried in this order where MSH-18 is empty."""
    fallback: list[str] = ["windows-1252"]
    """Tried in this order where the bytes are not what MSH-18 says."""
    unknown: str = "refuse"
    """What an unknown label means: refuse (AE 103), or a codec."""

    @field_validator("unlabelled", "fallback")
    @classmethod
    def _codecs(cls, names: list[str]) -> list[str]:
        for name in names:
            _codec(name)
        return names

    @field_validator("unknown")
    @classmethod
    def _unknown(cls, name: str) -> str:
        if name != "refuse":
            _codec(name, "refuse, or a character set of Python")
        return name


def _codec(name: str, possible: str = "as utf-8, windows-1252 or iso8859-15") -> None:
    try:
        codecs.lookup(name)
    except (LookupError, ValueError) as error:
        known = {each.replace("_", "-") for each in aliases.values()}
        hint = did_you_mean(name, {*known, "refuse"} if "refuse" in possible else known) or possible
        raise ValueError(f"'{name[:40]}' is not a character set of Python — {hint}") from error


class SourceRule(Keys):
    """What is true of the senders that this mapping accepts."""

    issuer: str = ""
    """Scopes the sender's numbers; without it MSH-4."""
    timezone: str = ""
    """The zone of the sender's clock, as Europe/Berlin."""
    charset: CharsetRule = CharsetRule()
    """What bytes mean."""
    when_store_down: WhenStoreDown = "close"
    """Close without an answer, or refuse, while nothing can be stored."""
    validate_: Validation = Field(default="lenient", alias="validate")
    """strict: hl7apy judges every message."""
    ack: AckMode = "auto"
    """auto: as MSH-15 and MSH-16 ask; original: one AA, AE or AR; enhanced: CA, CE or CR."""
    patient_from: PatientFrom = PatientFrom.ANY
    """adt: an order's PID only fills gaps of what patient messages (ADT) have said."""
    missing_steps: MissingSteps = MissingSteps.KEEP
    """cancel: steps of a procedure that a message names by ID and leaves out are cancelled."""
    groups: Groups = Groups.ALL_OR_NOTHING
    """apply_good: of several orders in a message the good ones are applied, AE names the others."""
    after_start: AfterStart = AfterStart.FLAG
    """A cancel of an exam that has begun: flag it and tell the RIS, or refuse it (AR 206)."""

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        if name:
            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError) as error:
                hint = did_you_mean(name, available_timezones()) or "as Europe/Berlin"
                raise ValueError(f"'{name[:40]}' is not a time zone — {hint}") from error
        return name


class Expected(Keys):
    """The outcome of an example: one change."""

    action: Action
    """The action."""
    attributes: dict[str, Any] = {}
    """Attributes by keyword; ~ is absent or erased."""


class InboundExample(Keys):
    """A message file and what it must become: changes, or a refusal as `AE 103 OBR^1^24`."""

    message: str
    """A file with a message beside this one."""
    expect: list[Expected] = []
    """The changes it must become."""
    refused: str = ""
    """The refusal it must get, as AE 103 OBR^1^24."""


class OutboundExample(Keys):
    """An event by DICOM keyword with fields of the message that it must become."""

    event: dict[str, Any]
    """An event by DICOM keyword."""
    expect: dict[str, str]
    """Fields that it must become."""


class InboundFile(Keys):
    """A mapping of messages to changes."""

    mapping: str
    """The name of this mapping."""
    format: Literal["1"]
    """The version of the language."""
    extends: str = ""
    """A mapping that this one differs from: a file, or the name of a shipped one."""
    abstract: Literal["yes", "no"] = "no"
    """yes: it only serves others to extend it."""
    direction: Literal["in"] = "in"
    """in: messages become changes."""
    accept: Accept
    """Which messages it is for."""
    source: SourceRule = SourceRule()
    """What is true of the senders."""
    changes: Literal["per order", "per message", "per patient"] = "per order"
    """One change for each order, one for the message, or one for each PID (merges have several)."""
    tables: dict[str, Annotated[TableRule, BeforeValidator(_as_table)]] = {}
    """Lookup tables by name."""
    let: dict[str, str] = {}
    """Expressions by name, for others to use."""
    actions: list[ActionRule]
    """Order control to action; the first line that holds decides."""
    attributes: dict[str, Attribute]
    """DICOM keywords and where each comes from."""
    examples: list[InboundExample] = []
    """Messages and what must come out."""


class FieldRule(Keys):
    """One field of a message that goes out."""

    from_: str | None = Field(default=None, alias="from")
    """An expression over DICOM keywords."""
    const: str | None = None
    """The same text always."""


class OutboundFile(Keys):
    """A mapping of events to messages."""

    mapping: str
    """The name of this mapping."""
    format: Literal["1"]
    """The version of the language."""
    extends: str = ""
    """A mapping that this one differs from: a file, or the name of a shipped one."""
    abstract: Literal["yes", "no"] = "no"
    """yes: it only serves others to extend it."""
    direction: Literal["out"]
    """out: events become messages."""
    message: str
    """Type and trigger, as ORM^O01."""
    version: Version
    """The HL7 version of the message."""
    tables: dict[str, Annotated[TableRule, BeforeValidator(_as_table)]] = {}
    """Lookup tables by name."""
    fields: dict[str, Annotated[FieldRule, BeforeValidator(_as_from)]]
    """HL7 fields and where each comes from."""
    examples: list[OutboundExample] = []
    """Events and what must come out."""
