"""What a broker is refused for before a door opens: with which exit code, and with which words."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from broker.settings import Settings
from broker.store.server import EmbeddedServer, find_server
from broker.supervising import ports
from broker.supervising.redis_server import judge
from broker.supervising.refusal import CannotRun
from broker.supervising.starting import run


def settings(**environ: str) -> Settings:
    return Settings.load(None, {f"BROKER_{name}": text for name, text in environ.items()})


def test_some_doors_cannot_share_an_embedded_redis():
    with pytest.raises(CannotRun, match="BROKER_REDIS__URL") as caught:
        run(settings(), ["orders"])
    assert caught.value.code == os.EX_CONFIG


@pytest.mark.peer("redis-server")
def test_a_port_that_is_taken_is_named_although_doors_share_ports(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        host, port = taken.getsockname()
        given = settings(
            DATA=str(tmp_path / "data"), HL7__LISTEN="127.0.0.1:0", DICOM__LISTEN=f"{host}:{port}"
        )
        with pytest.raises(CannotRun, match=rf"dicom\.listen: {host}:{port}: .*in use"):
            run(given)


@pytest.mark.peer("redis-server")
def test_a_redis_that_may_lose_orders_is_refused_unless_that_is_accepted(tmp_path):
    server = EmbeddedServer(tmp_path, binary=find_server())
    server.start()
    try:
        url = server.url
        judge(settings(REDIS__URL=url))
        server_config(url, "appendonly", "no")
        with pytest.raises(CannotRun, match="appendonly is off") as caught:
            judge(settings(REDIS__URL=url))
        assert caught.value.code == os.EX_CONFIG
        judge(settings(REDIS__URL=url, REDIS__ACCEPT_LOSS="true"))
    finally:
        server.stop()


def server_config(url: str, name: str, value: str) -> None:
    import redis

    with redis.Redis.from_url(url) as client:
        client.config_set(name, value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("dicom: {ae_titel: X}\n", ":1:9: unknown key"), ("- no\n", ":1:1: the configuration is")],
)
def test_a_bad_configuration_ends_with_78_and_its_place(tmp_path, text, says):
    config = tmp_path / "broker.yaml"
    config.write_text(text)
    refused = subprocess.run(
        [sys.executable, "-m", "broker", "run", "--config", config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == os.EX_CONFIG
    assert f"{config}{says}" in refused.stderr
    assert "Traceback" not in refused.stderr
