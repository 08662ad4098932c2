"""C-ECHO: is anybody there (PS3.4 Annex A)."""

from __future__ import annotations

from collections.abc import AsyncIterator

from broker.dicom.dimse import SUCCESS, DimseRequest, Response
from broker.modality.reception import Association


async def answer_echo(_request: DimseRequest, _peer: Association) -> AsyncIterator[Response]:
    """Say yes."""
    yield Response(SUCCESS)
