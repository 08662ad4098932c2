"""The ports on which the doors listen: whether each can be bound, before anything starts."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence

from broker.settings import Address, Dicom, Settings
from broker.supervising.refusal import CannotRun

PATIENCE_S = 5.0
"""An earlier run may still be leaving."""


def refuse_taken(settings: Settings, roles: Sequence[str]) -> None:
    """Refuse ports that others hold. Raises CannotRun.

    Doors share their port among instances, so the kernel would let a second broker join in.
    """
    for role in roles:
        for key, address in addresses(settings, role):
            deadline = time.monotonic() + PATIENCE_S
            while (reason := _unbindable(address)) and time.monotonic() < deadline:
                time.sleep(0.1)
            if reason:
                raise CannotRun(
                    os.EX_TEMPFAIL,
                    f"{key}: {address}: {reason}; end that one or choose another",
                )


def addresses(settings: Settings, role: str) -> list[tuple[str, Address]]:
    """Give where a door listens, each with its key in the settings."""
    found = {
        "orders": [("hl7.listen", each.listen) for each in settings.hl7.listeners],
        "modality": _of_dicom(settings.dicom),
        "console": [("console.listen", settings.console.listen)],
    }
    return found.get(role, [])


def _of_dicom(dicom: Dicom) -> list[tuple[str, Address]]:
    plain = [("dicom.listen", dicom.listen)] if dicom.plain else []
    return plain + ([("dicom.tls.listen", dicom.tls.listen)] if dicom.tls else [])


def _unbindable(address: Address) -> str:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            return error.strerror or str(error)
    return ""
