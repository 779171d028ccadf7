"""What is below the SDKs: where a kept answer is given in the place of the network, and a new one is listened to.

The SDK does all that it does for any request, and gets the kept answer as the bytes that the provider had sent. So what
comes of it is the SDK's own: its types, streams, raw responses and helpers. A transport is wrapped only while a policy
has answers kept.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from tokenguard.call.call import current_call
from tokenguard.call.kept import HttpAnswer, LookUp
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore

TRANSPORTS = {
    "httpx._client": "httpx",
    "httpx2._client": "httpx",
    "aiohttp.client": "aiohttp",
    "botocore.httpsession": "botocore",
}
"""The module that is wrapped, and the one here whose `patch(module, meter)` wraps it."""


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Wrap a transport; returns what to restore."""
    own = import_module(f"{__name__}.{TRANSPORTS[module.__name__]}")
    placed: Restore = own.patch(module, meter)
    return placed


def asked(method: str, host: str | None) -> LookUp | None:
    """What the call that is being sent knows of kept answers; `None` where a request is not the call's.

    An SDK may ask for a token meanwhile.
    """
    call = current_call.get()
    if call is None or (found := call.look_up) is None or not (found.answer or found.listens):
        return None
    return found if method == "POST" and host == call.endpoint.host else None


def headers_of(answer: HttpAnswer) -> list[tuple[str, str]]:
    """The headers of a kept answer: its body may be another length than what came, which was compressed."""
    length = str(len(answer.body))
    return [(name, length if name.lower() == "content-length" else value) for name, value in answer.headers]
