"""ssl: a context that has loaded a client certificate does not say so, and two people may differ in that alone."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from tokenguard.answers.whose import CERTIFICATES
from tokenguard.metering.meter import Meter
from tokenguard.seams.common.wrapping import Restore, replace


def patch(module: ModuleType, meter: Meter) -> Restore:
    """Have contexts note the certificates that they load; returns what to restore."""
    restore = Restore()

    def load(original: Any) -> Any:
        def load_cert_chain(self: Any, certfile: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, certfile, *args, **kwargs)
            meter.contain("noting a client certificate", _note, self, certfile)
            return result

        return load_cert_chain

    replace(restore, module, "SSLContext.load_cert_chain", load)
    return restore


def _note(context: Any, certfile: Any) -> None:
    """By what is in the file: another machine may have another one's at that place."""
    try:
        told = blake2b(Path(certfile).read_bytes(), digest_size=16).hexdigest()
    except OSError:
        told = str(certfile)
    before = getattr(context, CERTIFICATES, ())
    if told not in before:
        setattr(context, CERTIFICATES, (*before, told))
