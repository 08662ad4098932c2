"""`dicom` and `mpps`: which scanner may ask, what it sees, and what its reports mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, timedelta, tzinfo
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from broker.settings.tls import DicomTls
from broker.settings.values import (
    Address,
    AeTitle,
    Duration,
    Endpoint,
    Names,
    Network,
    Section,
    Size,
)
from broker.worklist.directory import Directory, Entry, IPNetwork
from broker.worklist.performing import REASONS, Ending, ExamRules, NeverEnded
from broker.worklist.reconciling import Level, Matching
from broker.worklist.rules import Rules


class DicomLimits(Section):
    """What one DICOM peer may cost us."""

    association_deadline: Duration = timedelta(seconds=30)
    pdu_deadline: Duration = timedelta(seconds=30)
    write_deadline: Duration = timedelta(seconds=30)
    idle: Duration = timedelta(hours=1)
    associations: int = Field(200, ge=1)
    associations_per_host: int = Field(50, ge=1)
    held: Size = 256 * 2**20
    max_candidates: int = Field(20_000, ge=1)


class Ae(Rules):
    """A scanner we know, with the rules that hold for it alone.

    `addresses` are where it may call from, anywhere when empty. `certificate` are the names of
    which the certificate of its connection has to have one. AEs of one `group` share a list: who
    asks for its own station asks for those of the group.
    """

    title: AeTitle
    aliases: tuple[AeTitle, ...] = ()
    addresses: tuple[Network, ...] = ()
    certificate: Names = ()
    group: str = ""


class Lenient(Section):
    """What a peer may do that the standard does not allow.

    `titles`: AE titles padded with NUL or of 8 bit; `title_case`: titles that differ from ours in
    case only; `message_id`: a request without Message ID.
    """

    titles: bool = True
    title_case: bool = True
    message_id: bool = True


class Dicom(Section):
    """The worklist and MPPS service.

    `aliases` are further called AE titles, for instance those of a system that it replaces.
    `rules` hold for every calling AE, known or not, that has no such rule of its own. With `tls` it
    listens on a second port, and with `plain: false` only there.
    """

    ae_title: AeTitle = "BROKER"
    aliases: tuple[AeTitle, ...] = ()
    listen: Endpoint = Address("127.0.0.1", 11112)
    plain: bool = True
    tls: DicomTls | None = None
    unknown_ae: Literal["accept", "refuse"] = "accept"
    called_ae: Literal["any", "own"] = "any"
    processes: int = Field(1, ge=1, le=64)
    limits: DicomLimits = DicomLimits()
    lenient: Lenient = Lenient()
    rules: Rules = Rules()
    aes: tuple[Ae, ...] = ()

    @model_validator(mode="after")
    def _somebody_may_call(self) -> Self:
        if self.unknown_ae == "refuse" and not self.aes:
            raise ValueError("unknown_ae: refuse wants the AEs that may call, in aes")
        return self

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.plain and self.tls is None:
            raise ValueError("plain: false leaves no port; say tls, with its certificate")
        asked = self.tls is not None and self.tls.client != "none"
        if not asked and any(ae.certificate for ae in self.aes):
            raise ValueError("an AE with a certificate needs dicom.tls with the ca of that")
        return self

    @model_validator(mode="after")
    def _one_ae_a_title(self) -> Self:
        """Devices that share a title are told apart by their addresses."""
        held: dict[str, Ae] = {}
        for ae in self.aes:
            for title in (ae.title, *ae.aliases):
                other = held.setdefault(title, ae)
                if other is not ae and not (other.addresses and ae.addresses):
                    raise ValueError(f"aes: '{title}' is there twice, without addresses")
        return self

    def directory(self, site: tzinfo = UTC, testers: Sequence[IPNetwork] = ()) -> Directory:
        """The AEs that are known, each with its rules above those that hold for all.

        `testers` are from where the self-test may call, beside this machine.
        """
        entries = (
            Entry(
                ae.title,
                ae.under(self.rules),
                ae.aliases,
                ae.addresses,
                ae.group,
                frozenset(map(str.casefold, ae.certificate)),
            )
            for ae in self.aes
        )
        any_case = self.lenient.title_case
        return Directory(tuple(entries), self.rules, any_case=any_case, site=site, testers=testers)


def _modality(value: str) -> str:
    if not re.fullmatch(r"[A-Z0-9_]{1,16}", value):
        raise ValueError(
            f"'{value}' is no modality (PS3.3 C.7.3.1.1.1): a code as CT, in upper case, "
            "without blanks"
        )
    return value


ModalityCode = Annotated[str, AfterValidator(_modality)]


class Mpps(Section):
    """How exams are matched to scheduled steps, and what a step is after one was broken off.

    `match` are the levels in their order; `window` is how far from its time a step of level
    `patient` may be. `reasons` are codes of CID 9300, beside those that are known. An exam of which
    nothing was heard for `ends_within` (`ends_within_of` a modality) is an exception; `never_ended`
    says what its step is then. `done_after` is for modalities that have no MPPS: a step whose start
    lies so long ago counts as done.
    """

    match: tuple[Level, ...] = (Level.STUDY, Level.ACCESSION)
    window: Duration = timedelta(hours=12)
    reasons: dict[str, Ending] = Field(default_factory=dict)
    ends_within: Duration = timedelta(hours=24)
    ends_within_of: dict[ModalityCode, Duration] = Field(default_factory=dict)
    never_ended: NeverEnded = NeverEnded.FLAG
    done_after: dict[ModalityCode, Duration] = Field(default_factory=dict)

    @property
    def rules(self) -> ExamRules:
        """All of it; what reasons mean by the site, and by us where it does not say."""
        return ExamRules(Matching(self.match, self.window), {**REASONS, **self.reasons})
