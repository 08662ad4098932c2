"""`ris` and `updates`: who is told what the scanners did, and what each answer means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from broker.settings.tls import ClientTls
from broker.settings.values import AeTitle, Called, Name, Section


class Verdict(StrEnum):
    """What becomes of a message: it is done with, a person sees to it, or it is sent again."""

    DONE = "done"
    PARK = "park"
    RETRY = "retry"


SILENCE, NONSENSE, WRONG_ID = "silence", "nonsense", "wrong_id"
ANSWERS: Final[Mapping[str, Verdict]] = {
    "AA": Verdict.DONE,
    "CA": Verdict.DONE,
    "AE": Verdict.PARK,
    "CE": Verdict.PARK,
    "AR": Verdict.RETRY,
    "CR": Verdict.RETRY,
    SILENCE: Verdict.RETRY,
    NONSENSE: Verdict.RETRY,
    WRONG_ID: Verdict.RETRY,
}
"""By MSA-1 (table 0008), and what is no such answer: E is the content's fault, R is not."""
STATUSES: Final[Mapping[str, Verdict]] = {
    "0000": Verdict.DONE,
    "0001": Verdict.DONE,  # the warnings of PS3.7 Annex C: taken, though not as it was
    "0107": Verdict.DONE,
    "0116": Verdict.DONE,
    "0212": Verdict.RETRY,  # resource limitation
    "A700": Verdict.RETRY,  # out of resources
}
"""By status of N-CREATE and N-SET; every other one is a refusal."""
_ANSWER = re.compile(r"(?:AA|AE|AR|CA|CE|CR)(?: \S{1,20})?|silence|nonsense|wrong_id")
_STATUS = re.compile(r"[0-9A-F]{4}")


def _read_answer(value: object) -> object:
    if not _ANSWER.fullmatch(str(value)):
        raise ValueError(
            "an answer is AA, AE, AR, CA, CE or CR, one of them with an error code as 'AE 207', "
            "silence, nonsense or wrong_id"
        )
    return value


def _read_status(value: object) -> object:
    if not _STATUS.fullmatch(str(value)):
        raise ValueError("a status is written with four hexadecimal digits, as 0110")
    return value


Answer = Annotated[str, BeforeValidator(_read_answer)]
Status = Annotated[str, BeforeValidator(_read_status)]


class Destination(Section):
    """Where reports of scanners go.

    `aes` are the AEs of which it is told, all when empty. After a refusal `on_reject: skip` goes
    on with the next message, `hold` waits for a person.
    """

    name: Name
    to: Called
    aes: tuple[AeTitle, ...] = ()
    on_reject: Literal["skip", "hold"] = "skip"
    connections: int = Field(1, ge=1, le=16)
    connect_timeout_s: float = Field(10, gt=0)
    ack_timeout_s: float = Field(30, gt=0)
    tls: ClientTls | None = None

    def wants_of(self, stations: frozenset[str]) -> bool:
        """Whether it is told of what one of these AEs has done, or shall do."""
        return not self.aes or not stations.isdisjoint(self.aes)


class Ris(Destination):
    """A RIS that is told what the scanners did.

    `states` are those that it is told of, `issuers` those of the orders (all when empty), and with
    `progress` it is told of every N-SET that changes no state too. `answers` are where it means
    something else by an answer than ANSWERS.
    """

    mapping: str = "status-orm"
    states: tuple[Literal["IN PROGRESS", "COMPLETED", "DISCONTINUED"], ...] = ()
    issuers: tuple[str, ...] = ()
    progress: bool = False
    answers: dict[Answer, Verdict] = Field(default_factory=dict)

    def verdict(self, code: str, condition: str = "") -> Verdict | None:
        """What an answer means, with its error code first; None for an MSA-1 that none has."""
        table = {**ANSWERS, **self.answers}
        return table.get(f"{code} {condition}") or table.get(code)


class Forward(Destination):
    """Another SCP that gets every MPPS as it came, for instance a PACS.

    `ae_title` is how we call, `called` how it is called. `statuses` are where it means something
    else by a status than STATUSES.
    """

    ae_title: AeTitle = "BROKER"
    called: AeTitle = "ANY-SCP"
    statuses: dict[Status, Verdict] = Field(default_factory=dict)

    def verdict(self, status: int) -> Verdict:
        """What a status means."""
        return {**STATUSES, **self.statuses}.get(f"{status:04X}", Verdict.PARK)


class Updates(Section):
    """What the updates door does beside telling RISs: `forward` sends MPPS on to other SCPs."""

    forward: tuple[Forward, ...] = ()
