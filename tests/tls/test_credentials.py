"""Files of certificates: what is taken, what is refused with its remedy, what is taken anew."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from broker.settings.tls import ClientTls, ServerTls
from broker.store.metrics import exposition, snapshot
from broker.tls import validity
from broker.tls.credentials import Credentials, Unusable
from broker.tls.metrics import DaysLeft
from tests.tls.authority import Authority

NOW = datetime(2026, 3, 16, tzinfo=UTC)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def looking_at(tls: ServerTls | ClientTls) -> Credentials:
    """Credentials that look at their files whenever they are asked."""
    return Credentials("hl7.listeners.0", tls, clock=lambda: NOW, look_s=0)


def shown_by(credentials: Credentials, authority: Authority) -> str:
    """The serial number of the certificate that a peer is shown now."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with credentials.context().wrap_socket(ours, server_side=True) as served:
            served.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    with authority.client().wrap_socket(theirs, server_hostname="localhost") as peer:
        shown = peer.getpeercert()
        assert shown is not None
        peer.send(b"x")
    thread.join(5)
    return str(shown["serialNumber"])


def test_a_renewed_certificate_is_shown_to_the_next_peer(authority: Authority) -> None:
    path = authority.issue("server", "localhost")
    credentials = looking_at(ServerTls(certificate=path))
    first = shown_by(credentials, authority)
    assert shown_by(credentials, authority) == first
    authority.issue("server", "localhost")
    assert shown_by(credentials, authority) != first


def test_a_renewal_behind_a_link_is_seen(authority: Authority, tmp_path: Path) -> None:
    """As secrets are mounted: the link of a folder is moved to another one."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        shutil.move(authority.issue("server", "localhost"), tmp_path / name / "server.pem")
    link = tmp_path / "now"
    link.symlink_to("old")
    credentials = looking_at(ServerTls(certificate=link / "server.pem"))
    first = shown_by(credentials, authority)
    link.unlink()
    link.symlink_to("new")
    assert shown_by(credentials, authority) != first


@pytest.mark.parametrize("broken", [b"", b"no PEM", None])
def test_a_bad_new_file_keeps_the_old_one_and_says_so_once(
    authority: Authority, broken: bytes | None
) -> None:
    path = authority.issue("server", "localhost")
    credentials = looking_at(ServerTls(certificate=path))
    first = shown_by(credentials, authority)
    path.unlink()
    if broken is not None:
        path.write_bytes(broken)
    with capture_logs() as lines:
        assert shown_by(credentials, authority) == first
        assert shown_by(credentials, authority) == first
    (said,) = [line for line in lines if line["event"] == "certificate not renewed"]
    assert said["use"] == "hl7.listeners.0"
    assert "stays in use" in said["remedy"]
    authority.issue("server", "localhost")
    assert shown_by(credentials, authority) != first


def test_certificate_and_key_of_two_pairs_are_no_pair(authority: Authority, tmp_path: Path) -> None:
    one, other = authority.issue("one", "localhost"), authority.issue("other", "localhost")
    with pytest.raises(Unusable, match="the key is not that of the certificate"):
        looking_at(ServerTls(certificate=one, key=other))


def test_files_that_cannot_be_used_are_named_with_their_setting(
    authority: Authority, tmp_path: Path
) -> None:
    good, rubbish = authority.issue("server", "localhost"), tmp_path / "rubbish"
    rubbish.write_text("no PEM")
    for tls, fact in (
        (ServerTls(certificate=tmp_path / "none"), "none: No such file"),
        (ServerTls(certificate=rubbish), "rubbish: no certificate and key"),
        (ServerTls(certificate=good, ca=rubbish), "rubbish: no certificate in it"),
        (ClientTls(ca=rubbish), "rubbish: no certificate in it"),
    ):
        with pytest.raises(Unusable, match=rf"^hl7.listeners.0.tls: .*{fact}"):
            looking_at(tls)


def test_an_encrypted_key_is_refused_and_never_asks_the_terminal(
    authority: Authority, tmp_path: Path
) -> None:
    plain, locked = authority.issue("server", "localhost"), tmp_path / "locked.key"
    encrypt = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", plain, "-out", locked]
    if b"EC PRIVATE" in plain.read_bytes():
        encrypt[1] = "ec"
    subprocess.run(encrypt, check=True, capture_output=True)
    with pytest.raises(Unusable, match="the key is encrypted; give it without passphrase"):
        looking_at(ServerTls(certificate=plain, key=locked))


def test_days_left_are_a_metric_without_paths_and_the_fewest_of_all_processes_count(
    authority: Authority,
) -> None:
    path = authority.issue("server", "localhost", until=NOW + timedelta(days=40))
    taken = []
    for later in (timedelta(), timedelta(days=2)):

        def clock(later: timedelta = later) -> datetime:
            return NOW + later

        credentials = Credentials("dicom", ServerTls(certificate=path), clock=clock)
        registry = CollectorRegistry()
        registry.register(DaysLeft("modality", [credentials]))
        taken.append(snapshot(registry, at=0))
        assert str(path.parent) not in generate_latest(registry).decode()
    name = 'broker_modality_certificate_days_left{file="server.pem",setting="dicom.tls"}'
    assert f"{name} 38.0" in exposition(taken)


@pytest.mark.parametrize(
    ("days", "event"), [(-1, "certificate has ended"), (29, "certificate ends soon"), (31, None)]
)
def test_what_ends_soon_or_has_ended_is_said_once_a_day(
    authority: Authority, days: int, event: str | None
) -> None:
    path = authority.issue("server", "localhost", until=NOW + timedelta(days=days))
    with capture_logs() as lines:
        credentials = looking_at(ServerTls(certificate=path))
        credentials.context()
        credentials.context()
    assert [(line["event"], line["days_left"]) for line in lines] == (
        [(event, float(days))] if event else []
    )


def test_the_first_to_end_of_a_chain_counts(authority: Authority) -> None:
    near, far = (
        authority.issue(f"{days}", "localhost", until=NOW + timedelta(days=days)).read_text()
        for days in (10, 10_000)
    )
    assert validity.ends(far + near) == NOW + timedelta(days=10)
    assert validity.ends(far) == NOW + timedelta(days=10_000), "after 2050 it is written otherwise"
    assert validity.ends("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n") is None
    assert validity.ends("") is None


def test_only_tls_1_2_and_1_3_with_forward_secrecy(authority: Authority) -> None:
    """PS3.15 B.12, RFC 8996, RFC 9325."""
    path = authority.issue("server", "localhost")
    for tls in (ServerTls(certificate=path), ClientTls(ca=authority.ca)):
        context = looking_at(tls).context()
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.maximum_version == ssl.TLSVersion.MAXIMUM_SUPPORTED
        names = [cipher["name"] for cipher in context.get_ciphers()]
        assert all(name.startswith(("TLS_", "ECDHE-")) for name in names)
        assert not [name for name in names if "CBC" in name or name.endswith("SHA")]
