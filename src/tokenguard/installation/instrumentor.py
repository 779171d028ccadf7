"""What lets a plain `opentelemetry-instrument` find TokenGuard."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]


class TokenGuardInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """What OpenTelemetry's auto-instrumentation calls; the same as `tokenguard.install()`."""

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: SDKs are wrapped when they are imported, whichever there are."""
        return []

    def _instrument(self, **kwargs: Any) -> None:
        from tokenguard.installation.runtime import install

        install(kwargs.get("policy"))

    def _uninstrument(self, **kwargs: Any) -> None:
        from tokenguard.installation.runtime import uninstall

        uninstall()
