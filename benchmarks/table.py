"""Results as figures and as Markdown.

    python3 benchmarks/table.py [--readme] [--clock thread]

Renders benchmarks/results.json; --readme puts the table into docs/benchmarks.md, and what it comes to into README.md,
each between its markers.

All figures are medians over rounds. What a contender adds is taken against the bare SDK of the same versions in the
same round, so that a machine that slows down for a while slows both.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
README = HERE.parent / "README.md"

CHUNKS = 200 - 8
"""Chunks by which the long and the short stream differ."""

Series = list[float]
Added = Callable[[dict[str, Any], str, str], Series]


def calls(row: dict[str, Any], base: dict[str, Any], scenario: str, clock: str) -> Series:
    """Microseconds added per call, round by round."""
    mine, bare = row["rounds"].get(scenario), base["rounds"].get(scenario)
    if not mine or not bare:
        return []
    return [(a[clock] - b[clock]) / 1e3 for a, b in zip(mine, bare, strict=False)]


def chunks(row: dict[str, Any], base: dict[str, Any], scenario: str, clock: str) -> Series:
    """Microseconds added per chunk: how much more a long stream costs than a short one."""
    long, short = (calls(row, base, name, clock) for name in (scenario, f"{scenario} short"))
    return [(a - b) / CHUNKS for a, b in zip(long, short, strict=False)]


COLUMNS = (
    ("chat", "chat", calls, None),
    ("chat_cpu", "chat", calls, "cpu"),
    ("async", "async 64", calls, None),
    ("responses", "responses", calls, None),
    ("embeddings", "embeddings", calls, None),
    ("chunk", "stream", chunks, None),
    ("anthropic", "anthropic", calls, None),
    ("anthropic_cpu", "anthropic", calls, "cpu"),
    ("anthropic_chunk", "anthropic stream", chunks, None),
    ("google", "google", calls, None),
    ("bedrock", "bedrock", calls, None),
    ("mistral", "mistral", calls, None),
)
"""Key, scenario, how it is counted, and the clock: `None` is the one asked for the caller's path."""


def spread(series: Series) -> float:
    """The median absolute deviation."""
    middle = statistics.median(series)
    return statistics.median(abs(value - middle) for value in series)


def interval(series: Series) -> tuple[float, float]:
    """The 90 % interval of the median, by the ranks that a binomial distribution gives."""
    ordered, half = sorted(series), 0.82 * len(series) ** 0.5
    low, high = math.floor(len(series) / 2 - half), math.ceil(len(series) / 2 + half)
    return ordered[max(low, 0)], ordered[min(high, len(series) - 1)]


WIDEST = 1 / 3
"""Of a figure: where its interval is wider, it is not published."""


def figure(series: Series) -> dict[str, float] | None:
    """The median with its interval; `None` where there is none that is narrow enough to say."""
    middle, (low, high) = statistics.median(series), interval(series)
    if high - low > abs(middle) * WIDEST:
        return None
    return {"median": middle, "mad": spread(series), "low": low, "high": high}


