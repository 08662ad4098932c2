"""Who may see the pages: whoever has the password, except for those that are open."""

from __future__ import annotations

import math
import time
from base64 import b64decode
from collections.abc import Callable, Collection
from hmac import compare_digest
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from broker.console.tries import Tries

WITHOUT: Final = ("/healthz",)
"""Says nothing but that the process lives; who restarts it has no password."""
CHALLENGE: Final = {
    "WWW-Authenticate": 'Basic realm="worklist broker", charset="UTF-8"',
    "Cache-Control": "no-store",
}

log = structlog.get_logger("console")


class Entry:
    """Lets requests through that show the password: RFC 7617 (Basic), or RFC 6750 (Bearer)."""

    def __init__(
        self,
        app: ASGIApp,
        user: str,
        password: str,
        free: Collection[str],
        registry: CollectorRegistry | None = None,
        alarm: Callable[[str], None] = lambda address: None,  # noqa: ARG005 - tells nobody
    ) -> None:
        """Count in `registry`; `alarm` is told the address of whoever shows a wrong password."""
        self._app, self._free = app, {*WITHOUT, *free}
        self._pair, self._token = f"{user}:{password}".encode(), password.encode()
        self._tries, self._alarm = Tries(), alarm
        text = "Requests without the right password, by why they were refused"
        refused = Counter("broker_console_refused", text, ["why"], registry=registry)
        self._wrong, self._too_many = refused.labels("wrong password"), refused.labels("too many")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 or 429, or let the pages answer."""
        refusal = None
        if scope["type"] == "http" and scope["path"] not in self._free:
            said = Headers(scope=scope).get("authorization", "")
            refusal = self._refusal(said, (scope.get("client") or ("",))[0])
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, said: str, address: str) -> PlainTextResponse | None:
        """Judge what was shown; where too many were wrong not even the right one is looked at."""
        now = time.monotonic()
        if said and (wait := self._tries.wait_s(address, now)):
            self._too_many.inc()
            again = {"Retry-After": f"{math.ceil(wait)}", "Cache-Control": "no-store"}
            return PlainTextResponse("too many wrong passwords\n", 429, again)
        if self._opens(said):
            return None
        if said:  # a browser asks without, at first
            self._tries.wrong(address, said, now)
            self._wrong.inc()
            wait = self._tries.wait_s(address, now)
            log.warning("password refused", address=address, wait_s=round(wait))
            self._alarm(address)
        return PlainTextResponse("a password is needed\n", 401, CHALLENGE)

    def _opens(self, said: str) -> bool:
        kind, _, shown = said.partition(" ")
        if kind.lower() == "bearer":
            return compare_digest(shown.strip().encode("latin-1"), self._token)  # as it came
        if kind.lower() != "basic":
            return False
        try:
            return compare_digest(b64decode(shown, validate=True), self._pair)
        except ValueError:  # no Base64
            return False
