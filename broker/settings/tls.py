"""`tls`: the files by which we prove who we are and judge who is at the other end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import model_validator

from broker.settings.values import Address, Endpoint, Section


class Tls(Section):
    """PEM files: our certificate with its chain, its key (or both in one), and whom we trust.

    The lowest version is TLS 1.2 and cannot be changed (PS3.15 B.12, RFC 8996).
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @model_validator(mode="after")
    def _key_of_a_certificate(self) -> Self:
        if self.key and not self.certificate:
            raise ValueError("a key is that of a certificate: name the certificate too")
        return self


class ServerTls(Tls):
    """TLS of a listener; `client` says whether a peer has to show a certificate of `ca`.

    It has to where `ca` is named, unless `client` says otherwise.
    """

    client: Literal["required", "optional", "none"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _a_ca_means_mutual(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("ca") and "client" not in values:
            return {**values, "client": "required"}
        return values

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not self.certificate:
            raise ValueError("a listener with tls needs a certificate and its key")
        if self.client != "none" and not self.ca:
            raise ValueError(f"client: {self.client} needs the ca that has issued certificates")
        return self


class DicomTls(ServerTls):
    """TLS of the worklist service, on a port of its own (2762, `dicom-tls`)."""

    listen: Endpoint = Address("127.0.0.1", 2762)


class ClientTls(Tls):
    """TLS to a server of others; `ca` is whom we trust, the machine's authorities without it.

    The server's certificate has to name `server_name`, else the host that we call.
    """

    server_name: str = ""
