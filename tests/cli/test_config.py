"""`broker config`: every value with its origin, and what is risky, with its remedy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.program import program
from broker.settings import Settings
from broker.store import external
from tests.tls.authority import Authority

CONFIG = """\
site: North
hl7: {listen: '0.0.0.0:2575'}
dicom:
  limits: {idle: 90m}
  aes:
    - {title: CT1, past_days: 3}
redis: {url: 'redis://u:geheim@h:1/0'}
ris: [{name: north, to: '10.1.2.3:2576'}]
"""


def run(*words: str, **environ: str) -> tuple[int, str]:
    told = CliRunner().invoke(program(), ["config", *words], env=environ)
    return told.exit_code, told.output


def shown(path: Path, *words: str, **environ: str) -> dict[str, tuple[str, str]]:
    code, said = run("show", "--origin", "--json", *words, "--config", str(path), **environ)
    assert code == 0, said
    return {each["key"]: (each["value"], each["origin"]) for each in json.loads(said)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "broker.yaml"
    path.write_text(CONFIG)
    return path


def test_every_value_is_shown_with_where_it_was_said(config: Path) -> None:
    found = shown(config, BROKER_DICOM__AE_TITLE="WL", BROKER_KEEP__DEAD="10d")
    assert found["site"] == ("North", f"{config}:1")
    assert found["dicom.limits.idle"] == ("90m", f"{config}:4")
    assert found["dicom.aes.0.past_days"] == ("3", f"{config}:6")
    assert found["hl7.listeners.0.listen"] == ("0.0.0.0:2575", f"{config}:2")
    assert found["ris.0.to"] == ("10.1.2.3:2576", f"{config}:8")
    assert found["dicom.ae_title"] == ("WL", "BROKER_DICOM__AE_TITLE")
    assert found["keep.dead"] == ("10d", "BROKER_KEEP__DEAD")
    assert found["console.listen"] == ("127.0.0.1:8080", "default")
    assert found["redis.accept_loss"] == ("false", "default")
    assert "dicom.aes.0.charset" not in found, "for it the rules above it hold"


def test_a_file_that_lies_here_and_is_not_read_is_told_of(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who forgets --config would be explained the lists of another configuration."""
    monkeypatch.chdir(config.parent)
    monkeypatch.delenv("BROKER_CONFIG", raising=False)
    told = "broker.yaml of this folder is not read; say --config broker.yaml"
    assert told in run("show")[1]
    assert told not in run("show", "--config", "broker.yaml")[1]
    assert told not in run("show", BROKER_CONFIG="broker.yaml")[1]


def test_every_setting_has_a_line_and_no_password_is_in_one(config: Path, tmp_path: Path) -> None:
    found = shown(config)
    assert found["redis.url"] == ("redis://u:***@h:1/0", f"{config}:7")
    assert {key.partition(".")[0] for key in found} == set(Settings.model_fields)
    (tmp_path / "redis.password").write_text("geheim")
    config.write_text("redis: {url: 'redis://h', password_file: redis.password}\n")
    found = shown(config)
    assert found["redis.password"] == ("***", str(tmp_path / "redis.password"))
    assert "geheim" not in str(found)


def test_what_was_said_can_be_shown_alone(config: Path) -> None:
    assert {origin for _, origin in shown(config, "--changed").values()} == {
        f"{config}:{line}" for line in (1, 2, 4, 6, 7, 8)
    }


