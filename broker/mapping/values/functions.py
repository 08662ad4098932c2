"""The functions of mapping expressions: one table, each with one line and a tested example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from broker.mapping.values import coding, moments, names, texts
from broker.mapping.values.coding import CODED
from broker.mapping.values.evaluation import Value
from broker.mapping.values.names import CLINICIAN, NESTED_CLINICIAN, PERSON
from broker.mapping.values.quantities import convert, measure
from broker.mapping.values.tables import Table, known_as, lookup

__all__ = ["TABLE", "Argument", "Example", "Function", "Table"]


@dataclass(frozen=True)
class Argument:
    """What stands in the parentheses. `kind` is text, number, table, pattern, unit, zone or pair.

    Where there may be `many`, at least as many as there are must be said.
    """

    name: str
    kind: str = "text"
    optional: bool = False
    many: bool = False


@dataclass(frozen=True)
class Example:
    """A field as sent, the call as written after `|`, and what comes out."""

    given: str
    call: str
    gives: str


@dataclass(frozen=True)
class Function:
    """A function of the expression language.

    `takes` is what it is given: 'text' (each text of the value), 'field' (whole repetitions with
    their components), 'value' (everything, absent values too). `types` are the HL7 data types that
    it understands, none for any.
    """

    name: str
    call: Callable[..., Value]
    takes: str
    summary: str
    example: Example
    arguments: tuple[Argument, ...] = ()
    types: frozenset[str] = frozenset()

    @property
    def names_table(self) -> bool:
        """Whether its first argument is a table."""
        return bool(self.arguments) and self.arguments[0].kind == "table"

    @property
    def counts(self) -> tuple[int, int]:
        """The least and the greatest number of arguments."""
        least = sum(not argument.optional for argument in self.arguments)
        many = any(argument.many for argument in self.arguments)
        return least, MOST_ARGUMENTS if many else len(self.arguments)


MOST_ARGUMENTS = 60


def _function(
    takes: str,
    name: str,
    call: Callable[..., Value],
    summary: str,
    given: str,
    gives: str,
    *arguments: Argument,
    said: str = "",
    types: frozenset[str] = frozenset(),
) -> Function:
    example = Example(given, f"{name}({said})" if said else name, gives)
    return Function(name, call, takes, summary, example, arguments, types)


_text = partial(_function, "text")
_value = partial(_function, "value")
_field = partial(_function, "field")
LENGTH = Argument("length", "number")
SEPARATOR = Argument("separator", optional=True)
SCHEME = Argument("scheme", optional=True)
PREFIX = Argument("prefix", optional=True)
LIST = (
    # texts
    _text("trim", texts.trim, "Without spaces around it.", " a ", "a"),
    _text("upper", texts.upper, "In capitals.", "ct", "CT"),
    _text("lower", texts.lower, "In small letters.", "CT", "ct"),
    _text("left", texts.left, "The first characters.", "abc", "ab", LENGTH, said="2"),
    _text("right", texts.right, "The last characters.", "abc", "bc", LENGTH, said="2"),
    _text(
        "replace",
        texts.replace,
        "Every occurrence of one text by another.",
        "a/b",
        "a-b",
        Argument("old"),
        Argument("new"),
        said="'/', '-'",
    ),
    _text("digits", texts.digits, "Only the digits.", "0316-42", "031642"),
    _text(
        "extract",
        texts.extract,
        "What a pattern finds first: its first group, or all of it.",
        "Order A-4711 of today",
        "4711",
        Argument("pattern", "pattern"),
        said="'A-([0-9]+)'",
    ),
    # several values
    _value("first", texts.first, "The first of several values.", "a~b", "a"),
    _value("last", texts.last, "The last of several values.", "a~b", "b"),
    _value(
        "concat",
        texts.concat,
        "Several values as one text, the argument (else a space) between them.",
        "a~b",
        "a, b",
        SEPARATOR,
        said="', '",
    ),
    _value("lines", texts.lines, "Several values as one text, each on its line.", "a", "a"),
    _value(
        "split",
        texts.split,
        "Each value parted at the separator; all parts, or the one with this number.",
        "CT/ROOM2",
        "ROOM2",
        Argument("separator"),
        Argument("number", "number", optional=True),
        said="'/', 2",
    ),
    _value(
        "default",
        texts.default,
        "This text for nothing; it only fills gaps.",
        "",
        "X",
        Argument("text"),
        said="X",
    ),
    # tables
    _text(
        "lookup",
        lookup,
        "The row of a table; a second argument replaces the table's default.",
        "W",
        "F",
        Argument("table", "table"),
        Argument("default", optional=True),
        said="sex",
    ),
    _text(
        "known_as",
        known_as,
        "The row of a table, else the text as it is.",
        "1.2.276.0.76",
        "1.2.276.0.76",
        Argument("table", "table"),
        said="sex",
    ),
    _text(
        "map",
        texts.mapped,
        "A table in one line: text, value, text, value …; '*' is every other text.",
        "S",
        "STAT",
        Argument("text and value", "pair", many=True),
        said="S, STAT, R, ROUTINE, '*', ''",
    ),
    # time
    _text(
        "date",
        moments.date,
        "The day of a time stamp; an incomplete one is absent.",
        "202603160930",
        "20260316",
    ),
    _text(
        "time",
        moments.time,
        "The time of a time stamp; the argument stands for a day without a time.",
        "202603160930",
        "093000",
        Argument("unknown", optional=True),
    ),
    _text(
        "datetime",
        moments.moment,
        "A time stamp as DICOM date and time, with the offset of the sender's clock.",
        "202603160930+0000",
        "20260316093000+0000",
    ),
    _text(
        "zone", moments.zone, "The offset of a time stamp from UTC.", "202603160930+0100", "+0100"
    ),
    _text(
        "local",
        moments.local,
        "A time stamp as the site's own time; the argument is the zone of one without offset.",
        "202603170845",
        "20260317134500",
        Argument("zone", "zone", optional=True),
        said="'America/New_York'",
    ),
    # identifiers
    _text("uid", texts.uid, "A valid UID, or absent.", "1.2.840.1", "1.2.840.1"),
    _text(
        "derived",
        texts.derived,
        "A stable identifier of 16 characters from issuer and text; the argument is its prefix.",
        "PRACTICE12-20260316-0000077",
        "GF6F1CA0A8424910",
        PREFIX,
        said="G",
    ),
    _text(
        "derived_uid",
        texts.derived_uid,
        "A stable UID from issuer and text; it only fills gaps.",
        "A1",
        "2.25.272985096160008910081132620872923037117",
    ),
    # quantities
    _text(
        "convert",
        convert,
        "A number in one unit as a number in another.",
        "154",
        "69.853",
        Argument("unit", "unit"),
        Argument("wanted", "unit"),
        said="lb, kg",
    ),
    _text(
        "measure",
        measure,
        "A number with its unit as a number in the unit wanted; a strange unit is absent.",
        "165 cm",
        "1.65",
        Argument("wanted", "unit"),
        said="m",
    ),
    # HL7 types
    _field(
        "person",
        names.person_name,
        "XPN to PN; I and P repetitions become groups of their own.",
        "ROE^ANN^K^Jr.^Dr.",
        "ROE^ANN^K^Dr.^Jr.",
        types=PERSON,
    ),
    _field(
        "clinician",
        names.clinician_name,
        "XCN (id^family^given…) to PN.",
        "30112^Öztürk^Seyma^^^Dr.",
        "Öztürk^Seyma^^Dr.",
        types=CLINICIAN,
    ),
    _field(
        "nested_clinician",
        names.nested_clinician_name,
        "NDL-1 (id&family&given…) to PN.",
        "7&ROE&ANN^20260316",
        "ROE^ANN",
        types=NESTED_CLINICIAN,
    ),
    _field(
        "code",
        coding.code,
        "CE/CWE 1-3 to code items; the argument is the scheme where none is said.",
        "CT1^Head",
        "CodeValue CT1, CodingSchemeDesignator 99LOCAL, CodeMeaning Head",
        SCHEME,
        said="'99LOCAL'",
        types=CODED,
    ),
    _field(
        "alternate_code",
        coding.alternate_code,
        "CE/CWE 4-6 to code items.",
        "X^Y^Z^CT1^Head^L",
        "CodeValue CT1, CodingSchemeDesignator L, CodeMeaning Head",
        SCHEME,
        types=CODED,
    ),
    _text(
        "scheme",
        coding.scheme,
        "The designator that DICOM has for a coding system, else what is said.",
        "ICD10",
        "I10",
    ),
    _field(
        "issuer",
        coding.issuer,
        "EI 2-4 to an issuer item.",
        "A1^RIS",
        "LocalNamespaceEntityID RIS",
        types=frozenset({"EI"}),
    ),
    _field(
        "authority",
        coding.authority,
        "CX-4 to an issuer item.",
        "4711^^^NORTH",
        "LocalNamespaceEntityID NORTH",
        types=frozenset({"CX"}),
    ),
    _field(
        "qualifiers",
        coding.qualifiers,
        "CX-4 and CX-5 to an Issuer of Patient ID Qualifiers item.",
        "4711^^^NORTH&1.2.3&ISO^MR",
        "UniversalEntityID 1.2.3, UniversalEntityIDType ISO, IdentifierTypeCode MR",
        types=frozenset({"CX"}),
    ),
    _field(
        "address",
        coding.address,
        "XAD as one line: street, postal code and town, state, country.",
        "FERN LANE 4^^TWINCREEK^ME^04401",
        "FERN LANE 4 04401 TWINCREEK ME",
        types=frozenset({"XAD", "AD"}),
    ),
    _field(
        "phone",
        coding.phone,
        "XTN to telephone numbers, whichever way they are written.",
        "^PRN^PH^^41^44^5550122",
        "41 44 5550122",
        types=frozenset({"XTN", "TN", "ST"}),
    ),
    _field(
        "part",
        coding.part,
        "A component (and subcomponent) of the repetitions chosen.",
        "4711^^^NORTH&1.2.3&ISO",
        "1.2.3",
        Argument("component", "number"),
        Argument("subcomponent", "number", optional=True),
        said="4, 2",
    ),
    _field(
        "either",
        coding.either,
        "Of each repetition the first of these components that says something.",
        "J30^Pollen~J45",
        "Pollen, J45",
        Argument("component", "number", many=True),
        said="2, 1",
    ),
    _field(
        "join",
        coding.join,
        "All components that are there, the argument (else a space) between them.",
        "3W^W312^1",
        "3W W312 1",
        SEPARATOR,
    ),
    # messages that go out
    _text(
        "xpn",
        names.person_parts,
        "PN to XPN, for messages that go out.",
        "ROE\\S\\ANN",
        "ROE, ANN, , , ",
    ),
    _text(
        "xpns",
        names.person_repetitions,
        "PN to XPN with all its groups, a repetition each, for messages that go out.",
        "ROE\\S\\ANN",
        "ROE, ANN, , , ",
    ),
    _text(
        "xcn",
        names.clinician_parts,
        "PN to XCN, for messages that go out.",
        "ROE\\S\\ANN",
        ", ROE, ANN, , , ",
    ),
)
TABLE: dict[str, Function] = {function.name: function for function in LIST}
