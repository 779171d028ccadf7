"""Asking a provider's billing API: pages, retries, and errors that name the next step. Keys go nowhere else."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tokenguard.invoice.lines import InvoiceError

TIMEOUT_S: Final = 30.0
TRIES: Final = 4
AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504, 529})
MAX_PAGES: Final = 10_000
MAX_BYTES: Final = 64 * 2**20

Params = Sequence[tuple[str, str]]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would take the key along, wherever it leads."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener: Final = urllib.request.build_opener(_NoRedirect)


def pages(url: str, params: Params, headers: Mapping[str, str], needs: str) -> Iterator[Mapping[str, Any]]:
    """The pages of a report: each names the next one. Raises `InvoiceError`; `needs` says which key it takes."""
    page: str | None = None
    for _ in range(MAX_PAGES):
        asked = [*params, *([("page", page)] if page else [])]
        found = _get(f"{url}?{urllib.parse.urlencode(asked)}" if asked else url, headers, needs)
        yield found
        following = found.get("next_page")
        if not following or found.get("has_more") is False:
            return
        if following == page:
            raise InvoiceError(f"{url}: the page {page!r} names itself as the next one. Report this to the provider.")
        page = str(following)
    raise InvoiceError(f"{url}: more than {MAX_PAGES} pages. Ask for a shorter time with --since.")


def _get(url: str, headers: Mapping[str, str], needs: str) -> Mapping[str, Any]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise InvoiceError(f"{url}: a key is sent over https alone. Give an https address.")
    shown = f"{parts.scheme}://{parts.netloc}{parts.path}"
    for attempt in range(TRIES):
        try:
            with _opener.open(urllib.request.Request(url, headers=dict(headers)), timeout=TIMEOUT_S) as response:  # noqa: S310
                found = json.loads(response.read(MAX_BYTES))
        except urllib.error.HTTPError as error:
            with error:  # it is the answer, too
                said = error.read(2000).decode("utf-8", "replace")
            if error.code in AGAIN and attempt < TRIES - 1:
                time.sleep(_wait(error, attempt))
                continue
            advice = _advice(error.code, needs)
            raise InvoiceError(f"{shown} answered {error.code}: {_message(said)}. {advice}") from None
        except ValueError as error:
            raise InvoiceError(
                f"{shown}: the answer is not JSON ({error}). Check that this is the provider's address."
            ) from None
        except OSError as error:
            if attempt == TRIES - 1:
                raise InvoiceError(f"{shown} cannot be reached: {error}. Try again when it can.") from None
            time.sleep(_wait(None, attempt))
        else:
            if not isinstance(found, dict):
                raise InvoiceError(f"{shown}: the answer is no JSON object. Is it the provider's address?")
            return found
    raise AssertionError("unreachable")


def _wait(error: urllib.error.HTTPError | None, attempt: int) -> float:
    try:
        return min(float((error and error.headers.get("retry-after")) or 2**attempt / 2), 60.0)
    except ValueError:
        return 2.0**attempt


def _message(said: str) -> str:
    try:
        error = json.loads(said).get("error")
        return str(error.get("message") if isinstance(error, dict) else error)[:300]
    except (ValueError, AttributeError):
        return said.strip()[:300] or "nothing more"


def _advice(status: int, needs: str) -> str:
    if status in (401, 403):
        return f"It takes {needs}."
    return "Try again later." if status in AGAIN else "Is this version of the API still there? See docs/reconcile.md."
