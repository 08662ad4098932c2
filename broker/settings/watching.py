"""`console` and `log`: what people see of a broker that runs."""

from __future__ import annotations

from typing import Literal

from broker.settings.values import Address, Endpoint, Section


class Console(Section):
    """Health and metrics over HTTP."""

    listen: Endpoint = Address("127.0.0.1", 8080)


class Log(Section):
    """Logs go to stderr: text for people, json for machines; auto asks whether it is a terminal."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
