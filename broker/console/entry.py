"""Who may see the pages: whoever has the password, except for those that are open."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Collection
from hmac import compare_digest
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

WITHOUT: Final = ("/healthz",)
"""Says nothing but that the process lives; who restarts it has no password."""
CHALLENGE: Final = {
    "WWW-Authenticate": 'Basic realm="worklist broker", charset="UTF-8"',
    "Cache-Control": "no-store",
}

log = structlog.get_logger("console")


class Entry:
    """Lets requests through that show the password: RFC 7617 (Basic), or RFC 6750 (Bearer)."""

    def __init__(self, app: ASGIApp, user: str, password: str, free: Collection[str]) -> None:
        self._app, self._free = app, {*WITHOUT, *free}
        self._pair, self._token = f"{user}:{password}".encode(), password.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or let the pages answer."""
        if scope["type"] == "http" and scope["path"] not in self._free:
            said = Headers(scope=scope).get("authorization", "")
            if not self._opens(said):
                if said:  # a browser asks without, at first
                    log.warning("password refused", address=(scope.get("client") or ("",))[0])
                refusal = PlainTextResponse("a password is needed\n", 401, CHALLENGE)
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

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
