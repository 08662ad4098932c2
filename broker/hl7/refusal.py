"""Why a message is not taken: the reason carries the answer that the sender deserves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

TEXT_LIMIT: Final = 80  # MSA-3 is an ST of 80 characters
DOTS: Final = "..."
SENTENCE_LIMIT: Final = 250  # ERR-8 is a TX of 250 characters

# HL7 table 0357; 1xx are errors of content (AE), 2xx are rejections (AR)
CONDITIONS: Final[dict[str, str]] = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "104": "Value too long",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}

TOO_LONG: Final = "104"
BEFORE_2_7: Final[dict[str, str]] = {TOO_LONG: "102"}
"""Conditions that older versions do not have, and what is said in their place."""

# What CR means, as against CE: the header itself is unacceptable (HL7 v2 ch. 2, enhanced mode)
HEADER_CONDITIONS: Final = frozenset({"200", "201", "202", "203"})


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a message, counted from 1; 0 means "not narrowed further".

    `sequence` is the occurrence of that segment name in the message.
    """

    segment: str
    sequence: int = 1
    field: int = 0
    repetition: int = 0
    component: int = 0

    def __str__(self) -> str:
        """Return ERL form without trailing zeros, as `PID^1^3`."""
        parts = [self.field, self.repetition, self.component]
        while parts and not parts[-1]:
            parts.pop()
        return "^".join([self.segment, str(self.sequence), *map(str, parts)])

    @property
    def spoken(self) -> str:
        """As people write it: `PID-3`, `OBR[2]-24`."""
        segment = f"{self.segment}[{self.sequence}]" if self.sequence > 1 else self.segment
        return f"{segment}-{self.field}" if self.field else segment


class Refusal(Exception):
    """A message is refused; never holds patient data, since it goes to logs and over the wire.

    `code` is of table 0357 and decides AE or AR unless `acknowledgement` says otherwise;
    `text` states the fact, `remedy` what the sender or integrator can do, `rule` names the line of
    the mapping that decided, as `ihe-orders.yaml:58`. `others` are further mistakes of the message.
    """

    acknowledgement: Literal["AE", "AR"]
    code: str
    location: Location | None
    text: str
    remedy: str
    rule: str
    others: tuple[Refusal, ...]

    def __init__(
        self,
        text: str,
        *,
        code: str,
        location: Location | None = None,
        remedy: str = "",
        rule: str = "",
        acknowledgement: Literal["AE", "AR"] | None = None,
        others: tuple[Refusal, ...] = (),
    ) -> None:
        """Keep the parts; `str()` is place, fact and remedy in one line."""
        self.text = text
        self.code = code
        self.location = location
        self.remedy = remedy
        self.rule = rule
        self.others = others
        self.acknowledgement = acknowledgement or ("AR" if code.startswith("2") else "AE")
        super().__init__(text)

    @property
    def summary(self) -> str:
        """Place, fact and rule in 80 characters, for MSA-3; the fact is what gives way."""
        place = f"{self.location.spoken}: " if self.location else ""
        rule = f" ({self.rule})" if self.rule else ""
        room = TEXT_LIMIT - len(place) - len(rule)
        return f"{place}{shortened(self.text, room)}{rule}"[:TEXT_LIMIT]

    @property
    def sentence(self) -> str:
        """Place, fact, remedy and rule in 250 characters: all that whoever reads it needs."""
        place = f"{self.location.spoken}: " if self.location else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        rule = f" ({self.rule})" if self.rule else ""
        return shortened(f"{place}{self.text}{remedy}", SENTENCE_LIMIT - len(rule)) + rule

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location else ""
        remedy = f" - {self.remedy}" if self.remedy else ""
        rule = f" ({self.rule})" if self.rule else ""
        more = f" and {len(self.others)} more" if self.others else ""
        return f"{self.acknowledgement} {self.code} {place}{self.text}{remedy}{rule}{more}"


class NotHL7(Refusal):
    """The bytes do not start with a usable MSH segment: nobody can be answered by name (AR 200)."""

    def __init__(
        self, text: str, *, remedy: str = "send one HL7 v2 message per MLLP block"
    ) -> None:
        """Refuse with AR 200; there is no location because there is no message."""
        super().__init__(text, code="200", remedy=remedy)


def too_many(what: str, limit: int, location: Location | None = None) -> Refusal:
    """A message that holds more than is worked on at once (AE 100)."""
    return Refusal(
        f"more than {limit} {what}", code="100", location=location, remedy="split the message"
    )


def shortened(text: str, room: int) -> str:
    """What fits of a text into so many characters: whole words, and dots for those that do not."""
    if len(text) <= room:
        return text
    kept = text[: max(room - len(DOTS), 0)]
    whole = kept if text[len(kept)] == " " else kept.rpartition(" ")[0]
    if len(whole) < room // 2:  # the word is most of it
        whole = kept
    return f"{whole.rstrip(' ,;:')}{DOTS}"[: max(room, 0)]
