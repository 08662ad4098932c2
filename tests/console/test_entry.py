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
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType

import pytest

from broker.console.tries import AGAIN_S, AT_ONCE, MOST, Tries
from broker.mapping.text.nodes import Complaints
from broker.rollout.risks import risks
from broker.settings import Settings
from broker.store.executors import Store
from broker.store.server import EmbeddedServer
from tests.audit.reading import event, read
from tests.doors.actors import until
from tests.tls.authority import Authority, lowered

pytestmark = pytest.mark.peer("redis-server")

PASSWORD = "Geh#eim:nis/ä"
PAGES = ("", "readyz", "metrics", "health/deep")
LOCKED = {"PASSWORD": PASSWORD, "FREE": "[/metrics]"}
NOTHING: Mapping[str, str] = MappingProxyType({})


@contextmanager
def door(
    server: EmbeddedServer, beside: Mapping[str, str] = NOTHING, **environ: str
) -> Iterator[str]:
    """The door as a process; gives HOST:PORT."""
    clean = {name: text for name, text in os.environ.items() if not name.startswith("BROKER_")}
    clean |= {"BROKER_REDIS__URL": server.url, "BROKER_CONSOLE__LISTEN": "127.0.0.1:0"}
    command = [sys.executable, "-m", "broker", "door", "console"]
    environ = clean | {f"BROKER_CONSOLE__{name}": text for name, text in environ.items()}
    environ |= beside
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


def from_elsewhere(place: str, headers: dict[str, str]) -> int:
    """The status of a page for a visitor from another address, who says that he is the first."""
    host, port = place.rsplit(":", 1)
    visitor = HTTPConnection(host, int(port), timeout=30, source_address=("127.0.0.2", 0))
    with closing(visitor):
        visitor.request("GET", "/readyz", headers=headers | {"X-Forwarded-For": "127.0.0.1"})
        return visitor.getresponse().status


def basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def bearer(password: str) -> str:
    return f"Bearer {password}".encode().decode("latin-1")


def test_with_a_password_every_page_but_healthz_is_for_who_shows_it(
    server: EmbeddedServer, store: Store
) -> None:
    with door(server, PASSWORD=PASSWORD) as place:
        assert get(f"http://{place}/healthz")[0] == 200
        for page in (*PAGES, "nowhere", "healthz/", "metrics/"):
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


def test_after_ten_wrong_passwords_an_address_has_to_wait_and_others_do_not(
    server: EmbeddedServer, store: Store, tmp_path: Path
) -> None:
    """While it waits not even the right one is looked at, or it could be found all the same."""
    trail, right = tmp_path / "audit.log", basic("broker", PASSWORD)
    with door(server, {"BROKER_AUDIT__TO": "file", "BROKER_AUDIT__PATH": str(trail)}, **LOCKED) as (
        place
    ):
        assert [get(f"http://{place}/readyz")[0] for _ in range(20)] == [401] * 20
        tried = [get(f"http://{place}/readyz", bearer(f"wrong{n}"))[0] for n in range(10)]
        assert tried == [401] * 10
        for said in (right, bearer(PASSWORD), bearer("wrong")):
            status, headers = get(f"http://{place}/readyz", said)
            assert status == 429
            assert 1 <= int(headers["retry-after"]) <= 30
        assert get(f"http://{place}/readyz")[0] == 401, "a browser that asks what it is to show"
        assert get(f"http://{place}/healthz")[0] == 200
        assert from_elsewhere(place, {"Authorization": right}) == 200
        assert from_elsewhere(place, {"Authorization": bearer("wrong")}) == 401
        with urllib.request.urlopen(f"http://{place}/metrics", timeout=30) as answer:
            counted = dict(
                re.findall(
                    r'^broker_console_refused_total{why="(.*)"} (.*)$',
                    answer.read().decode(),
                    re.MULTILINE,
                )
            )
        assert counted == {"wrong password": "11.0", "too many": "3.0"}
    told = [read(line) for line in trail.read_bytes().splitlines()]
    assert [event(each) for each in told] == ["110100", *["110113"] * 11, "110100"]
    assert "127.0.0.2" in trail.read_text().splitlines()[-2]


def test_wrong_passwords_are_paid_for_with_time_and_by_each_address_alone() -> None:
    tries = Tries()
    for n in range(AT_ONCE):
        assert tries.wait_s("10.1.2.3", 100.0) == 0.0
        tries.wrong("10.1.2.3", f"wrong{n}", 100.0)
    assert tries.wait_s("10.1.2.3", 100.0) == AGAIN_S
    assert tries.wait_s("10.1.2.3", 100.0 + AGAIN_S) == 0.0
    tries.wrong("10.1.2.3", "another", 100.0 + AGAIN_S)
    assert tries.wait_s("10.1.2.3", 100.0 + AGAIN_S) == AGAIN_S
    assert tries.wait_s("10.1.2.4", 100.0) == 0.0
    for n in range(AT_ONCE):
        tries.wrong(f"2001:db8:1:2::{n:x}", f"wrong{n}", 100.0)
    assert tries.wait_s("2001:db8:1:2:ffff::1", 100.0) == AGAIN_S, "one network, one machine"
    assert tries.wait_s("2001:db8:1:3::1", 100.0) == 0.0
    for n in range(2 * MOST):
        tries.wrong(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", "wrong", 100.0)
    assert len(tries._owed) == MOST


def test_a_monitor_with_a_former_password_locks_nobody_out_behind_the_same_proxy() -> None:
    tries = Tries()
    for n in range(100):
        for former in ("Bearer of last year", "Basic of last week"):
            tries.wrong("10.1.2.3", former, 100.0 + n)
            assert tries.wait_s("10.1.2.3", 100.0 + n) == 0.0
    for n in range(AT_ONCE):
        assert tries.wait_s("10.1.2.3", 200.0) == 0.0
        tries.wrong("10.1.2.3", f"guess{n}", 200.0)
    assert tries.wait_s("10.1.2.3", 200.0) == AGAIN_S, "guesses are paid for all the same"


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
