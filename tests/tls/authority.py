"""Certificates for tests: an authority that writes what it issues as settings name it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import trustme


@dataclass
class Authority:
    """A CA of its own in a folder; `ca` is the file by which others trust it."""

    folder: Path
    _ca: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ca.cert_pem.write_to_path(self.ca)

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def issue(
        self, file: str, *names: str, common: str | None = None, until: datetime | None = None
    ) -> Path:
        """A file with a certificate for these names, its chain and its key."""
        path = self.folder / f"{file}.pem"
        issued = self._ca.issue_cert(*names, common_name=common, not_after=until)
        path.write_bytes(issued.private_key_and_cert_chain_pem.bytes())
        return path

    def client(self, certificate: Path | None = None) -> ssl.SSLContext:
        """A context of a peer that trusts us, and may have a certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if certificate is not None:
            context.load_cert_chain(certificate)
        return context


def lowered(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same for a peer that speaks TLS 1.1 at most, as OpenSSL lets only the careless do."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.options |= ssl.OP_NO_TLSv1_3 | ssl.OP_NO_TLSv1_2
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    return context
