"""Installs TokenGuard in a Python started under `tokenguard-instrument`, then lets OpenTelemetry load itself."""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _start() -> None:
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
        _tell("could not start; calls are not measured")
    try:
        from tokenguard.installation.telemetry import start_opentelemetry

        start_opentelemetry()
    except Exception:
        _tell("OpenTelemetry could not start; calls are measured without it")


def _tell(what: str) -> None:
    """Log what has gone wrong just now."""
    import logging

    logging.getLogger("tokenguard").exception("tokenguard: %s", what)


def _next_sitecustomize() -> None:
    """Run the `sitecustomize` that ours stands in front of, if there is one."""
    from importlib.machinery import PathFinder

    paths = [path for path in sys.path if os.path.abspath(path or ".") != _here]
    spec = PathFinder.find_spec("sitecustomize", paths)
    if spec is not None and spec.loader is not None and "auto_instrumentation" not in (spec.origin or ""):
        import importlib.util

        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module  # what the program gets that imports it by name
        spec.loader.exec_module(module)


_start()
_next_sitecustomize()
