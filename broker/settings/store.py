"""`redis` and `keep`: where the records live, and how long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote, urlencode

from pydantic import Field, SecretStr, model_validator

from broker.settings.redis_url import RedisUrl
from broker.settings.secrets import unsaid
from broker.settings.tls import ClientTls
from broker.settings.values import Called, Duration, Section, Size


class Sentinel(Section):
    """Sentinels that name the master, and who must have what is promised.

    `replicas` have a commit within `wait`, or it is not acknowledged. User, password and `tls` are
    those of the Sentinels; those of the servers stand beside, in `redis`.
    """

    hosts: tuple[Called, ...] = Field(min_length=1)
    master: str = Field("mymaster", min_length=1)
    replicas: int = Field(1, ge=0)
    wait: Duration = Field(timedelta(seconds=1), gt=timedelta(0), le=timedelta(seconds=2))
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    tls: ClientTls | None = None


class Redis(Section):
    """Where the records live: a private server of ours, one given by URL, or what Sentinels name.

    `password` is best not said in broker.yaml: see `broker.settings.secrets`.
    """

    mode: Literal["embedded", "url", "sentinel"] = "embedded"
    url: RedisUrl = ""
    sentinel: Sentinel | None = None
    database: int = Field(0, ge=0)
    username: str = ""
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    tls: ClientTls | None = None
    accept_loss: bool = False
    server: Path | None = None
    max_memory: Size = 2**30
    disk_reserve: Size = 100 * 2**20

    @model_validator(mode="before")
    @classmethod
    def _place_is_a_mode(cls, values: Any) -> Any:
        if isinstance(values, dict) and "mode" not in values:
            for mode in ("url", "sentinel"):
                if values.get(mode):
                    return {**values, "mode": mode}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.mode == "embedded" and (self.url or self.sentinel):
            raise ValueError("mode: embedded has no url and no sentinel; leave one of the two out")
        if self.url and self.sentinel:
            raise ValueError("say url or sentinel, not both")
        if self.mode == "sentinel" and not self.sentinel:
            raise ValueError("mode: sentinel needs sentinel: {hosts: ['127.0.0.1:26379', …]}")
        if self.database and not self.sentinel:
            raise ValueError("database is for sentinel; the url of a server ends in it")
        if self.mode == "url" and not self.url:
            raise ValueError("mode: url needs a url, for example redis://127.0.0.1:6379/0")
        if self.password and self.mode == "embedded":
            raise ValueError("a password is that of a given server: say its url")
        if (self.password or self.username) and "@" in self.url:
            raise ValueError("say user and password in the url, or beside it, not both")
        if self.tls and not self.sentinel and not self.url.startswith("rediss://"):
            raise ValueError("tls needs a url that begins with rediss://")
        return self

    @property
    def is_ours(self) -> bool:
        """Whether `broker run` has a server of its own."""
        return self.mode == "embedded"

    @property
    def place(self) -> str:
        """The key that says where the records are, for what is told of it."""
        return f"redis.{'url' if self.is_ours else self.mode}"

    @property
    def full_url(self) -> str:
        """The URL as redis-py reads it, with password and files of `tls`. Never to be shown.

        With Sentinels it is the string of a `broker.store.sentinels.Group`.
        """
        if self.sentinel is None:
            return _whole(self.url, self.username, self.password, self.tls)
        watch = self.sentinel
        said = {
            "name": watch.master,
            "server": _whole(
                f"{_scheme(self.tls)}://master:0/{self.database}",
                self.username,
                self.password,
                self.tls,
            ),
            "replicas": watch.replicas,
            "wait_ms": round(watch.wait.total_seconds() * 1000),
            "sentinel": [
                _whole(f"{_scheme(watch.tls)}://{host}", watch.username, watch.password, watch.tls)
                for host in watch.hosts
            ],
        }
        return f"sentinel:?{urlencode(said, doseq=True)}"

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Give all but the password that the URL may hold."""
        for name, value in super().__repr_args__():
            yield name, unsaid(value) if isinstance(value, str) else value


def _scheme(tls: ClientTls | None) -> str:
    return "rediss" if tls else "redis"


def _whole(url: str, username: str, password: SecretStr, tls: ClientTls | None) -> str:
    """The URL of one server with who calls it, and the files of TLS."""
    if secret := password.get_secret_value():
        scheme, _, place = url.partition("://")
        url = f"{scheme}://{quote(username, '')}:{quote(secret, '')}@{place}"
    if tls is None:
        return url
    files = {
        "ssl_ca_certs": tls.ca,
        "ssl_certfile": tls.certificate,
        "ssl_keyfile": tls.key or tls.certificate,
    }
    said = urlencode({name: str(path) for name, path in files.items() if path})
    return f"{url}{'&' if '?' in url else '?'}{said}"


class Keep(Section):
    """How long things stay before they are removed; `message_bytes` bounds the archive as well."""

    messages: Duration = timedelta(days=30)
    message_bytes: Size = 256 * 2**20
    guard: Duration = timedelta(days=7)
    completed: Duration = timedelta(days=30)
    past: Duration = timedelta(days=30)
    patients: Duration = timedelta(days=90)
    dead: Duration = timedelta(days=90)
    sightings: Duration = timedelta(days=30)
    queries: Duration = timedelta(days=7)
