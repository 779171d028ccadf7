"""A model call as it goes to a URL, for the seams that see no more of it than that and a JSON body.

Google's and Bedrock's URLs name the model, which their bodies leave out. Here a body has it, wherever it came from, and
where another is put in its place, URL and body are as their wire format wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tokenguard.call.call import AskedBy, Call
from tokenguard.providers import Reading, api_of, bedrock, google, located
from tokenguard.seams.common.sending import SentExchange

Put = Callable[[str, Mapping[str, Any]], None]
"""Has this body sent to this URL instead."""

WIRES = ((google, "gcp.gemini"), (bedrock, "aws.bedrock"))
"""Whose URLs name the model, and who is meant where nobody says."""


class AddressedExchange(SentExchange):
    """A request whose response may tell its usage in headers (Bedrock's `InvokeModel`)."""

    __slots__ = ()

    def read(self, result: Any, call: Call) -> Reading | None:
        """As the base does, and the headers where the body tells nothing."""
        reading = super().read(result, call)
        if reading is not None and reading.usage is None and call.later is None:
            return reading._replace(usage=bedrock.read_headers(getattr(result, "headers", {})))
        return reading


def exchange_at(
    url: str,
    given: Mapping[str, Any],
    stream: bool,
    provider: str,
    put: Put,
    *,
    sender: str,
    watch: Callable[[Any, Call], None] | None = None,
    headers: Mapping[Any, Any] | None = None,
    client: Any = None,
    query: Any = None,
) -> SentExchange | None:
    """The exchange of a request to `url` with this body; `None` when it is no model call.

    `provider` is whom it goes to, unless the host says else. Where that is empty, it is whose wire format it is, or
    goes by the name of its `sender`. `watch` is as in `SentExchange`. Sent by httpx, with `headers`, it may have a
    kept answer; `client` is httpx's, where it is known, and `query` what it adds to the URL.
    """
    asked_by = None if headers is None else lambda: AskedBy(url, [headers], query or None, clients=(client,))
    kind = None if watch else sender  # what is yet to be read can be read but once
    address, _, _ = url.partition("?")
    stream = stream or given.get("stream") is True
    for wire, home in WIRES:
        if (model := wire.model_in(address)) is None or (api := wire.api_at(address, given)) is None:
            continue
        endpoint, _ = located(address, provider or home)

        def moved(body: Mapping[str, Any], wire: Any = wire, model: str = model) -> None:
            where, own = wire.put_model(url, body)
            if "model" in given:  # some say it twice, in words of their own
                own["model"] = given["model"] if body["model"] == model else body["model"]
            put(where, own)

        return AddressedExchange(
            api, endpoint, {**given, "model": model}, stream, moved, kind=kind, watch=watch, asked_by=asked_by
        )
    endpoint, path = located(address, provider or sender)
    if (api := api_of(path, endpoint.provider)) is None:
        return None
    return SentExchange(
        api, endpoint, given, stream, lambda body: put(url, body), kind=kind, watch=watch, asked_by=asked_by
    )
