"""The pages of the console: /healthz, /readyz, /health/deep and /metrics, with / before them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from html import escape

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from broker.console.entry import Entry
from broker.console.health import Health, look
from broker.settings import Console
from broker.store.executors import AsyncStore
from broker.store.metrics import snapshot

NEVER_CACHED = {"Cache-Control": "no-store"}


def application(
    store: AsyncStore,
    ris: Iterable[str],
    test_every_s: float | None = None,
    asked_of: Console | None = None,
    ours: CollectorRegistry | None = None,
    alarm: Callable[[str], None] = lambda address: None,  # noqa: ARG005 - tells nobody
) -> ASGIApp:
    """Build the pages over a store; `ris` names those whose pending messages are shown.

    `test_every_s` is how often the self-test shall have run, None for never; `asked_of` says what
    is asked of whoever wants to see them, `ours` are metrics of this process. `alarm` is told the
    address of whoever shows a wrong password.
    """
    names = tuple(ris)

    async def now() -> Health:
        return await look(store, names, now=time.time())

    async def healthz(_: Request) -> Response:
        """Say that this process lives, whatever else does."""
        return PlainTextResponse("ok\n", headers=NEVER_CACHED)

    async def readyz(_: Request) -> Response:
        """Say whether orders can be taken, hop by hop; 503 when they cannot."""
        health = await now()
        status = 503 if health.refusal else 200
        return JSONResponse(health.report(), status_code=status, headers=NEVER_CACHED)

    async def deep(_: Request) -> Response:
        """Say whether the broker's own order went all the way lately; 503 when it did not."""
        well, told = (await now()).deep(test_every_s)
        return JSONResponse(told, status_code=200 if well else 503, headers=NEVER_CACHED)

    async def metrics(_: Request) -> Response:
        """Give the metrics of all processes and of the store, in Prometheus' text format."""
        health = await now()
        shown = health.exposition(*([snapshot(ours, at=health.at)] if ours else []))
        return Response(shown, media_type=CONTENT_TYPE_PLAIN_0_0_4, headers=NEVER_CACHED)

    pages = {
        "/readyz": readyz,
        "/health/deep": deep,
        "/metrics": metrics,
        "/healthz": healthz,
    }
    links = first_page((path, page.__doc__ or "") for path, page in pages.items())

    async def first(_: Request) -> Response:
        return HTMLResponse(links, headers=NEVER_CACHED)

    routes = [Route(path, page) for path, page in {"/": first, **pages}.items()]
    application = Starlette(routes=routes)
    password = asked_of.password.get_secret_value() if asked_of else ""
    if not asked_of or not password:
        return application
    return Entry(application, asked_of.user, password, asked_of.free, ours, alarm)


def first_page(pages: Iterable[tuple[str, str]]) -> str:
    """Write the page that leads to the others, each with what it says."""
    links = "".join(f'<li><a href="{path}">{path}</a> {escape(said)}\n' for path, said in pages)
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>Worklist broker</title>\n<h1>Worklist broker</h1>\n<ul>\n{links}</ul>\n</html>\n"
    )
