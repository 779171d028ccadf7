"""What TokenGuard no longer sees, no longer guards, or cannot count."""

from __future__ import annotations

from ..simulated import DAY, HOUR, calls, counter, gapped, gauge, generations, later, series
from .case import THIN, Case, gap, newcomer, restart, thin

MISSING, RULES_MISSING = "TokenGuardTelemetryMissing", "TokenGuardRecordingMissing"
INTERNAL, LEDGER, OVERFLOW = "TokenGuardInternalErrors", "TokenGuardLedgerLost", "TokenGuardTelemetryOverflow"
OLD = "TokenGuardPricesOld"
AGE = 130 * 86400


def own(name, values, **labels):
    return series(f"tokenguard_{name}", values, **labels)


def ok(*paces, **labels):
    return calls("ok", counter(*paces), **labels)


def unrecorded(what, series, of=""):
    """The recording rules do not run, and that is told."""
    return Case(RULES_MISSING, what, True, series, recording=False, of=of)


def answered(values, **labels):
    return calls("ok", values, **labels)


CASES = [
    Case(MISSING, "nothing arrives any more", True, ok((1, 2 * DAY), (None, 2 * HOUR)), 49.5),
    Case(MISSING, "a nightly job of two hours", False, ok(
        (1, 2 * HOUR), (None, 22 * HOUR), (1, 2 * HOUR), (None, 22 * HOUR), (1, 2 * HOUR), (None, 6 * HOUR)), 55),
    Case(MISSING, "one of two processes ends", False, ok((1, 2 * DAY)) | ok((1, 3 * DAY), instance="2"), 71),
    thin(MISSING, "no calls, but telemetry", False, ok((1, DAY), (0, 2 * DAY)), 71),
    restart(MISSING, "as another process", False, ok((1, 2 * DAY))
            | calls("ok", later(2 * DAY, counter((1, DAY))), instance="2"), 71),
    restart(MISSING, "pods that are replaced every six hours, pushed and scraped", False,
            generations(answered, 1, 6 * HOUR, 8)
            | generations(answered, 1, 6 * HOUR, 8, "stale", job="scraped"), 47.5),
    gap(MISSING, "of ten minutes", False, calls("ok", gapped(1, 2 * DAY, 2, 2 * HOUR)), 49.5),
    gap(MISSING, "that is over", False, calls("ok", gapped(1, 36 * HOUR, 30, 2 * DAY)), 71, 24),
    newcomer(MISSING, "a service that ends after three hours", False, ok((1, 2 * DAY))
             | calls("ok", later(DAY, counter((1, 3 * HOUR))), job="new"), 47.5),
    unrecorded("they are not loaded", ok((1, DAY))),
    Case(RULES_MISSING, "they run", False, ok((1, DAY)), 20),
    Case(RULES_MISSING, "no telemetry at all", False, own("prices_age_seconds", "1x200"), 12, recording=False),
    thin(RULES_MISSING, "they run, and nobody calls", False, ok((0, DAY)), 20),
    unrecorded("they are not loaded, and nobody calls", ok((0, DAY)), THIN),
    restart(RULES_MISSING, "they run, and processes are replaced", False, generations(answered, 1, 3, 40), 9.9),
    gap(RULES_MISSING, "they run", False, calls("ok", gapped(1, 3 * HOUR, 30, 3 * HOUR)), 8.4),
    newcomer(RULES_MISSING, "they run, and the first service of all begins", False,
             calls("ok", later(2 * HOUR, counter((1, 3 * HOUR)))), 4.9),
    Case(INTERNAL, "with every call", True, ok((10, DAY))
         | own("internal_errors_total", counter((0, DAY - HOUR), (10, HOUR))), 23.9),
    Case(INTERNAL, "one, once", False, ok((10, DAY)) | own("internal_errors_total", counter((0, 99), (1, 1), (0, 99))),
         16),
    thin(INTERNAL, "with every call of a few", True, ok((0.25, DAY))
         | own("internal_errors_total", counter((0, DAY - HOUR), (0.25, HOUR))), 23.9),
    restart(INTERNAL, "that keeps its labels, none since", False,
            calls("ok", counter((10, 40)) + " " + counter((10, 40)))
            | own("internal_errors_total", counter((0, 40), start=99) + " " + counter((0, 40))), 6.5, 4),
    restart(INTERNAL, "again and again, and errors with each start", True, generations(answered, 1, 3, 12)
            | generations(lambda v, **kw: own("internal_errors_total", v, **kw), 3, 3, 12), 2.9),
    gap(INTERNAL, "none since", False, calls("ok", gapped(10, DAY, 30, DAY))
        | own("internal_errors_total", gapped(0, DAY, 30, DAY, start=99)), 40, 30),
    newcomer(INTERNAL, "a process whose counter is born at 30", True, ok((10, 60))
             | own("internal_errors_total", later(24, "30x36"), instance="2"), 4.9),
    Case(LEDGER, "out of reach", True, own("ledger_lost", gauge((0, 60), (1, 60))), 1.9, minutes=1),
    Case(LEDGER, "out of reach for a minute", False, own("ledger_lost", gauge((0, 60), (1, 1), (0, 60))), 1.9,
         minutes=1),
    thin(LEDGER, "out of reach, and nobody calls: it is tried all the same", True,
         ok((0, 60)) | own("ledger_lost", gauge((1, 60))), 0.9, minutes=1),
    restart(LEDGER, "and it is found", False,
            own("ledger_lost", "1x12") | own("ledger_lost", later(13, "0x48"), instance="2"), 4.9, 3.5),
    restart(LEDGER, "again and again, and it is never found", True, {
        name: values for n in range(12)
        for name, values in own("ledger_lost", later(3 * n, "1x2"), instance=str(n)).items()}, 2.9, 1),
    gap(LEDGER, "within reach", False, own("ledger_lost", gauge((0, 12), (None, 30), (0, 30)))),
    newcomer(LEDGER, "a service that never finds it", True, own("ledger_lost", "0x60")
             | own("ledger_lost", later(30, "1x30"), job="new"), 4.9),
    Case(OVERFLOW, "a label with too many values", True, ok((1, DAY))
         | own("series_overflow_total", counter((1, DAY)), label="x")),
    Case(OVERFLOW, "lost records", True, ok((1, DAY)) | own("records_dropped_total", counter((1, DAY)))),
    Case(OVERFLOW, "the SDK's own overflow", True, ok((1, DAY), otel_metric_overflow="true")),
    Case(OVERFLOW, "none", False, ok((1, DAY)) | own("records_dropped_total", counter((0, DAY)))),
    thin(OVERFLOW, "one lost record: a total lacks it", True, ok((0.1, DAY))
         | own("records_dropped_total", counter((0, 30), (1, 1), (0, 40)))),
    restart(OVERFLOW, "that keeps its labels, none since", False, calls("ok", counter((1, 40)) + " " + counter((1, 40)))
            | own("series_overflow_total", counter((0, 40), start=9) + " " + counter((0, 40)), label="x"), 6.5, 4),
    restart(OVERFLOW, "again and again, and too many values in each process", True, generations(answered, 1, 3, 16)
            | generations(lambda v, **kw: own("series_overflow_total", v, label="x", **kw), 3, 3, 16), 3.9),
    gap(OVERFLOW, "none since", False, calls("ok", gapped(1, DAY, 30, DAY))
        | own("series_overflow_total", gapped(0, DAY, 30, DAY, start=9), label="x"), 40, 30),
    newcomer(OVERFLOW, "a process whose counter is born at 5", True, ok((1, 60))
             | own("records_dropped_total", later(24, "5x36"), instance="2"), 4.9),
    Case(OLD, "130 days", True, own("prices_age_seconds", gauge((AGE, DAY)))),
    Case(OLD, "30 days", False, own("prices_age_seconds", gauge((30 * 86400, DAY)))),
    thin(OLD, "130 days, and nobody calls", True, ok((0, DAY)) | own("prices_age_seconds", gauge((AGE, DAY)))),
    restart(OLD, "with a newer table", False, own("prices_age_seconds", f"{AGE}x24")
            | own("prices_age_seconds", later(25, "864000x48"), instance="2"), 5.9, 3),
    restart(OLD, "again and again, with the old table", True, {
        name: values for n in range(8)
        for name, values in own("prices_age_seconds", later(6 * n, f"{AGE}x5"), instance=str(n)).items()}, 3.9),
    gap(OLD, "and an old table before and after", True,
        own("prices_age_seconds", gauge((AGE, 24), (None, 30), (AGE, 40))), 7.5, 2),
    gap(OLD, "and a table of 30 days", False,
        own("prices_age_seconds", gauge((2592000, 24), (None, 30), (2592000, 40))), 7.5),
    newcomer(OLD, "a service that begins with an old table", True, own("prices_age_seconds", "864000x80")
             | own("prices_age_seconds", later(24, f"{AGE}x50"), job="new"), 5.9),
]  # fmt: skip
