"""Why a message is not taken: the reason carries the answer that the sender deserves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

TEXT_LIMIT: Final = 80  # MSA-3 and ERR-8 are ST of 80 characters in the oldest versions we answer

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


class Refusal(Exception):
    """A message is refused; never holds patient data, since it goes to logs and over the wire.

    `code` is of table 0357 and decides AE or AR unless `acknowledgement` says otherwise;
    `text` states the fact (cut at 80 characters), `remedy` what the sender or integrator can do.
    """

    acknowledgement: Literal["AE", "AR"]
    code: str
    location: Location | None
    text: str
    remedy: str

    def __init__(
        self,
        text: str,
        *,
        code: str,
        location: Location | None = None,
        remedy: str = "",
        acknowledgement: Literal["AE", "AR"] | None = None,
    ) -> None:
        """Keep the parts; `str()` is place, fact and remedy in one line."""
        self.text = text[:TEXT_LIMIT]
        self.code = code
        self.location = location
        self.remedy = remedy
        self.acknowledgement = acknowledgement or ("AR" if code.startswith("2") else "AE")
        super().__init__(self._line())

    def _line(self) -> str:
        place = f"{self.location}: " if self.location else ""
        remedy = f" - {self.remedy}" if self.remedy else ""
        return f"{self.acknowledgement} {self.code} {place}{self.text}{remedy}"


class NotHL7(Refusal):
    """The bytes do not start with a usable MSH segment: nobody can be answered by name (AR 200)."""

    def __init__(
        self, text: str, *, remedy: str = "send one HL7 v2 message per MLLP block"
    ) -> None:
        """Refuse with AR 200; there is no location because there is no message."""
        super().__init__(text, code="200", remedy=remedy)
