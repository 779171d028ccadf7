"""A webhook: a URL that gets a JSON value as a POST, signed where the environment has a secret.

In a file of its own, as what speaks HTTP takes long to import and few policies name a webhook.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from tokenguard.facts import names


class Webhook:
    """Who is told at `url`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def request(self, what: dict[str, Any]) -> urllib.request.Request:
        """What it is sent, and sent again where that fails."""
        body = json.dumps(what).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "tokenguard", **signed(body)}
        return urllib.request.Request(self._url, data=body, headers=headers)  # noqa: S310 - http(s) only

    def post(self, request: urllib.request.Request, timeout_s: float) -> None:
        """Send it. Raises what `urlopen` does."""
        with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310
            pass

    def refuses(self, error: Exception) -> bool:
        """Whether an error of `post` says that the same would be refused again."""
        if not isinstance(error, urllib.error.HTTPError):
            return False
        error.close()  # it is the answer, too
        return error.code < 500 and error.code != 429


def signed(body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows who has sent it, where the environment has a secret.

    As Standard Webhooks has it (https://www.standardwebhooks.com): an HMAC-SHA256 of id, time and body.
    """
    secret = os.environ.get(names.ENV_WEBHOOK_SECRET)
    if not secret:
        return {}
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    told, at = f"msg_{os.urandom(12).hex()}", str(int(time.time()))
    digest = hmac.digest(key, b".".join((told.encode(), at.encode(), body)), "sha256")
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": told, "webhook-timestamp": at, "webhook-signature": signature}
