"""What sees to the batches of this process, loaded with the first of them: most programs have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tokenguard.call.flow import SEND, Flow
from tokenguard.metering.meter import Meter

if TYPE_CHECKING:
    from tokenguard.batches.watching import Batches
    from tokenguard.providers.batches import Request


class LateBatches:
    """The batches of this process; `path` says in which store they are kept."""

    def __init__(self, meter: Meter, path: Callable[[], str]) -> None:
        self._meter, self._path = meter, path
        self._made: dict[str, Batches] = {}

    def made(self) -> Batches:
        """What sees to them, loaded now where it was not."""
        if not self._made:
            from tokenguard.batches.watching import Batches

            self._made.setdefault("", Batches(self._meter, self._path))  # one, whichever thread was first
        return self._made[""]

    def asked(self, method: str, url: str) -> Request | None:
        """What is asked of a batch API, or of a file, which may be one's; `None` for anything else."""
        if "atch" not in url and "/files" not in url:
            return None
        from tokenguard.providers.batches import request_at

        return request_at(method, url)

    def flow(self, sent: Any) -> Flow:
        """One request to a batch API, as a seam hands it in; where nothing can be loaded, it passes untouched."""
        made = self._meter.contain("loading what sees to batches", self.made)
        return (yield SEND) if made is None else (yield from made.flow(sent))
