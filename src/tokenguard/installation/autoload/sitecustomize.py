"""Installs TokenGuard in a Python started under `tokenguard-instrument`, then lets OpenTelemetry load itself."""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _start() -> None:
    import logging

    log = logging.getLogger("tokenguard")
    try:
        from tokenguard.installation.runtime import install

        install()
    except ImportError:
        # Another Python than the one TokenGuard is installed for: it runs as if we were not here.
        return
    except Exception as error:
        from tokenguard.facts.errors import PolicyError

        if isinstance(error, PolicyError):
            # Not `sys.exit`: here, an exception is a fatal error of the interpreter, with a page of its own.
            if sys.stderr is not None:  # a service may be started without
                sys.stderr.write(f"tokenguard: {error}\n")
                sys.stderr.flush()
            os._exit(2)
        log.exception("tokenguard: could not start; calls are not measured")
    try:
        from tokenguard.installation.instrument import start_opentelemetry

        start_opentelemetry()
    except Exception:
        log.exception("tokenguard: OpenTelemetry could not start; calls are measured without it")


def _next_sitecustomize() -> None:
    """Run the `sitecustomize` that ours stands in front of, if there is one."""
    import importlib.machinery
    import importlib.util

    paths = [path for path in sys.path if os.path.abspath(path or ".") != _here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None and "auto_instrumentation" not in (spec.origin or ""):
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module  # what the program gets that imports it by name
        spec.loader.exec_module(module)


_start()
_next_sitecustomize()
