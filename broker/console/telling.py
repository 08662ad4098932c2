"""A log line for each request over HTTP, at level debug: a monitor asks every few seconds."""

from __future__ import annotations

import time
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger("console")


def told(pages: ASGIApp) -> ASGIApp:
    """The same pages, each request told with its outcome; of a page that is none, no path."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        began, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await pages(scope, receive, sent)
        finally:
            client = scope.get("client") or ("?", 0)
            log.debug(
                "request",
                page="" if status == HTTPStatus.NOT_FOUND else scope.get("path", ""),
                status=status,
                address=client[0],
                port=client[1],
                ms=round((time.perf_counter() - began) * 1000, 1),
            )

    return answered
