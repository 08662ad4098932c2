"""What may be said of TLS in the configuration, as the documentation says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.mapping.text.nodes import Complaints
from broker.settings import Address, Settings

SECURITY = (Path(__file__).parents[2] / "docs/security.md").read_text(encoding="utf-8")


def loaded(text: str, folder: Path, **environ: str) -> Settings:
    path = folder / "broker.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path, environ)


def test_the_example_of_the_documentation_means_what_it_says(tmp_path: Path) -> None:
    found = re.search(r"^```yaml tls\n(.*?)^```", SECURITY, re.MULTILINE | re.DOTALL)
    assert found
    settings = loaded(found[1], tmp_path)
    (listener,) = settings.hl7.listeners
    assert listener.tls is not None
    assert listener.tls.certificate == tmp_path / "pki/broker.pem", "beside the file that names it"
    assert listener.tls.client == "required"
    assert listener.senders[0].certificate == ("interface-engine.north.example",)
    assert settings.dicom.tls is not None
    assert settings.dicom.tls.listen == Address("0.0.0.0", 2762)
    assert settings.dicom.aes[0].certificate == ("ct1.north.example",)
    assert settings.ris[0].tls is not None
    assert settings.ris[0].tls.ca == tmp_path / "pki/hospital-ca.pem"
    assert settings.redis.full_url.startswith("rediss://redis.north.example:6380/0?ssl_ca_certs=")
    assert settings.redis.url == "rediss://redis.north.example:6380/0"


def test_the_trail_of_the_documentation_goes_to_a_collector_over_tls(tmp_path: Path) -> None:
    found = re.search(r"^```yaml audit\n(.*?)^```", SECURITY, re.MULTILINE | re.DOTALL)
    assert found
    audit = loaded(found[1], tmp_path).audit
    assert (audit.to, audit.transport, audit.when_full) == ("syslog", "tls", "drop")
    assert audit.host == Address("audit.north.example", 6514)
    assert audit.tls.ca == tmp_path / "pki/hospital-ca.pem"


def test_one_listener_can_be_said_in_short_and_by_variables(tmp_path: Path) -> None:
    short = "hl7: {listen: '127.0.0.1:0', tls: {certificate: a.pem}}\n"
    (listener,) = loaded(short, tmp_path).hl7.listeners
    assert listener.tls is not None
    assert listener.tls.certificate == tmp_path / "a.pem"
    assert listener.tls.client == "none"
    settings = loaded(
        "", tmp_path, BROKER_DICOM__TLS__CERTIFICATE="/a.pem", BROKER_DICOM__TLS__LISTEN="[::]:2762"
    )
    assert settings.dicom.tls is not None
    assert settings.dicom.tls.listen == Address("::", 2762)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("dicom: {tls: {ca: a.pem}}\n", "needs a certificate and its key"),
        ("dicom: {tls: {key: a.pem}}\n", "name the certificate too"),
        ("dicom: {tls: {certificate: a.pem, client: required}}\n", "needs the ca"),
        ("dicom: {plain: false}\n", "plain: false leaves no port"),
        ("dicom: {tls: {minimum: '1.1'}}\n", "unknown key 'minimum'"),
        ("dicom: {aes: [{title: CT1, certificate: a}]}\n", "an AE with a certificate needs"),
        (
            "dicom: {tls: {certificate: a.pem}, aes: [{title: CT1, certificate: a}]}\n",
            "an AE with a certificate needs",
        ),
        (
            "hl7: {listeners: [{senders: [{sender: 'A|B', certificate: a}]}]}\n",
            "a sender with a certificate needs tls",
        ),
        ("hl7: {listeners: [{senders: [{sender: AB}]}]}\n", "sender"),
        ("audit: {to: syslog}\n", "to: syslog needs a host"),
        ("redis: {url: 'redis://a', tls: {ca: a.pem}}\n", "begins with rediss://"),
    ],
)
def test_nonsense_is_refused_with_its_reason(text: str, fact: str, tmp_path: Path) -> None:
    with pytest.raises(Complaints, match=re.escape(fact)):
        loaded(text, tmp_path)
