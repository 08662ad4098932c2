"""What happens when a message lacks an identifier: the policies of `missing:`."""

from __future__ import annotations

import re
from typing import Literal

from broker.worklist.numbering import DIGITS, LONGEST

Missing = Literal["accept", "reject", "derive", "generate", "accession"]
DERIVED = {
    "AccessionNumber": "ORC-2.1 ?? OBR-2.1 ?? ORC-3.1 ?? OBR-3.1 | derived",
    "StudyInstanceUID": "AccessionNumber | derived_uid",
}
"""From what an identifier is derived; it is the same for the same order, after a replay too."""
FROM_ACCESSION = frozenset({"RequestedProcedureID", "ScheduledProcedureStepID", "AdmissionID"})
USUAL_PATTERN = "WL########"
FEWEST_DIGITS = 4
DAY = {"{yyyy}": slice(0, 4), "{yy}": slice(2, 4), "{mm}": slice(4, 6), "{dd}": slice(6, 8)}
"""What of the day a pattern may hold, and where it stands in YYYYMMDD."""
PLAIN = re.compile(r"[A-Za-z0-9 ._/-]*")
NEVER_WITHOUT = frozenset({"AccessionNumber", "PatientID", "PatientName"})


def stand_in(keyword: str, policy: Missing) -> str:
    """The expression for a default, '' when nothing stands in."""
    if policy == "derive":
        return DERIVED.get(keyword, "")
    return "AccessionNumber" if policy == "accession" and keyword in FROM_ACCESSION else ""


def mistake(keyword: str, policy: Missing) -> tuple[str, str] | None:
    """Fact and hint when a policy does not fit an attribute."""
    if policy == "derive" and keyword not in DERIVED:
        return f"{keyword} cannot be derived", f"only {' and '.join(DERIVED)}"
    if policy == "generate" and keyword != "AccessionNumber":
        return f"{keyword} cannot be generated", "only AccessionNumber"
    if policy == "accession" and keyword not in FROM_ACCESSION:
        fact = f"{keyword} is never the accession number"
        return fact, f"only {', '.join(sorted(FROM_ACCESSION))}"
    if policy == "accept" and keyword in NEVER_WITHOUT:
        return f"no order stands without {keyword}", "reject it, or derive where that is possible"
    return None


def pattern_mistake(pattern: str) -> tuple[str, str] | None:
    """Fact and hint when no accession numbers can be made by a pattern."""
    example = "as REF-{yy}-######"
    runs = DIGITS.findall(pattern)
    if len(runs) != 1:
        return "a pattern has one run of #, the digits that count", example
    if len(runs[0]) < FEWEST_DIGITS:
        return f"{len(runs[0])} digits are soon used up", f"{FEWEST_DIGITS} at least, {example}"
    filled = dated(pattern, "20260316")
    rest = DIGITS.sub("", filled)
    if not PLAIN.fullmatch(rest):
        hint = f"letters, digits, space . _ / - and {' '.join(DAY)}; {example}"
        return "a pattern holds something that no number should", hint
    if len(filled) > LONGEST:
        return f"{len(filled)} characters, an accession number has {LONGEST} at most", example
    return None


def dated(pattern: str, day: str) -> str:
    """A pattern with the day (YYYYMMDD) filled in."""
    for name, part in DAY.items():
        pattern = pattern.replace(name, day[part])
    return pattern