def test_a_configuration_for_this_machine_alone_is_not_risky(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text("site: North\n")
    assert run("check", "--config", str(path)) == (
        0,
        "the configuration is right, and nothing about it is risky\n",
    )


def test_what_others_can_reach_in_clear_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text(
        "hl7: {listeners: [{listen: '0.0.0.0:1'}, {listen: '0.0.0.0:2', peers: [10.0.0.0/8]}]}\n"
        "dicom: {listen: '[::]:3'}\nconsole: {listen: '10.1.1.1:4'}\n"
        "ris: [{name: a, to: 'ris.example:5'}, {name: b, to: 'localhost:5'}]\n"
    )
    code, said = run("check", "--config", str(path))
    assert code == 1
    assert [line.split(": ")[1] for line in said.splitlines()] == [
        "hl7.listeners.0",
        "dicom",
        "console",
        "console",
        "dicom",
        "ris.a",
    ]


def test_files_of_tls_are_read_and_a_key_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    server, path = Authority(tmp_path).issue("server", "localhost"), tmp_path / "broker.yaml"
    path.write_text("dicom: {plain: false, tls: {certificate: server.pem}}\n")
    server.chmod(0o644)
    code, said = run("check", "--config", str(path))
    assert (code, said) == (
        1,
        f"warning: dicom.tls: {server} is open to others than its owner; chmod 600\n",
    )
    server.chmod(0o600)
    assert run("check", "--config", str(path))[0] == 0
    server.write_text("rubbish")
    code, said = run("check", "--config", str(path))
    assert code == os.EX_CONFIG
    assert said.startswith(f"dicom.tls: {server}: no certificate and key")


def test_the_file_of_the_settings_is_for_its_owner_alone_where_a_password_stands_in_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text("console: {password: geheim}\n")
    path.chmod(0o644)
    code, said = run("check", "--config", str(path))
    assert (code, said) == (
        1,
        f"warning: console.password: {path} is open to others than its owner; chmod 600\n",
    )
    path.chmod(0o600)
    assert run("check", "--config", str(path))[0] == 0
    path.write_text("site: North\n")
    path.chmod(0o644)
    assert run("check", "--config", str(path), BROKER_CONSOLE__PASSWORD="geheim")[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_that_another_owns_for_our_group_is_as_the_installer_leaves_it(
    tmp_path: Path,
) -> None:
    path, secret = tmp_path / "broker.yaml", tmp_path / "secret"
    path.write_text("console: {password_file: secret}\n")
    secret.write_text("geheim\n")
    os.chown(secret, 1, -1)
    secret.chmod(0o640)
    assert run("check", "--config", str(path))[0] == 0
    secret.chmod(0o644)
    code, said = run("check", "--config", str(path))
    assert (code, said.rpartition("; ")[2]) == (1, "chmod 640\n")


def test_a_self_test_that_no_listener_lets_in_is_warned_of(tmp_path: Path) -> None:
    server, path = Authority(tmp_path).issue("server", "localhost"), tmp_path / "broker.yaml"
    server.chmod(0o600)
    path.write_text(
        "hl7: {listen: '127.0.0.1:1', tls: {certificate: server.pem}}\n"
        "dicom: {plain: false, tls: {certificate: server.pem}}\nselftest: {every: 1m}\n"
    )
    code, said = run("check", "--config", str(path))
    assert code == 1
    assert [line.partition(";")[0] for line in said.splitlines()] == [
        "warning: selftest: hl7 has no listener without TLS",
        "warning: selftest: dicom has no listener without TLS",
    ]
    path.write_text("selftest: {every: 1m}\n")
    assert run("check", "--config", str(path))[0] == 0


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[int]:
    """The port of a Redis that syncs once a second and evicts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    process = subprocess.Popen(
        [
            *("redis-server", "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes"),
            *("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--requirepass", "pw"),
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not external.writable(f"redis://:pw@127.0.0.1:{port}/0"):
            assert process.poll() is None
        yield port
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.peer("redis-server")
def test_a_redis_that_may_lose_orders_is_warned_of(tmp_path: Path, hasty: int) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text(f"redis: {{url: 'redis://0.0.0.0:{hasty}/0'}}\n")
    code, said = run("check", "--config", str(path), BROKER_REDIS__PASSWORD="pw")
    assert code == 1
    assert "maxmemory-policy is allkeys-lru" in said
    assert "appendfsync is everysec: a crash loses up to a second of acknowledged orders" in said
    assert "cross the network in clear" in said
    assert run("check", "--config", str(path), BROKER_REDIS__PASSWORD="wrong")[0] == 69
    path.write_text(f"redis: {{url: 'redis://127.0.0.1:{hasty}/0'}}\n")
    assert "in clear" not in run("check", "--config", str(path), BROKER_REDIS__PASSWORD="pw")[1]


def test_a_redis_that_is_not_there_is_69(tmp_path: Path) -> None:
    path = tmp_path / "broker.yaml"
    path.write_text("redis: {url: 'redis://127.0.0.1:9/0'}\n")
    code, said = run("check", "--config", str(path))
    assert (code, "does not answer" in said) == (os.EX_UNAVAILABLE, True)
