"""`console` and `log`: what people see of a broker that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from broker.settings.tls import ServerTls
from broker.settings.values import Address, Endpoint, Section


class Console(Section):
    """Health and metrics over HTTP.

    With a `password` every page but /healthz is for whoever shows it, with `user` (Basic) or as a
    token (Bearer); `free` are pages that need none all the same. It is best not said in
    broker.yaml: see `broker.settings.secrets`.
    """

    listen: Endpoint = Address("127.0.0.1", 8080)
    tls: ServerTls | None = None
    user: str = Field("broker", pattern=r"^[^:\s]{1,64}$")
    password: SecretStr = SecretStr("")
    password_file: Path | None = None
    free: tuple[Literal["/readyz", "/health/deep", "/metrics"], ...] = ()

    @model_validator(mode="after")
    def _a_file_has_a_password(self) -> Self:
        if self.password_file and not self.password.get_secret_value():
            raise ValueError("the password_file has no password in its first line")
        return self


Level = Literal["debug", "info", "warning", "error"]


class DoorLevels(Section):
    """The least level of one door that says another one than all; `run` is the supervisor."""

    orders: Level | None = None
    modality: Level | None = None
    updates: Level | None = None
    console: Level | None = None
    run: Level | None = None


class Log(Section):
    """Logs go to stderr: text for people, json for machines; auto asks whether it is a terminal."""

    level: Level = "info"
    doors: DoorLevels = DoorLevels()
    format: Literal["auto", "text", "json"] = "auto"

    def level_of(self, door: str) -> str:
        """What a door says at least; `door` may be none of them, as in a command."""
        return getattr(self.doors, door, None) or self.level
