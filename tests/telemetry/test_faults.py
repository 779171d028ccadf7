"""Where TokenGuard itself fails, the call goes on, and everybody hears of it."""

from __future__ import annotations

import logging

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

import tokenguard
from canned import MESSAGES, Script, openai_client
from tokenguard import policy
from tokenguard.installation import runtime
from tokenguard.metering import meter
from tokenguard.telemetry.faults import EVERY_S, Faults

CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": 50}


def fail(*args, **kwargs):
    raise OSError("disk full")


def test_one_error_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """The first error of a step is told at once, the others once a minute, with what they let pass."""
    now = [0.0]
    faults = Faults(clock=lambda: now[0])
    for second in range(130):
        now[0] = float(second)
        faults.note("guarding a call", OSError("disk full"))
        faults.passed(guarded=False, measured=True)
    faults.tell_the_rest()
    faults.tell_the_rest()
    told = [record.getMessage() for record in caplog.records]
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 4
    assert told[0] == "tokenguard: guarding a call failed (OSError: disk full). The call went on."
    assert told[1] == (
        "tokenguard: guarding a call failed (OSError: disk full). The call went on. 60 internal errors since the last "
        "word of it; 60 calls went out unguarded."
    )
    assert (faults.count, faults.unguarded, EVERY_S) == (130, 130, 60.0)
    assert faults.missed() == "130 calls went out unguarded"


@pytest.mark.parametrize("step", ["begin", "_match"])
def test_a_call_that_is_not_guarded(installed, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A call that goes past its budget for a fault of ours is counted as such, and goes out."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    tokenguard.install(policy.loads('[[budget]]\nname = "b"\nlimit_usd = 1.0\n[ledger]\nurl = "memory:"\n'))
    monkeypatch.setattr(meter.Meter, step, fail)
    faults = runtime.installed().telemetry.faults
    before = faults.unguarded, faults.unmeasured
    openai_client(Script()).chat.completions.create(**CHAT)
    assert (faults.unguarded - before[0], faults.unmeasured - before[1]) == (1, int(step == "begin"))


class Raising(logging.Handler):
    """A handler whose disk is full."""

    def emit(self, record):
        fail()


@pytest.mark.parametrize("what", ["handler", "filter"])
def test_logging_that_raises(installed, what: str) -> None:
    """A handler or filter of the program's that raises when a limit warns does not break the call."""
    tokenguard.install(policy.loads('[[limit]]\nname = "l"\nmax_output_tokens = 10\nthen = "warn"\n'))
    logger, handler = logging.getLogger("tokenguard"), Raising()
    (logger.addHandler if what == "handler" else logger.addFilter)(handler if what == "handler" else fail)
    try:
        for _ in range(2):
            assert openai_client(Script()).chat.completions.create(**CHAT).choices
    finally:
        logger.removeHandler(handler)
        logger.removeFilter(fail)
    assert len(installed.records) == 2


class Bad(SpanProcessor):
    """One that cannot take a span."""

    def on_end(self, span):
        fail()


def test_a_span_processor_that_raises(installed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is kept all the same, and the budget settled."""
    monkeypatch.setenv("TOKENGUARD_STRICT", "0")
    tokenguard.install(policy.loads('[[budget]]\nname = "b"\nlimit_usd = 1.0\n[ledger]\nurl = "memory:"\n'))
    processors = trace.get_tracer_provider()._active_span_processor
    before = processors._span_processors
    processors._span_processors = (*before, Bad())
    try:
        with tokenguard.meter() as measured:
            openai_client(Script()).chat.completions.create(**CHAT)
    finally:
        processors._span_processors = before
    assert len(installed.records) == measured.calls == 1
    (account,) = runtime.installed().meter.guard.ledger.accounts()
    assert account.spent_nano > 0
    assert account.reserved_nano == 0
