"""OpenTelemetry in a program under `tokenguard-instrument`: what the environment asks for is set up.

`tokenguard-instrument` itself is another file: it is not imported by the programs that it starts.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from tokenguard.facts import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

LOADED: Final = tuple(
    b"[opentelemetry_%b]" % group
    for group in (b"distro", b"configurator", b"instrumentor", b"pre_instrument", b"post_instrument")
)
"""The groups of entry points that OpenTelemetry's auto-instrumentation loads, as a package's metadata begins them."""
OWN: Final = "tokenguard_otel-"


def start_opentelemetry() -> None:
    """OpenTelemetry's auto-instrumentation, and its SDK where no distribution has set it up; may raise."""
    if _loads_something():
        from opentelemetry.instrumentation.auto_instrumentation import initialize

        initialize()
    if {os.environ.get(f"OTEL_{signal}_EXPORTER", "none") for signal in ("TRACES", "METRICS")} != {"none"}:
        from opentelemetry import trace

        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            # What opentelemetry-distro does; it is no dependency, as the first distribution installed wins over others.
            from opentelemetry.sdk._configuration import _OTelSDKConfigurator

            _OTelSDKConfigurator().configure()  # type: ignore[no-untyped-call]
    if any(os.environ.get(name) for name in names.OTLP_ENDPOINTS):
        _bound_the_end()


def _loads_something() -> bool:
    """Whether the auto-instrumentation finds anything here besides TokenGuard.

    It takes as long to import as TokenGuard does. Where it has settings, or a part of the path is no folder, it is
    asked itself.
    """
    if any(name.startswith("OTEL_PYTHON_") for name in os.environ):
        return True
    for folder in sys.path:
        try:
            found = os.listdir(folder or ".")
        except NotADirectoryError:
            return True
        except OSError:
            continue
        for each in found:
            if each.endswith((".dist-info", ".egg-info")) and not each.startswith(OWN):
                with suppress(OSError), open(f"{folder or '.'}/{each}/entry_points.txt", "rb") as points:
                    if any(line.startswith(LOADED) for line in points):
                        return True
    return False


def _bound_the_end() -> None:
    """Have the SDK that was set up here wait at the end no longer than TokenGuard does."""
    from opentelemetry import metrics, trace
    from opentelemetry._logs import get_logger_provider

    from tokenguard.installation.runtime import installed

    here = installed()
    if here is not None:
        providers = (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider())
        here.telemetry.delivery.send_at_the_end(providers)
