"""One contender in one process: answers the driver's commands, a JSON line each, on the standard input and output.

    worker.py NAME [SCENARIO ...]      a name of `contenders.CONTENDERS`; all scenarios, or these

- `{"do": "run", "scenario": S, "n": N}` -> `{"wall": ns, "thread": ns, "cpu": ns}`: N turns of S; wall clock and CPU of
  the calling thread over the calls, and CPU of the whole process until what they queued is exported.
- `{"do": "check"}` -> per scenario, how many spans one turn gives, of what size, and which instruments recorded.
- `{"do": "rss"}` -> `{"rss": bytes}`.
- `{"do": "count", "scenario": S, "n": N}` -> `{"instructions": I}`: of the calling thread over N turns; where the
  process runs under `counting.command`, in its folder. `{"do": "count_own", ...}`: of these, those of what the
  contender has put around the SDKs' method that sends a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from counting import Counter


def rss() -> int:
    """Resident memory of this process in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(name: str, *scenarios: str) -> None:
    """Set the contender up, say hello, serve."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a contender prints must not look like an answer
    try:
        worker = Worker(name, scenarios)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}), file=answers)
        return
    print(json.dumps(worker.hello), file=answers)
    with contextlib.suppress(KeyboardInterrupt):
        serve(worker, answers)
    os._exit(0)  # no contender's shutdown is measured


def serve(worker: Worker, answers: TextIO) -> None:
    """Answer commands until the input ends."""
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "run":
            answer = worker.run(command["scenario"], command["n"])
        elif command["do"] == "check":
            answer = worker.check()
        elif command["do"] == "count":
            answer = worker.count(command["scenario"], command["n"])
        elif command["do"] == "count_own":
            answer = worker.count(command["scenario"], command["n"], own=True)
        else:
            answer = {"rss": rss()}
        print(json.dumps(answer), file=answers)


class Recorder:
    """Exporter of spans, logs and metrics that drops them, unless it is told to look."""

    def __init__(self) -> None:
        self.looking = False
        self.spans: list[Any] = []
        self.metrics: set[str] = set()

    def spans_out(self, spans: Sequence[Any]) -> None:
        if self.looking:
            self.spans.extend(spans)

    def metrics_out(self, data: Any) -> None:
        if self.looking:
            scopes = (scope for resource in data.resource_metrics for scope in resource.scope_metrics)
            self.metrics |= {metric.name for scope in scopes for metric in scope.metrics}


class Worker:
    """The contender switched on, its clients, and the scenarios as functions of how many turns."""

    def __init__(self, name: str, scenarios: Sequence[str] = ()) -> None:
        import anthropic
        import openai
        from contenders import CONTENDERS

        self.contender = next(contender for contender in CONTENDERS if contender.name == name)
        self.wants = lambda each: each.startswith(self.contender.scenarios) and (not scenarios or each in scenarios)
        self.recorder = Recorder()
        self.make_scenarios(
            openai, anthropic
        )  # the SDKs import much at the first use; that is not the contender's start
        processor, reader = self.pipeline()
        senders = [sdk._base_client.SyncAPIClient for sdk in (openai, anthropic)] if scenarios else []
        for sender in senders:
            sender.request = self.counter.toggling(sender.request)
        self.contender.install(processor, reader)
        for sender in senders:
            sender.request = self.counter.toggling(sender.request)
        self.loop = asyncio.Runner()
        self.scenarios = self.make_scenarios(openai, anthropic)
        for scenario in self.scenarios.values():
            for _ in range(2):
                scenario(3)
        self.scenarios |= self.cloud_scenarios()
        self.flush()
        self.hello = {
            "start_ms": time.process_time() * 1e3,  # from the process's start to the end of its first calls
            "rss": rss(),
            "versions": versions(self.contender.packages),
            "sdks": versions(("openai", "anthropic")),
            "libraries": versions(("openai", "anthropic", "opentelemetry-sdk")),
            "scenarios": list(self.scenarios),
        }

    def pipeline(self) -> tuple[Any, Any]:
        """OpenTelemetry's SDK as in production (batches, a periodic reader), with exporters that drop what they get."""
        from opentelemetry import metrics, trace
        from opentelemetry._logs import set_logger_provider
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, PeriodicExportingMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

        recorder = self.recorder

        class Spans(SpanExporter):
            def export(self, spans: Sequence[Any]) -> Any:
                recorder.spans_out(spans)
                return SpanExportResult.SUCCESS

        class Logs(LogRecordExporter):
            def export(self, batch: Sequence[Any]) -> Any:
                return LogRecordExportResult.SUCCESS

            def force_flush(self, timeout_millis: float = 0) -> bool:
                return True

            def shutdown(self) -> None: ...

        class Metrics(MetricExporter):
            def export(self, metrics_data: Any, timeout_millis: float = 0, **_: Any) -> Any:
                recorder.metrics_out(metrics_data)
                return MetricExportResult.SUCCESS

            def force_flush(self, timeout_millis: float = 0) -> bool:
                return True

            def shutdown(self, timeout_millis: float = 0, **_: Any) -> None: ...

        processor = BatchSpanProcessor(Spans(), max_queue_size=8192)
        reader = PeriodicExportingMetricReader(Metrics())
        if not self.contender.own_providers:
            tracers = TracerProvider()
            tracers.add_span_processor(processor)
            trace.set_tracer_provider(tracers)
            metrics.set_meter_provider(MeterProvider([reader]))
            loggers = LoggerProvider()
            loggers.add_log_record_processor(BatchLogRecordProcessor(Logs()))
            set_logger_provider(loggers)
        self.processor, self.reader = processor, reader
        return processor, reader

    def make_scenarios(self, openai: Any, anthropic: Any) -> dict[str, Callable[[int], None]]:
        """Name -> function that runs it n times. The clients are made after the contender is switched on."""
        import canned

        def client(package: Any, name: str, asynchronous: bool = False) -> Any:
            uses = vars(package._base_client)
            http = uses.get("httpx2") or uses["httpx"]  # openai 3 and anthropic 2 have moved to httpx2
            made = (http.AsyncClient if asynchronous else http.Client)(transport=canned.transport(http))
            return getattr(package, name)(api_key="sk-bench", http_client=made)

        sync, over_loop = client(openai, "OpenAI"), client(openai, "AsyncOpenAI", asynchronous=True)
        claude = client(anthropic, "Anthropic")
        long, short = canned.LONG, canned.SHORT

        def calls(create: Callable[..., Any], asked: Callable[[], dict[str, Any]]) -> Callable[[int], None]:
            def turns(n: int) -> None:
                for _ in range(n):
                    create(**asked())

            return turns

        def streams(
            create: Callable[..., Iterator[Any]], asked: Callable[[int], dict[str, Any]], chunks: int
        ) -> Callable[[int], None]:
            def turns(n: int) -> None:
                for _ in range(n):
                    for _chunk in create(**asked(chunks)):
                        pass

            return turns

        async def together() -> None:
            await asyncio.gather(*(over_loop.chat.completions.create(**canned.chat()) for _ in range(64)))

        def batches(n: int) -> None:
            for _ in range(n):
                self.loop.run(together())

        chat, messages = sync.chat.completions.create, claude.messages.create
        scenarios = {
            "chat": calls(chat, canned.chat),
            "stream": streams(chat, canned.chat_stream, long),
            "stream short": streams(chat, canned.chat_stream, short),
            "async 64": batches,
            "responses": calls(sync.responses.create, canned.responses),
            "embeddings": calls(sync.embeddings.create, canned.embeddings),
            "anthropic": calls(messages, canned.message),
            "anthropic stream": streams(messages, canned.message_stream, long),
            "anthropic stream short": streams(messages, canned.message_stream, short),
        }
        return {name: run for name, run in scenarios.items() if self.wants(name)}

    def cloud_scenarios(self) -> dict[str, Callable[[int], None]]:
        """Those of `clouds` whose SDK is installed; each is set up by its first turn, which is no round's."""
        import clouds

        return {name: clouds.scenario(name, self.contender.clouds) for name in clouds.installed() if self.wants(name)}

    def flush(self) -> None:
        """Export every finished span, and let the contender finish what it queued."""
        self.contender.settle()
        self.processor.force_flush()

    def run(self, scenario: str, n: int) -> dict[str, int]:
        """Time n turns. A turn of "async 64" is 64 calls."""
        turns = self.scenarios[scenario]
        cpu, thread, wall = time.process_time_ns(), time.thread_time_ns(), time.perf_counter_ns()
        turns(n)
        wall, thread = time.perf_counter_ns() - wall, time.thread_time_ns() - thread
        self.flush()
        return {"wall": wall, "thread": thread, "cpu": time.process_time_ns() - cpu}

    @functools.cached_property
    def counter(self) -> Counter:
        """Counts instructions."""
        return Counter(Path.cwd())

    def count(self, scenario: str, n: int, *, own: bool = False) -> dict[str, int]:
        """Count the instructions of n turns, after as many that warm up; or the contender's own among them."""
        turns = self.scenarios[scenario]
        turns(n)
        self.flush()
        count = self.counter.count_between if own else self.counter.count
        return {"instructions": count(lambda: turns(n))}

    def check(self) -> dict[str, Any]:
        """What one turn of each scenario leaves behind."""
        seen: dict[str, Any] = {}
        self.recorder.looking = True
        for name, turns in self.scenarios.items():
            self.flush()
            self.recorder.spans.clear()
            turns(1)
            self.flush()
            spans = self.recorder.spans
            seen[name] = {
                "spans": len(spans) / (64 if name == "async 64" else 1),
                "attributes": max((len(span.attributes) for span in spans), default=0),
            }
        self.reader.force_flush()
        self.recorder.looking = False
        self.recorder.spans.clear()
        return {"scenarios": seen, "metrics": sorted(self.recorder.metrics)}


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed version of each package."""
    from importlib.metadata import version

    return {package: version(package) for package in packages}


if __name__ == "__main__":
    main(*sys.argv[1:])
