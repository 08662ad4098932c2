"""Who may associate: the called title, then the calling AE of the directory and its own limit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.dicom.negotiation import (
    CALLING_AE_ELSEWHERE,
    CALLING_AE_UNKNOWN,
    CALLING_AE_UNPROVEN,
    LIMIT_REACHED,
    AssociationRequest,
    Policy,
    Rejection,
)
from broker.worklist.directory import Directory, Unrecognised


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of one listener; `refuse_unknown`: AEs outside the directory are rejected.

    A title of the directory that calls from elsewhere than its addresses is rejected in any case:
    it would see what is another's; so is one with another certificate than its own.
    `message_id_needed`: a request without one aborts.
    """

    policy: Policy = field(default_factory=Policy)
    directory: Directory = field(default_factory=Directory)
    refuse_unknown: bool = False
    message_id_needed: bool = False

    def judge(
        self,
        request: AssociationRequest,
        address: str,
        associated: Mapping[str, int],
        certificate: frozenset[str] = frozenset(),
    ) -> Rejection | None:
        """Return why the association is refused, or None; `associated` counts them by title.

        `certificate` are the names of the peer's, none when it has shown none.
        """
        if rejection := self.policy.judge(request):
            return rejection
        found = self.directory.recognise(request.calling_ae, address, certificate)
        if found is Unrecognised.ELSEWHERE:
            return CALLING_AE_ELSEWHERE
        if found is Unrecognised.CERTIFICATE:
            return CALLING_AE_UNPROVEN
        if found is Unrecognised.UNKNOWN:
            return CALLING_AE_UNKNOWN if self.refuse_unknown else None
        limit = found.rules.max_associations
        held = associated.get(found.title, 0)
        return LIMIT_REACHED if limit is not None and held >= limit else None
