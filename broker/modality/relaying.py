"""MPPS requests for other SCPs: as they came, in the commit that records them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from datetime import datetime

from broker.dicom.dimse import DimseRequest
from broker.settings import Forward
from broker.store.outbox import Event
from broker.worklist import canary


def relayed(
    forward: Sequence[Forward],
    request: DimseRequest,
    *,
    uid: str,
    status: str,
    calling: str,
    now: datetime,
) -> Iterator[Event]:
    """Give a request to every SCP that is told of this AE; its mailbox is the performed step.

    `uid` is that of the step, also where the scanner gave none. Twice the same is one.
    """
    for each in forward:
        if calling == canary.AE or not each.wants_of(frozenset({calling})):
            continue
        said = (each.name, uid, request.kind)
        digest = hashlib.sha256("\x1f".join(said).encode() + (request.dataset or b"")).hexdigest()
        yield Event(
            ris=each.name,
            order=uid,
            control_id=digest[:20].upper(),
            created=now.timestamp(),
            mapping="",
            note=f"{request.kind} {status}",
            payload=request.dataset or b"",
            kind="mpps",
            facts={"operation": request.kind, "syntax": request.transfer_syntax, "ae": calling},
        )
