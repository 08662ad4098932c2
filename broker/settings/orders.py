"""`hl7`: who may send orders, where, and how much."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from broker.settings.tls import ServerTls
from broker.settings.values import Address, Duration, Endpoint, Names, Network, Section, Size

SHORT = ("listen", "tls")
"""What may be said of one listener without a list."""


class Hl7Limits(Section):
    """What one MLLP peer may cost us; `messages_per_second` of one address, in one process."""

    max_message: Size = 16 * 2**20
    message_deadline: Duration = timedelta(seconds=60)
    write_deadline: Duration = timedelta(seconds=10)
    idle: Duration = timedelta(hours=48)  # many systems keep one connection for days
    connections: int = Field(200, ge=1)
    connections_per_host: int = Field(50, ge=1)
    messages_per_second: float | None = Field(None, gt=0)
    held: Size = 256 * 2**20


class Sender(Section):
    """Whose messages are taken: MSH-3|MSH-4, either may be `*`; just that text is short for it.

    `certificate` are the names of which the certificate of its connection has to have one.
    """

    sender: Annotated[str, StringConstraints(pattern=r"^[^|]+\|[^|]+$")]
    certificate: Names = ()

    @model_validator(mode="before")
    @classmethod
    def _just_its_name(cls, values: Any) -> Any:
        return {"sender": values} if isinstance(values, str) else values


class Listener(Section):
    """One MLLP listener, which speaks TLS and nothing else where it has `tls`.

    `peers` are the networks that may connect, `senders` whose messages and `processing` the MSH-11
    that are taken; all when empty. Its limits are those of `hl7` but for what it says itself.
    """

    listen: Endpoint = Address("127.0.0.1", 2575)
    peers: tuple[Network, ...] = ()
    senders: tuple[Sender, ...] = ()
    processing: tuple[Literal["P", "T", "D"], ...] = ()
    limits: Hl7Limits = Hl7Limits()
    tls: ServerTls | None = None

    @model_validator(mode="after")
    def _certificates_are_asked_for(self) -> Self:
        asked = self.tls is not None and self.tls.client != "none"
        if not asked and any(sender.certificate for sender in self.senders):
            raise ValueError("a sender with a certificate needs tls with the ca of that")
        return self


class Hl7(Section):
    """Orders in. `listen: …`, with `tls: …` or without, is short for one listener."""

    listeners: tuple[Listener, ...] = (Listener(),)
    processes: int = Field(1, ge=1, le=64)
    limits: Hl7Limits = Hl7Limits()

    @model_validator(mode="before")
    @classmethod
    def _one_listener(cls, values: Any) -> Any:
        if not isinstance(values, dict) or "listen" not in values:
            return values
        if "listeners" in values:
            raise ValueError("give either listen or listeners, not both")
        rest = {key: value for key, value in values.items() if key not in SHORT}
        short = {key: value for key, value in values.items() if key in SHORT}
        return {**rest, "listeners": [short]}

    def limits_of(self, listener: Listener) -> Hl7Limits:
        """The limits of one listener: what it says itself, else what holds for all."""
        own = {name: getattr(listener.limits, name) for name in listener.limits.model_fields_set}
        return self.limits.model_copy(update=own)
