"""`audit`: where it is kept who asked for whom, and who changed what (DICOM PS3.15 A.5)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from broker.settings.tls import ClientTls
from broker.settings.values import Called, Section, Size


class Audit(Section):
    """The trail of audit messages: a file of ours, or a syslog collector of others.

    A file holds one message a line; beyond `max_bytes` another one begins, and of `files` the
    oldest is removed. `buffer` messages wait for a collector that is slow or away; when it is full
    the newest are lost and counted (`drop`), or the door waits with everything it does (`wait`).
    """

    to: Literal["off", "file", "syslog"] = "off"
    path: Path | None = None
    max_bytes: Size = 64 * 2**20
    files: int = Field(16, ge=1, le=1000)
    host: Called | None = None
    transport: Literal["udp", "tls"] = "udp"
    tls: ClientTls = ClientTls()
    buffer: int = Field(5_000, ge=1, le=1_000_000)
    when_full: Literal["drop", "wait"] = "drop"

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.to == "syslog" and self.host is None:
            raise ValueError("to: syslog needs a host, for example audit.hospital.example:6514")
        return self
