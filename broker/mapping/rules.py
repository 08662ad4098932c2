"""What a mapping file may say: models of its keys; expressions are compiled elsewhere."""

from __future__ import annotations

import codecs
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from broker.worklist.changes import Action

Version = Literal[
    "2.1", "2.2", "2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6", "2.7", "2.8", "2.8.1", "2.8.2"
]
WhenStoreDown = Literal["close", "AR", "AE"]
Validation = Literal["lenient", "strict"]


class Keys(BaseModel):
    """A block of a mapping file: unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=False)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, (str, dict)) else value


def _as_from(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


def _as_table(value: Any) -> Any:
    return {"rows": value} if isinstance(value, dict) and "file" not in value else value


class Choice(Keys):
    """One place a value may come from, and when it is looked at."""

    from_: str = Field(alias="from")
    when: str | None = None


Choices = Annotated[
    list[Annotated[Choice, BeforeValidator(_as_from)]],
    BeforeValidator(_as_list),
]


class AttributeRule(Keys):
    """How one DICOM attribute is filled: a leaf by `from` or `const`, a sequence by `item`."""

    from_: Choices = Field(default=[], alias="from")
    const: str | None = None
    default: Choices = []
    when: str | None = None
    required: Literal["no", "schedule", "always"] = "no"
    too_long: Literal["reject", "truncate"] | None = None
    unfit: Literal["reject", "ignore"] = "ignore"
    each: str | None = None
    item: dict[str, Annotated[AttributeRule, BeforeValidator(_as_from)]] | None = None
    leave_out: list[str] = []


Attribute = Annotated[AttributeRule, BeforeValidator(_as_from)]


class TableRule(Keys):
    """A table written here (`rows`) or in a CSV file beside the mapping."""

    rows: dict[str, str] = {}
    file: str | None = None
    key: str = "key"
    value: str = "value"


class ActionRule(Keys):
    """One line of the actions table: the first whose condition holds decides."""

    when: str | None = None
    do: Action | None = None
    otherwise: Action | None = None
    note: str = ""


class Accept(Keys):
    """Which messages a mapping is for. A sender is `APPLICATION|FACILITY`, either may be `*`."""

    messages: list[str]
    senders: list[str] = ["*|*"]
    versions: list[Version] = ["2.3.1", "2.5.1"]


class CharsetRule(Keys):
    """What bytes mean when MSH-18 is silent, lies, or or is unknown: names of Python's codecs."""

    unlabelled: list[str] = ["utf-8", "windows-1252"]
    fallback: list[str] = ["windows-1252"]
    unknown: str = "refuse"

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
            _codec(name)
        return name


def _codec(name: str) -> None:
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise ValueError(f"'{name}' is not a character set of Python") from error


class SourceRule(Keys):
    """What is true of the senders that this mapping accepts."""

    issuer: str = ""
    timezone: str = ""
    charset: CharsetRule = CharsetRule()
    when_store_down: WhenStoreDown = "close"
    validate_: Validation = Field(default="lenient", alias="validate")

    @field_validator("timezone")
    @classmethod
    def _zone(cls, name: str) -> str:
        if name:
            try:
                ZoneInfo(name)
            except (KeyError, ValueError, OSError) as error:
                raise ValueError(f"'{name}' is not a time zone, as Europe/Berlin is") from error
        return name


class Expected(Keys):
    """The outcome of an example: one change."""

    action: Action
    attributes: dict[str, Any] = {}


class InboundExample(Keys):
    """A message file and what it must become: changes, or a refusal as `AE 103 OBR^1^24`."""

    message: str
    expect: list[Expected] = []
    refused: str = ""


class OutboundExample(Keys):
    """An event by DICOM keyword with fields of the message that it must become."""

    event: dict[str, Any]
    expect: dict[str, str]


class InboundFile(Keys):
    """A mapping of messages to changes."""

    mapping: str
    format: Literal["1"]
    direction: Literal["in"] = "in"
    accept: Accept
    source: SourceRule = SourceRule()
    changes: Literal["per order", "per message"] = "per order"
    tables: dict[str, Annotated[TableRule, BeforeValidator(_as_table)]] = {}
    let: dict[str, str] = {}
    actions: list[ActionRule]
    attributes: dict[str, Attribute]
    examples: list[InboundExample] = []


class FieldRule(Keys):
    """One field of a message that goes out."""

    from_: str | None = Field(default=None, alias="from")
    const: str | None = None


class OutboundFile(Keys):
    """A mapping of events to messages."""

    mapping: str
    format: Literal["1"]
    direction: Literal["out"]
    message: str
    version: Version
    tables: dict[str, Annotated[TableRule, BeforeValidator(_as_table)]] = {}
    fields: dict[str, Annotated[FieldRule, BeforeValidator(_as_from)]]
    examples: list[OutboundExample] = []
