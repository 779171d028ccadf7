"""botocore's signatures, for who signs a request to Bedrock with botocore and sends it by another way (litellm).

A signature is over the body, so that what is signed could no longer be clamped or downgraded. Here the header that
holds it knows how it was made, and makes it again for another body; it goes where the request goes, and with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from tokenguard.call.call import current_call
from tokenguard.metering.meter import Meter
from tokenguard.providers import Sdk
from tokenguard.seams.common.wrapping import Restore, replace

HEADER = "Authorization"
STALE = frozenset({"authorization", "content-length", "x-amz-date", "x-amz-security-token"})
"""Headers that belong to the body they were made for."""


class Signature(str):
    """The header's value, as botocore made it; `again` signs another request with the same credentials."""

    __slots__ = ("again",)

    again: Callable[[str, str], Mapping[str, str]]
    """From a URL and a body to the headers of that request."""


def patch(module: ModuleType, meter: Meter, sdk: Sdk) -> Restore:
    """Wrap the signer of `botocore.auth`; returns what to restore."""

    def add_auth(original: Any) -> Any:
        def sign(self: Any, request: Any) -> None:
            original(self, request)
            if str(self._service_name).startswith("bedrock") and current_call.get() is None:  # else botocore sends it
                meter.contain("noting a signature", _note, original, self, request)

        return sign

    restore = Restore()
    replace(restore, module, "SigV4Auth.add_auth", add_auth)
    return restore


def _note(sign: Callable[[Any, Any], None], signer: Any, request: Any) -> None:
    kind, method, headers = type(request), request.method, dict(request.headers.items())

    def again(url: str, body: str) -> Mapping[str, str]:
        another = kind(method=method, url=url, data=body, headers=headers)
        sign(signer, another)  # which replaces what it once added
        return dict(another.headers.items())

    signature = Signature(headers[HEADER])
    signature.again = again
    request.headers.replace_header(HEADER, signature)


def signed_again(headers: Mapping[str, str], url: str, body: str) -> Mapping[str, str] | None:
    """These headers with a signature for another body; `None` where it is not known how theirs was made."""
    signature = next((value for name, value in headers.items() if name.lower() == "authorization"), None)
    if not isinstance(signature, Signature):
        return None
    kept = {name: value for name, value in headers.items() if name.lower() not in STALE}
    fresh = {name: value for name, value in signature.again(url, body).items() if name.lower() in STALE}
    return {**kept, **fresh}
