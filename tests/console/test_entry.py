"""The console door locked: TLS and a password, as a browser, Prometheus and a stranger meet it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from broker.mapping.text.nodes import Complaints
from broker.rollout.risks import risks
from broker.settings import Settings
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from tests.doors.actors import until
from tests.tls.authority import Authority, lowered

pytestmark = pytest.mark.peer("redis-server")

PASSWORD = "Geh#eim:nis/ä"
PAGES = ("readyz", "metrics", "health/deep")
Get = Callable[..., int]


@contextmanager
def door(server: EmbeddedServer, **environ: str) -> Iterator[str]:
    """The door as a process; gives HOST:PORT."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
    clean |= {"BROKER_REDIS__URL": server.url, "BROKER_CONSOLE__LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", "broker", "door", "console"]
    environ = clean | {f"BROKER_CONSOLE__{name}": text for name, text in environ.items()}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["console"]
        finally:
            process.terminate()
            _, said = process.communicate(timeout=30)
            assert PASSWORD not in said


def get(
    url: str, said: str = "", context: ssl.SSLContext | None = None
) -> tuple[int, dict[str, str]]:
    """Status and headers of a page, asked with this Authorization."""
    request = urllib.request.Request(url, headers={"Authorization": said} if said else {})
    try:
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, dict(answer.headers)


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer(password: str) -> str:
    return f"Bearer {password}".encode().decode("latin-1")


def test_with_a_password_every_page_but_healthz_is_for_who_shows_it(
    server: EmbeddedServer, store: Store
) -> None:
    with door(server, PASSWORD=PASSWORD) as place:
        assert get(f"http://{place}/healthz")[0] == 200
        for page in (*PAGES, "", "nowhere", "healthz/", "metrics/"):
            status, headers = get(f"http://{place}/{page}")
            assert status == 401, page
            assert headers["www-authenticate"].startswith('Basic realm="worklist broker"')
            assert headers["cache-control"] == "no-store"
        for page in PAGES:
            assert get(f"http://{place}/{page}", basic("broker", PASSWORD))[0] == 200, page
            assert get(f"http://{place}/{page}", bearer(PASSWORD))[0] == 200, page
        for wrong in (
            basic("broker", "wrong"),
            basic("root", PASSWORD),
            basic("broker", ""),
            bearer("wrong"),
            "Bearer",
            "Basic !!!",
            "Basic /////w==",
            "Basic \xe4",
            "Bearer \xff",
            f"Digest {PASSWORD}".encode().decode("latin-1"),
        ):
            assert get(f"http://{place}/metrics", wrong)[0] == 401, wrong


def test_pages_may_be_free_and_the_password_lie_in_a_file(
    server: EmbeddedServer, store: Store, tmp_path: Path
) -> None:
    secret = tmp_path / "console.password"
    secret.write_text(f"{PASSWORD}\nnot this\n")
    with door(server, PASSWORD_FILE=str(secret), FREE="[/metrics]", USER="monitor") as place:
        assert get(f"http://{place}/metrics")[0] == 200
        assert get(f"http://{place}/readyz")[0] == 401
        assert get(f"http://{place}/readyz", basic("monitor", PASSWORD))[0] == 200


@pytest.mark.filterwarnings("ignore:ssl:DeprecationWarning")
def test_with_tls_it_speaks_nothing_else_and_takes_renewed_files(
    server: EmbeddedServer, store: Store, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    file = authority.issue("console", "localhost", "127.0.0.1")
    with door(server, PASSWORD=PASSWORD, TLS__CERTIFICATE=str(file)) as place:
        ours = authority.client()
        assert get(f"https://{place}/metrics", basic("broker", PASSWORD), ours)[0] == 200
        assert get(f"https://{place}/metrics", "", ours)[0] == 401
        request = urllib.request.Request(f"https://{place}/metrics")
        request.add_header("Authorization", bearer(PASSWORD))
        with urllib.request.urlopen(request, timeout=30, context=ours) as answer:
            text = answer.read().decode()
        name = 'broker_console_certificate_days_left{file="console.pem",setting="console.tls"}'
        assert any(line.startswith(name) for line in text.splitlines())
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            get(f"https://{place}/healthz", "", ssl.create_default_context())
        with pytest.raises(urllib.error.URLError):
            get(f"https://{place}/healthz", "", lowered(authority.client()))
        host, port = place.rsplit(":", 1)
        with closing(socket.create_connection((host, int(port)), timeout=30)) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in plain.recv(1000)

        before = shown(host, int(port), ours)
        shutil.move(authority.issue("renewed", "localhost", "127.0.0.1"), file)
        until(lambda: shown(host, int(port), ours) != before, "the renewed certificate")


def shown(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    """The certificate that it shows."""
    with (
        socket.create_connection((host, port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname=host) as secured,
    ):
        return secured.getpeercert(binary_form=True)


def test_with_a_ca_a_visitor_needs_a_certificate(
    server: EmbeddedServer, store: Store, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    file, own = authority.issue("console", "127.0.0.1"), authority.issue("own", "prometheus")
    told = {"TLS__CERTIFICATE": str(file), "TLS__CA": str(authority.ca)}
    with door(server, **told) as place:
        assert get(f"https://{place}/metrics", "", authority.client(own))[0] == 200
        with pytest.raises((urllib.error.URLError, OSError)):
            get(f"https://{place}/metrics", "", authority.client())


def test_the_check_warns_of_a_console_that_others_reach_without_password_or_tls(
    tmp_path: Path,
) -> None:
    def warned(text: str) -> set[str]:
        (tmp_path / "broker.yaml").write_text(f"console: {text}\n")
        found = risks(Settings.load(tmp_path / "broker.yaml", {}))
        return {each.rpartition("; ")[2] for each in found if each.startswith("console")}

    authority = Authority(tmp_path)
    file = authority.issue("console", "localhost")
    file.chmod(0o600)
    clear, nobody = "say tls, or keep it on 127.0.0.1", "say a password"
    assert warned("{listen: '0.0.0.0:8080'}") == {clear, nobody}
    assert warned("{listen: '0.0.0.0:8080', password: x}") == {clear}
    tls = f"tls: {{certificate: '{file}'}}"
    assert warned(f"{{listen: '0.0.0.0:8080', password: x, {tls}}}") == set()
    assert warned("{listen: '127.0.0.1:8080'}") == set()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o644)
    assert warned("{password_file: secret}") == {"chmod 600"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{password_file: empty}", "has no password in its first line"),
        ("{password: a, password_file: empty}", "not both"),
        ("{user: 'a:b', password: x}", "user"),
        ("{free: [/secret]}", "free"),
        ("{tls: {}}", "needs a certificate"),
    ],
)
def test_what_makes_no_sense_is_said(tmp_path: Path, said: str, why: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "broker.yaml").write_text(f"console: {said}\n")
    with pytest.raises(Complaints, match=why):
        Settings.load(tmp_path / "broker.yaml", {})


def test_the_example_of_the_documentation_is_right(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    [text] = re.findall(r"^```yaml console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "console.password").write_text(PASSWORD)
    (tmp_path / "broker.yaml").write_text(text)
    console = Settings.load(tmp_path / "broker.yaml", {}).console
    assert console.password.get_secret_value() == PASSWORD
    assert console.tls
    assert (console.user, console.free) == ("broker", ("/metrics",))
