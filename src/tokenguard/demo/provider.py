"""`SimulatedProvider`: OpenAI and Anthropic on loopback, with their wire formats, caching, counts and faults.

```python
with SimulatedProvider() as provider:
    client = openai.OpenAI(base_url=provider.openai_url, api_key="sk-simulated")
    provider.fail_next(429, times=2, retry_after=0)
    client.chat.completions.create(model="gpt-4o", messages=[...])
    provider.requests[-1].billed, provider.billed
```

It keeps the books as the provider does: each request with what it charges, which is what any measurement has to meet.
`python -m tokenguard.demo.provider [PORT]` runs it alone.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Self

from tokenguard.demo.answers import Model
from tokenguard.demo.billing import Invoice
from tokenguard.demo.exchange import Desk, Received
from tokenguard.demo.faults import Fault, Faults, Kind
from tokenguard.demo.server import Server
from tokenguard.facts.usage import Usage


class SimulatedProvider:
    """An LLM provider on loopback; a context manager, usable from any number of threads."""

    def __init__(
        self,
        *,
        port: int = 0,
        seed: int = 0,
        tool_rounds: int | None = 2,
        fault_rate: float = 0.0,
        fault_statuses: Sequence[int] = (429, 500),
        latency: float = 0.0,
        chunk_delay: float = 0.0,
    ) -> None:
        self.model = Model(seed, tool_rounds)
        self.desk = Desk(self.model)
        self.faults = Faults(fault_rate, fault_statuses, seed)
        self.invoice = self.desk.invoice = Invoice()
        """How the bill differs from the books: use that no program measured, prices, credits, hosted tools."""
        self.latency = latency
        """Seconds before an answer begins."""
        self.chunk_delay = chunk_delay
        """Seconds between the events of a stream."""
        self.requests: list[Received] = self.desk.received
        """All requests, in the order they came."""
        self._server = Server(port, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="simulated-provider", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and drop all connections."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.drop_connections()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        """`base_url` of OpenAI clients (`OPENAI_BASE_URL`)."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """`base_url` of Anthropic clients (`ANTHROPIC_BASE_URL`)."""
        return self.url

    @property
    def billed(self) -> Usage:
        """What all requests together were charged, in tokens."""
        return self.billed_for()

    def billed_for(self, model: str | None = None, api: str | None = None) -> Usage:
        """What the requests to a model, or in a wire format, were charged together."""
        usage = Usage(0, 0, 0, 0)
        for request in list(self.requests):
            if request.billed is not None and model in (None, request.model) and api in (None, request.api):
                usage = usage.plus(request.billed)
        return usage

    @property
    def calls(self) -> list[Received]:
        """The requests that were charged."""
        return [request for request in list(self.requests) if request.billed is not None]

    def fail_next(
        self,
        what: int | Kind,
        *,
        times: int = 1,
        retry_after: float | None = None,
        after: int = 2,
        seconds: float = 0.0,
        path: str = "",
    ) -> None:
        """Let the next requests fail: with a status, or in one of the ways of `faults.KINDS`.

        `after` is how many events of a stream come before `disconnect` or `stream_error`; `seconds` is how long the
        answer is held back; `path` is the end of the path of the requests that are meant.
        """
        self.faults.script(Fault(what, times, retry_after, after, seconds, path))

    def refuse_next(self, option: str, *, times: int = 1) -> None:
        """Let the next requests that set `option` fail with 400, as from hosts that do not know it.

        >>> provider.refuse_next("stream_options")
        """
        self.faults.script(Fault(400, times, option=option))

    def end_next_batch(self, state: str, after: int) -> None:
        """Let the next batch end as `expired`, `cancelled` or `failed` when so many of its lines were answered."""
        self.desk.batch_ends.append((state, after))

    def answer_next(self, *texts: str) -> None:
        """Let the next answers be these texts."""
        self.model.script.extend(texts)

    def advance(self, seconds: float) -> None:
        """Let time pass for the caches."""
        self.desk.advance(seconds)


def main() -> None:
    """Serve until interrupted."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with SimulatedProvider(port=port) as provider:
        sys.stdout.write(f"OPENAI_BASE_URL={provider.openai_url}\nANTHROPIC_BASE_URL={provider.anthropic_url}\n")
        sys.stdout.flush()
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            sys.stdout.write(f"billed: {provider.billed}\n")


if __name__ == "__main__":
    main()
