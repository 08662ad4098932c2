"""What happens when a message lacks an identifier: the policies of `missing:`."""

from __future__ import annotations

from typing import Literal

Missing = Literal["accept", "reject", "derive", "accession"]
DERIVED = {
    "AccessionNumber": "ORC-2.1 ?? OBR-2.1 ?? ORC-3.1 ?? OBR-3.1 | derived",
    "StudyInstanceUID": "AccessionNumber | derived_uid",
}
"""From what an identifier is derived; it is the same for the same order, after a replay too."""
FROM_ACCESSION = frozenset({"RequestedProcedureID", "ScheduledProcedureStepID", "AdmissionID"})
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
    if policy == "accession" and keyword not in FROM_ACCESSION:
        fact = f"{keyword} is never the accession number"
        return fact, f"only {', '.join(sorted(FROM_ACCESSION))}"
    if policy == "accept" and keyword in NEVER_WITHOUT:
        return f"no order stands without {keyword}", "reject it, or derive where that is possible"
    return None
