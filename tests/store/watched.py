"""Redis with Sentinel as real processes: a master, replicas, and Sentinels that watch them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import redis

from broker.settings import Settings
from broker.store.sentinels import group_of
from tests.ports import free_port
from tests.tls.authority import Authority

DOWN_AFTER_MS = 1000
"""Enough for a busy machine not to depose a master that is only slow."""
PATIENCE_S = 30.0
OF_SERVERS, OF_SENTINELS = "s3cr:t/@", "w4tch:r/@"
SERVER = """\
bind 127.0.0.1
appendonly yes
appendfsync always
save ""
maxmemory 200mb
maxmemory-policy noeviction
repl-diskless-sync-delay 0
repl-timeout 5
"""


class Watched:
    """A master with two replicas, and three Sentinels."""

    def __init__(
        self,
        replicas: int = 2,
        sentinels: int = 3,
        *,
        down_after_ms: int = DOWN_AFTER_MS,
        secured: bool = False,
    ) -> None:
        """With TLS and passwords where it is `secured`; nothing is told in clear then."""
        self._down_after_ms = down_after_ms
        self.folder = Path(tempfile.mkdtemp(prefix="sentinel-"))
        self.ports = [free_port() for _ in range(1 + replicas)]
        self.watching = [free_port() for _ in range(sentinels)]
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._tls = Authority(self.folder / "tls") if secured else None

    def start(self) -> Self:
        """Start all, and wait till the replicas follow and the Sentinels know each other."""
        for port in self.ports:
            self.begin(port)
        first, quorum = self.ports[0], len(self.watching) // 2 + 1
        self.wait(lambda: all(map(self.follows, self.ports[1:])))
        # A Sentinel hears of replicas when it first asks the master, and then after ten seconds.
        for port in self.watching:
            self._begin(
                port,
                f"sentinel monitor mymaster 127.0.0.1 {first} {quorum}\n"
                f"sentinel down-after-milliseconds mymaster {self._down_after_ms}\n"
                f"sentinel failover-timeout mymaster 1000\n{self._passwords(port)}",
                "--sentinel",
            )
        known = len(self.watching) - 1, len(self.ports) - 1
        self.wait(lambda: all(_known(self._client(port)) == known for port in self.watching))
        return self

    def begin(self, port: int) -> None:
        """Start a server, as a replica unless it is the first and new."""
        follows = f"replicaof 127.0.0.1 {self.ports[0]}\n" if port != self.ports[0] else ""
        self._begin(port, f"{SERVER}{follows}{self._passwords(port)}")

    def add(self) -> int:
        """Start a master that none of the Sentinels knows; its port."""
        port = free_port()
        self._begin(port, SERVER)
        return port

    def monitor(self, sentinel: int, port: int) -> None:
        """Have a Sentinel name another master."""
        client = self._client(sentinel)
        client.execute_command("SENTINEL", "REMOVE", "mymaster")
        client.execute_command("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", port, 1)

    def _begin(self, port: int, text: str, *options: str) -> None:
        folder = self.folder / f"{port}"
        path = folder / "redis.conf"
        if not folder.exists():
            folder.mkdir()
            path.write_text(f"{self._listening(port)}dir {folder}\n{text}")
        with (folder / "log").open("ab") as log:
            command = ["redis-server", str(path), *options]
            self.processes[port] = subprocess.Popen(command, stdout=log, stderr=log)
        self.wait(lambda: self._client(port).ping())

    def _listening(self, port: int) -> str:
        if self._tls is None:
            return f"port {port}\n"
        file = self._tls.issue(f"{port}", "localhost", "127.0.0.1")
        return (
            f"port 0\ntls-port {port}\ntls-replication yes\ntls-auth-clients no\n"
            f"tls-cert-file {file}\ntls-key-file {file}\ntls-ca-cert-file {self._tls.ca}\n"
        )

    def _passwords(self, port: int) -> str:
        if self._tls is None:
            return ""
        said = f"requirepass {self._password(port)}\n"
        if port not in self.watching:
            return f"{said}masterauth {OF_SERVERS}\n"
        return (
            f"{said}sentinel auth-pass mymaster {OF_SERVERS}\n"
            f"sentinel sentinel-pass {OF_SENTINELS}\n"
        )

    def _password(self, port: int) -> str:
        return OF_SENTINELS if port in self.watching else OF_SERVERS

    @property
    def settings(self) -> dict[str, Any]:
        """The block `redis` of a configuration."""
        hosts = [f"127.0.0.1:{port}" for port in self.watching]
        replicas = min(1, len(self.ports) - 1)
        sentinel = {"hosts": hosts, "master": "mymaster", "replicas": replicas}
        if self._tls is None:
            return {"sentinel": sentinel}
        tls = {"ca": str(self._tls.ca)}
        sentinel |= {"password": OF_SENTINELS, "tls": tls}
        return {"sentinel": sentinel, "password": OF_SERVERS, "tls": tls}

    @property
    def url(self) -> str:
        url = Settings.model_validate({"redis": self.settings}).redis.full_url
        assert group_of(url)
        return url

    def master(self) -> int:
        """The port of the server that a majority of the Sentinels name."""
        named = []
        for port in self.watching:
            try:
                told: Any = self._client(port).execute_command(
                    "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"
                )
                named.append(int(told[1]))
            except redis.RedisError:
                continue
        return max(set(named), key=named.count)

    def follows(self, port: int) -> bool:
        """Whether a server is a replica that has all its master had."""
        return self.said(port).get("master_link_status") == "up"

    def said(self, port: int) -> dict[str, Any]:
        """INFO of a server."""
        found: Any = self._client(port).info()
        return dict(found)

    def signal(self, port: int, number: int) -> None:
        self.processes[port].send_signal(number)
        if number == signal.SIGKILL:
            self.processes[port].wait()

    def client(self, port: int) -> Any:
        """A client to one server."""
        return self._client(port)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Leave the master without its replicas, which stand still."""
        master = self.master()
        others = [port for port in self.ports if port != master and self._lives(port)]
        for port in others:
            self.signal(port, signal.SIGSTOP)
        try:
            yield
        finally:
            for port in others:
                self.signal(port, signal.SIGCONT)

    def _lives(self, port: int) -> bool:
        return self.processes[port].poll() is None

    def end(self) -> None:
        """End all of it, by process."""
        for process in self.processes.values():
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _client(self, port: int) -> Any:
        patient: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2}
        if self._tls is not None:
            patient |= {"ssl": True, "ssl_ca_certs": str(self._tls.ca)}
            patient["password"] = self._password(port)
        return redis.Redis(port=port, **patient)

    @staticmethod
    def wait(true: Any, patience_s: float = PATIENCE_S) -> None:
        """Wait till it is so; a server that does not answer yet is waited for."""
        deadline = time.monotonic() + patience_s
        while True:
            try:
                if true():
                    return
            except redis.RedisError:
                pass
            assert time.monotonic() < deadline, f"not within {patience_s:g} s"
            time.sleep(0.05)


def _known(client: Any) -> tuple[int, int]:
    """How many other Sentinels and how many replicas a Sentinel knows."""
    others = client.execute_command("SENTINEL", "SENTINELS", "mymaster")
    replicas = client.execute_command("SENTINEL", "REPLICAS", "mymaster")
    return len(others), len(replicas)
