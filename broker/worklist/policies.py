"""What a site may decide about the meaning of its messages; each has a default that is safe."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class PatientFrom(StrEnum):
    """Whose word counts for demographics: the last one's, or patient messages' before orders'."""

    ANY = "any"
    ADT = "adt"


class MissingSteps(StrEnum):
    """What becomes of steps that a message about their procedure does not name.

    Kept, they may get the ID of a new one that is the same exam: in updates, and in new orders with
    the same filler number unless those only `add`.
    """

    KEEP = "keep"
    ADD = "add"
    CANCEL = "cancel"


class Groups(StrEnum):
    """What becomes of the good groups of a message of which one is bad."""

    ALL_OR_NOTHING = "all_or_nothing"
    APPLY_GOOD = "apply_good"


class AfterStart(StrEnum):
    """How a cancel of an exam that has begun is answered: AA and a status message, or AR 206."""

    FLAG = "flag"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Policies:
    """The decisions for one source."""

    patient_from: PatientFrom = PatientFrom.ANY
    missing_steps: MissingSteps = MissingSteps.KEEP
    groups: Groups = Groups.ALL_OR_NOTHING
    after_start: AfterStart = AfterStart.FLAG


STANDARD = Policies()