def figures(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Contender -> column -> its `figure`, or `None` where it traced nothing."""
    rows = results["contenders"]
    out: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        base = rows.get(row["base"])
        out[name] = {}
        for column, scenario, added, clock in COLUMNS:
            traced = row["seen"]["scenarios"].get(scenario, {}).get("spans")
            series = added(row, base, scenario, clock or results["clock"]) if base and traced else []
            out[name][column] = figure(series) if series else None
    return out


def number(value: float | None, digits: int = 0) -> str:
    """A cell; an empty one says that nothing was measured."""
    if value is None:
        return "-"
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def cells(name: str, row: dict[str, Any], all_figures: dict[str, Any]) -> list[str]:
    """One row of the table."""
    mine, floor = all_figures[name], all_figures.get("floor", {})

    def middle(column: str) -> float | None:
        return mine[column]["median"] if mine[column] else None

    def ratio(column: str) -> str:
        value, unit = middle(column), floor.get(column)
        return number(value / unit["median"], 2) if value is not None and unit else "-"

    def middle_and_interval(column: str) -> str:
        its = mine[column]
        return f"{its['median']:.0f} [{its['low']:.0f}-{its['high']:.0f}]" if its else "-"

    label = ", ".join(f"{version}" for version in list(row["versions"].values())[:1])
    return [
        f"{name} {label}".strip(),
        f"{count / 1e3:,.0f}" if (count := row.get("added_instructions")) is not None else "-",
        middle_and_interval("chat"),
        ratio("chat"),
        number(middle("chat_cpu")),
        ratio("chat_cpu"),
        number(middle("async")),
        number(middle("responses")),
        number(middle("embeddings")),
        number(middle("chunk"), 2),
        number(middle("anthropic")),
        ratio("anthropic"),
        number(middle("anthropic_chunk"), 2),
        number(middle("google")),
        ratio("google"),
        number(middle("bedrock")),
        ratio("bedrock"),
        number(middle("mistral")),
        ratio("mistral"),
        number(row["added_start_ms"]),
        number(row["added_rss"] / 1e6 if row["added_rss"] is not None else None),
    ]


HEADER = (
    "added over the bare SDK",
    "chat, thousand instructions",
    "chat us [90 %]",
    "x floor",
    "chat CPU us",
    "x floor",
    "64 async us",
    "responses us",
    "embed us",
    "us per chunk",
    "anthropic us",
    "x floor",
    "us per chunk",
    "google us",
    "x floor",
    "bedrock us",
    "x floor",
    "mistral us",
    "x floor",
    "start ms",
    "RSS MB",
)


def markdown(results: dict[str, Any]) -> str:
    """The table, with what one must know to read it."""
    rows = results["contenders"]
    all_figures = figures(results)
    lines = [f"| {' | '.join(HEADER)} |", "|---" + "|---:" * (len(HEADER) - 1) + "|"]
    for name, row in rows.items():
        if row["base"] != name:
            lines.append(f"| {' | '.join(cells(name, row, all_figures))} |")
    lines += ["", bare_line(results), "", noise_line(all_figures), ""]
    notes = [*span_notes(rows), *(f"{name}: not measured, {why}" for name, why in results["missing"].items())]
    lines += ["- A figure whose 90 % interval is wider than a third of it is not published: `-`."]
    lines += [f"- {note}" for note in notes]
    lines += [f"- {line}" for line in extra_lines(results)]
    return "\n".join(lines).rstrip() + "\n"


def bare_line(results: dict[str, Any]) -> str:
    """What was compared with what, where and when."""
    bare = results["contenders"]["bare"]
    took = {
        scenario: statistics.median(each[results["clock"]] / 1e3 for each in rounds)
        for scenario, rounds in bare["rounds"].items()
    }
    spent = ", ".join(f"{scenario} {us:.0f}" for scenario, us in sorted(took.items()))
    versions = ", ".join(f"{package} {version}" for package, version in bare["versions"].items())
    clock = {"wall": "wall clock", "thread": "the calling thread's CPU"}[results["clock"]]
    return (
        f"The bare SDK takes, in us: {spent}. Measured {results['date']} on {results['machine']} (load "
        f"{results['load']:.1f} at the start), with {versions}; in-process transport, {results['rounds']} interleaved "
        f"rounds in shuffled order, medians of {clock}."
    )


def noise_line(all_figures: dict[str, Any]) -> str:
    """How far a round lies from the median, over the contenders measured."""
    spreads = {
        column: statistics.median(values)
        for column, *_ in COLUMNS
        if (values := [figures[column]["mad"] for figures in all_figures.values() if figures[column]])
    }
    said = ", ".join(
        f"{column.replace('_', ' ')} {us:.{2 if column.endswith('chunk') else 0}f}" for column, us in spreads.items()
    )
    return f"Noise, as the median absolute deviation of a round, in us: {said}."


def span_notes(rows: dict[str, Any]) -> list[str]:
    """Who does not give one span for each call."""
    notes = []
    for name, row in rows.items():
        if row["base"] == name:
            continue
        seen = row["seen"]["scenarios"]
        none = [scenario for scenario, what in seen.items() if what["spans"] == 0]
        many = [f"{what['spans']:.0f} for {scenario}" for scenario, what in seen.items() if what["spans"] > 1]
        if none:
            notes.append(f"{name}: no span for {', '.join(none)}.")
        if many:
            notes.append(f"{name}: more than one span for a call: {', '.join(many)}.")
        if row["base"] != "bare":
            sdks = ", ".join(f"{package} {version}" for package, version in row["sdks"].items())
            notes.append(f"{name}: installs only beside {sdks}, and is compared with those bare.")
    return notes


def extra_lines(results: dict[str, Any]) -> list[str]:
    """Import time and memory, where they were measured."""
    lines = []
    if imports := results.get("imports"):
        lines.append(
            f"`import tokenguard` and `install()` with no SDK imported: {imports['tokenguard_ms']:.0f} ms, where "
            f"importing OpenTelemetry's API alone takes {imports['api_ms']:.0f} ms (medians of {imports['runs']}); "
            f"SDKs imported by it: {', '.join(imports['sdks']) or 'none'}."
        )
    lines += [
        f"{name}: resident memory grew by {growth['grown'] / 1e6:.1f} MB from call {growth['from']:,} to call "
        f"{growth['to']:,}."
        for name, growth in results.get("growth", {}).items()
    ]
    return lines


NOTES = """\
How to read it:

- **floor** is written by hand for these calls: one CLIENT span, 12 attributes in one `set_attributes`, a duration and a
  token histogram. It knows no price, no cache tokens, no attribution and no retries. **floor with 26 attributes** is
  the same with as many attributes as TokenGuard's span has, all of them constants.
- **chat us** and its like are time on the caller's path: wall clock, or, with `--clock thread`, the calling thread's
  CPU, which a busy machine disturbs less. **CPU** is that of the whole process until what the calls queued is exported,
  background threads included: work moved off the caller's path shows there.
- **per chunk** is how much more a stream of 200 chunks costs than one of 8, per chunk: the call's own cost is not in
  it.
- All have OpenTelemetry's SDK with a batch span processor and a periodic metric reader, whose exporters drop what they
  get. The others run as they install, with their default settings.
- anthropic emits a span of its own when a tracer provider is set. It is off (`ANTHROPIC_OPEN_TELEMETRY=false`) for bare
  and floor, has a row of its own, and is as it comes for the rest, TokenGuard included.
- **start ms** is CPU from the start of the process to the end of its first calls, and **RSS MB** its memory then, over
  the bare SDK's: imports that are put off until a call, or hang on another import, are in it.
"""


OTHERS = {
    "floor": "the hand-written span",
    "OpenTelemetry GenAI": "OpenTelemetry's own instrumentation",
    "OpenLLMetry": "OpenLLMetry",
}
"""Who is named beside TokenGuard in the README, where they were measured."""


def summary(results: dict[str, Any]) -> str:
    """The README's lines: what a call and a chunk cost, beside a hand-written span and others."""
    rows, all_figures = results["contenders"], figures(results)
    counts = {name: row["added_instructions"] / 1e3 for name, row in rows.items() if row.get("added_instructions")}
    said = []
    if "tokenguard" in counts and "floor" in counts:
        others = beside({name: f"{count:,.0f}" for name, count in counts.items() if name != "floor"})
        said.append(
            f"- **{counts['tokenguard'] / counts['floor']:.1f} times** the instructions of a hand-written span with 12 "
            f"attributes and three histograms: {counts['tokenguard']:,.0f} thousand per chat call on the caller's "
            f"thread, against {counts['floor']:,.0f}{others}."
        )
    for column, what, unit in (("chat", "per chat call", "us"), ("chunk", "per streamed chunk", "us")):
        mine = all_figures.get("tokenguard", {}).get(column)
        others = beside({name: f"{row[column]['median']:.0f}" for name, row in all_figures.items() if row.get(column)})
        digits = 0 if column == "chat" else 1
        if mine:
            said.append(f"- **{mine['median']:.{digits}f} {unit}** of the caller's thread {what}{others}.")
        else:
            said.append(f"- {what.capitalize()}, less than the clock can tell from noise{others.replace(')', ' us)')}.")
    return "".join(f"{textwrap.fill(line, 128, subsequent_indent='  ')}\n" for line in said)


def beside(values: dict[str, str]) -> str:
    """What the others take, of those that were measured."""
    found = [f"{name} {values[known]}" for known, name in OTHERS.items() if known in values]
    return f" ({', '.join(found)})" if found else ""


def inject(text: str, page: Path, name: str = "bench") -> None:
    """Put a text between the markers of the page, `<!-- name -->` and `<!-- /name -->`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    found = page.read_text()
    if begin not in found or end not in found:
        sys.exit(f"{page.name} has no `{begin.strip()}` ... `{end}`; add both lines where the figures belong.")
    before, _, rest = found.partition(begin)
    page.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")


def write(results: dict[str, Any], *, readme: bool) -> None:
    """Write results.json and results.md, and the figures of docs/benchmarks.md and README.md if asked."""
    (HERE / "results.json").write_text(json.dumps(results, separators=(",", ":")) + "\n")
    table = markdown(results)
    (HERE / "results.md").write_text(f"# What metering a call costs\n\n{table}\n{NOTES}")
    if readme:
        inject(table, PAGE)
        inject(summary(results), README)
    sys.stdout.write(table)


def main(arguments: Sequence[str]) -> None:
    """Render what was measured before."""
    results = json.loads((HERE / "results.json").read_text())
    for clock in ("wall", "thread"):
        if clock in arguments:
            results["clock"] = clock
    write(results, readme="--readme" in arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
