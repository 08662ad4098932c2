"""Places that nobody can listen at or call end every command with 78, before anything is tried."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest

from broker.cli import run_command
from broker.mapping.text.nodes import Complaints
from broker.settings import Settings

SECRET = "Geheimnis"
ESCAPES = "written with percent escapes"
URLS = {
    "redis://h:99999/0": "the port of the url is a number from 1 to 65535",
    "redis://h:0/0": "the port of the url is a number from 1 to 65535",
    "redis://h:six/0": "the port of the url is a number from 1 to 65535",
    "redis://h:-1/0": "the port of the url is a number from 1 to 65535",
    "redis://": "the url names no host",
    "redis://:6379/0": "the url names no host",
    f"redis://u:{SECRET}@:6379/0": "the url names no host",
    "redis:/h": "the url begins with redis://, rediss:// or unix://",
    "http://h": "the url begins with redis://, rediss:// or unix://",
    "h:6379": "the url begins with redis://, rediss:// or unix://",
    "redis://h:6379/first": "the url ends in the number of a database",
    "redis://h:6379/-1": "the url ends in the number of a database",
    "redis://h:6379/0/1": "the url ends in the number of a database",
    f"redis://u:{SECRET}%@h": ESCAPES,
    f"redis://u:{SECRET}%zz@h": ESCAPES,
    f"redis://u:{SECRET}%ff@h": ESCAPES,
    f"redis://u:{SECRET}/x@h:6379/0": ESCAPES,
    f"redis://u:{SECRET}?x@h:6379/0": ESCAPES,
    f"redis://u:x#{SECRET}@h:6379/0": ESCAPES,
    f"redis://u:[{SECRET}@h:6379/0": ESCAPES,
    f"redis://u:{SECRET} x@h:6379/0": ESCAPES,
    "redis://[::1:6379/0": "the url cannot be read",
    "redis://10.1.2.300/0": "the host is a name as",
    f"redis://{'h' * 64}/0": "the host is a name as",
    "redis://a..b/0": "the host is a name as",
    "redis://h/0?db=first": "db in the url has a value that cannot be",
    f"redis://h/0?passwort={SECRET}": "behind the ? of the url stands what is no option",
    "redis://h/0?socket_timeout=x": "behind the ? of the url stands what is no option",
    "redis://h/0?ssl_ca_certs=a.pem": "behind the ? of the url stands what is no option",
    "rediss://h/0?ssl_cert_reqs=maybe": "ssl_cert_reqs in the url has a value that cannot be",
    "unix://": "a socket is a whole path",
    "unix://run/redis.sock": "a socket is a whole path",
}
POSSIBLE = (
    "redis://h",
    "redis://h.example.:6379/",
    f"redis://:{SECRET}%40@[::1]:6379/3",
    "rediss://redis_1:6380/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=required",
    f"unix:///run/redis.sock?db=2&password={SECRET}",
    f"unix://u:{SECRET}@/run/redis.sock",
    f"unix://u:{SECRET}@/srv/of the hospital/redis.sock",
    f"redis://:{SECRET}@[fe80::1%eth0]:6379/3",
    "redis://[fe80::1%25eth0]/",
    "redis://h:6379/3/",
    "rediss://h/0?ssl_check_hostname=False",
)
PLACES = {
    "ris: [{name: a, to: 'h:0'}]": "a number from 1 to 65535",
    "ris: [{name: a, to: 'h:70000'}]": "a number from 0 to 65535",
    "ris: [{name: a, to: 'ris north:2575'}]": "the host is a name as",
    "ris: [{name: a, to: 'tcp://h:2575'}]": "an address is HOST:PORT",
    "updates: {forward: [{name: a, to: '10.1.2:104.5'}]}": "a number from 0 to 65535",
    "updates: {forward: [{name: a, to: '10.1.2:104'}]}": "the host is a name as",
    "audit: {to: syslog, host: 'h:0'}": "a number from 1 to 65535",
    "audit: {to: syslog, host: '-h:514'}": "the host is a name as",
    "redis: {sentinel: {hosts: ['h:0']}}": "a number from 1 to 65535",
    "redis: {sentinel: {hosts: ['h']}}": "an address is HOST:PORT",
    "selftest: {every: 5m, sink: '127.0.0.1:0'}": "a number from 1 to 65535",
    "selftest: {orders: 'h:0'}": "a number from 1 to 65535",
    "console: {listen: '127.0.0.1:70000'}": "a number from 0 to 65535",
    "console: {listen: '127.0.0.256:8080'}": "the host is a name as",
    "console: {listen: '::1:8080'}": "an address is HOST:PORT",
    "hl7: {listen: '*:2575'}": "the host is a name as",
    "hl7: {listeners: [{listen: '0.0.0.0:2575', peers: [10.1.2.300]}]}": "a network is written",
    "dicom: {listen: '0.0.0.0:'}": "a number from 0 to 65535",
}


def said_of(folder: Path, text: str) -> str:
    """What is said of a configuration that cannot be; with all that a traceback would have."""
    path = folder / "broker.yaml"
    path.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(Complaints) as caught:
        Settings.load(path, {})
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


@pytest.mark.parametrize("url", URLS)
def test_an_impossible_url_of_a_redis_is_told_at_its_place_without_its_password(
    tmp_path: Path, url: str
) -> None:
    said = said_of(tmp_path, f"redis:\n  url: '{url}'")
    assert re.search(r"broker\.yaml:2:\d+: ", said)
    assert URLS[url] in said


@pytest.mark.parametrize("url", POSSIBLE)
def test_a_possible_url_is_taken_as_it_is_and_shown_without_its_password(
    tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text(f"redis: {{url: '{url}'}}\n", encoding="utf-8")
    assert Settings.load(path, {}).redis.url == url
    assert run_command(["config", "show", "--config", str(path)]) == 0
    assert SECRET not in capsys.readouterr().out


@pytest.mark.parametrize("text", PLACES)
def test_an_impossible_address_is_told_at_its_place(tmp_path: Path, text: str) -> None:
    said = said_of(tmp_path, text)
    assert re.search(r"broker\.yaml:1:\d+: ", said)
    assert PLACES[text] in said


COMMANDS = (["status"], ["list"], ["doctor"], ["config", "check"], ["config", "show"], ["run"])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_ends_with_78(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKER_REDIS__URL", f"redis://u:{SECRET}@h:99999/0")
    assert run_command(command) == 78
    out, err = capsys.readouterr()
    assert err.startswith("BROKER_REDIS__URL: the port of the url is a number from 1 to 65535")
    assert SECRET not in out + err
