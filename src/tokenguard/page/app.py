"""The page in a browser on this machine: served on loopback, under a secret in its address.

Starlette and uvicorn come with the extra `dashboard`. Nothing is written, and nothing is asked of anybody else.
"""

from __future__ import annotations

import hmac
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from tokenguard.facts.errors import TokenGuardError
from tokenguard.page.advised import advised
from tokenguard.page.document import content_policy, document, main
from tokenguard.page.gathered import PERIODS, Page, gathered, period
from tokenguard.report.budgets import Standing
from tokenguard.report.engine import Records
from tokenguard.report.export import as_json
from tokenguard.report.figures import ask
from tokenguard.report.findings import find
from tokenguard.report.lines import shown
from tokenguard.report.query import Query, wheres
from tokenguard.report.revenue import stated
from tokenguard.report.sources import empty, open_sources
from tokenguard.report.trend import trend
from tokenguard.store import faults

HOSTS: Final = ("127.0.0.1", "localhost", "[::1]")
"""The names that the page is asked for by: another one is a page elsewhere that had its name pointed here."""
DEFAULT_PERIOD: Final = "7d"
ANEW_S: Final = 60
"""How often a page of a table elsewhere is made anew."""
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Handler = Callable[[Request], Awaitable[Response]]


class Dashboard:
    """The page of some sources. `budgets` gives how budgets stand, each time it is asked."""

    def __init__(self, given: Sequence[Path | str], token: str, budgets: Callable[[], Sequence[Standing]]) -> None:
        self.given = given
        self.paths = [path for path in given if isinstance(path, Path)]
        self.token = token
        self.shown = " + ".join(map(shown, given))
        self._budgets = budgets

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/{token}/", self._guarded(self._whole)),
                Route("/{token}/part", self._guarded(self._part)),
                Route("/{token}/later", self._guarded(self._later)),
                Route("/{token}/state", self._guarded(self._state)),
                Route("/{token}/report.json", self._guarded(self._json)),
            ],
            middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS), www_redirect=False)],
        )

    def _guarded(self, handler: Callable[[Request], Response]) -> Handler:
        async def guarded(request: Request) -> Response:
            if not hmac.compare_digest(request.path_params["token"].encode(), self.token.encode()):
                response: Response = PlainTextResponse("There is no such page.", 404)
            else:
                try:
                    response = await run_in_threadpool(handler, request)
                except (TokenGuardError, sqlite3.Error, OSError) as error:
                    response = PlainTextResponse(f"{error}", 400 if isinstance(error, TokenGuardError) else 503)
            response.headers.update(HEADERS)
            response.headers["Content-Security-Policy"] = f"{content_policy(live=True)}; frame-ancestors 'none'"
            return response

        return guarded

    def _whole(self, request: Request) -> Response:
        return HTMLResponse(document(self._page(request)))

    def _part(self, request: Request) -> Response:
        return HTMLResponse(main(self._page(request)))

    def _state(self, _request: Request) -> Response:
        """What changes whenever the sources do; a table elsewhere is asked anew after a while."""
        stats = [
            file.stat() for path in self.paths for file in (path, path.with_name(f"{path.name}-wal")) if file.exists()
        ]
        told = [f"{each.st_ino}.{each.st_size}.{each.st_mtime_ns}" for each in stats]
        if len(self.paths) < len(self.given):
            told.append(f"{time.time() // ANEW_S}")
        return PlainTextResponse(" ".join(told))

    def _later(self, request: Request) -> Response:
        query, _, _ = self._asked(request)
        with self._records() as records:
            return HTMLResponse("".join(advised(records, query)))

    def _json(self, request: Request) -> Response:
        """The same as `tokenguard report --format json` prints."""
        query, _, now = self._asked(request)
        with self._records() as records:
            found, going = ask(records, query, stated(query)), trend(records, query, now)
            insights = find(records, found, going.outliers if going else ())
        said = as_json(found, insights, going, self._missed(query))
        return Response(said, media_type="application/json")

    @contextmanager
    def _records(self) -> Iterator[Records]:
        there = [each for each in self.given if not isinstance(each, Path) or each.exists()]
        records = open_sources(there).records if there else empty()
        try:
            yield records
        finally:
            records.close()

    def _page(self, request: Request) -> Page:
        query, when, now = self._asked(request)
        paid, missed = stated(query), self._missed(query)
        with self._records() as records:
            return gathered(
                records, query, self.shown, now, self._budgets(), period=when, live=True, faults=missed, paid=paid
            )

    def _missed(self, query: Query) -> list[faults.Fault]:
        return [fault for path in self.paths for fault in faults.read(path, query.since_ns, query.until_ns)]

    def _asked(self, request: Request) -> tuple[Query, str, datetime]:
        """The query, the name of its period, and now."""
        asked = request.query_params
        now = datetime.now(UTC)
        when = asked.get("period", DEFAULT_PERIOD)
        if when not in PERIODS:
            raise TokenGuardError(f"{when!r} is no period: use one of {', '.join(PERIODS)}")
        query = Query(
            by=(asked.get("by") or "feature",),
            since_ns=period(when, now),
            where=wheres(each for each in asked.getlist("where") if each.strip()),
            now_ns=int(now.timestamp()) * 10**9,
        )
        return query, when, now
