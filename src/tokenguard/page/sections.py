"""The parts of the page, from top to bottom."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any
from urllib.parse import urlencode

from tokenguard.page import charts
from tokenguard.page.gathered import LOOKED_AT, PERIODS, Page, choices
from tokenguard.page.markup import Markup, joined, tag
from tokenguard.report.figures import Row, many
from tokenguard.report.inputs import WORDS, uncached
from tokenguard.report.labels import NO_VALUE, missed, when
from tokenguard.report.numbers import (
    UNKNOWN,
    change,
    changes,
    durations,
    plain,
    seconds,
    share,
    shares,
    signed_shares,
    token_counts,
    tokens,
    usd,
    usds,
)

CHANGE = 4
"""The place of the change in the table of groups."""
SHORT_PERIODS = {"24h": "24 hours", "7d": "7 days", "30d": "30 days", "month": "this month", "all": "all"}


def link(page: Page, **changed: Any) -> str:
    """The address of the page with something else asked; relative, so that it stays where it is served."""
    state: dict[str, Any] = {
        "period": page.period or "all",
        "by": page.by,
        "where": [f"{key}={glob}" for key, glob in page.query.where],
    }
    return "?" + urlencode({**state, **changed}, doseq=True)


def exactly(value: str | None) -> str:
    """The glob that matches one value and no other; none is the empty one."""
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in value or "")


def faults(page: Page) -> Markup | None:
    """What TokenGuard itself has missed: the figures below do not hold it."""
    if not page.faults:
        return None
    return tag(
        "section", tag("ul", *(tag("li", missed(fault)) for fault in page.faults)), class_="faults", role="alert"
    )


def header(page: Page) -> Markup:
    """Whose records, of when, by what, and what is left out."""
    report = page.report
    span = f"{when(report.first_ns)} to {when(report.last_ns)} UTC"
    title = tag("div", tag("h1", "TokenGuard"), tag("p", f"{page.source} · {span}", class_="dim"), class_="title")
    if not page.live:
        asked = [f"{key} = {glob}" for key, glob in page.query.where]
        return tag("header", title, tag("p", ", ".join([f"by {page.by}", *asked]), class_="asked"))
    periods = [
        tag(
            "a", SHORT_PERIODS[name], href=link(page, period=name), aria_current="true" if name == page.period else None
        )
        for name in PERIODS
    ]
    keys = [page.by] if page.by not in choices() else []
    options = [tag("option", key, value=key, selected=key == page.by) for key in [*keys, *choices()]]
    filters = [
        tag(
            "a",
            f"{key} = {glob or NO_VALUE} ",
            tag("span", "\N{MULTIPLICATION SIGN}", aria_hidden="true"),
            href=link(page, where=[f"{k}={g}" for k, g in page.query.where if (k, g) != (key, glob)]),
            class_="filter",
            aria_label=f"remove the filter {key} = {glob}",
        )
        for key, glob in page.query.where
    ]
    hidden = [tag("input", type="hidden", name="period", value=page.period or "all")]
    hidden += [tag("input", type="hidden", name="where", value=f"{key}={glob}") for key, glob in page.query.where]
    form = tag(
        "form",
        *hidden,
        tag("label", "by ", tag("select", *options, name="by")),
        tag("label", "only ", tag("input", name="where", placeholder="tenant=acme*", size=14, autocomplete="off")),
        tag("button", "Show"),
        class_="ask",
    )
    live = tag("p", tag("span", class_="dot", aria_hidden="true"), "live", class_="live", role="status")
    return tag("header", title, live, tag("nav", *periods, aria_label="period"), form, *filters)


def cards(page: Page) -> Markup:
    """The few figures that are looked for first."""
    total = page.report.total.figures
    changed = page.report.total.figure("change")
    error_share = total["errors"] / total["calls"] if total["calls"] else None
    said = [
        _card("Spent", usd(total["cost_usd"]), _versus(changed), tone=_tone(changed)),
        _forecast(page),
        _card(
            "Calls",
            f"{total['calls']:,}",
            f"{many(total['errors'], 'error')} ({share(error_share)})"
            + (f", {total['blocked']:,} blocked" if total["blocked"] else ""),
            tone="bad" if error_share and error_share > 0.05 else "",
        ),
        _card(
            "Cache hit",
            share(total["cache_hit_share"]),
            UNKNOWN if total["saved_usd"] is None else f"{usd(total['saved_usd'])} saved",
            tone="good" if (total["saved_usd"] or 0) > 0 else "",
        ),
        _card(
            "Latency p95",
            seconds(total["latency_p95_s"]),
            f"p50 {seconds(total['latency_p50_s'])}"
            + ("" if total["first_chunk_p50_s"] is None else f", first chunk {seconds(total['first_chunk_p50_s'])}"),
        ),
        _success(page),
    ]
    return tag("section", *said, class_="cards", aria_label="figures")


def _card(title: str, value: str, more: str, tone: str = "") -> Markup:
    return tag(
        "div",
        tag("h2", title),
        tag("p", value, class_="value"),
        tag("p", more, class_=f"more {tone}".strip()),
        class_="card",
    )


def _versus(changed: tuple[float, float] | None) -> str:
    return "no period before to compare" if changed is None else f"{change(*changed)} against the period before"


def _tone(changed: tuple[float, float] | None) -> str:
    return "" if changed is None or abs(changed[0]) < 0.005 else "bad" if changed[0] > 0 else "good"


def _forecast(page: Page) -> Markup:
    going = page.trend
    if going is None:
        return _card("Month's end", UNKNOWN, "no calls this month")
    if going.forecast_usd is None:
        return _card("This month", usd(going.month_usd), "too few days for a forecast")
    return _card(
        "Month's end", usd(going.forecast_usd), f"{usd(going.month_usd)} so far, {usd(going.per_day_usd)} a day"
    )


def _success(page: Page) -> Markup:
    ended = [task for task in page.report.tasks if task.succeeded]
    if not ended:
        total = page.report.total.figures
        return _card(
            "Per 1,000 calls",
            usd(total["cost_per_1000_calls_usd"]),
            f"{tokens(total['tokens_per_call'])} tokens a call",
        )
    task = ended[0]
    rate = (task.succeeded or 0) / ((task.succeeded or 0) + (task.failed or 0))
    return _card("Cost per success", usd(task.cost_per_success_usd), f"{task.task}, {share(rate)} succeed")


def sentence(page: Page) -> Markup | None:
    """What changed most, in one sentence."""
    found = page.changed
    if found is None or abs(found.usd) < 0.005:
        return None
    name = found.feature or "what has no feature"
    way = "more" if found.usd > 0 else "less"
    cause = f", {found.cause}" if found.cause else ""
    return tag(
        "p",
        "What changed most: ",
        tag("strong", f"{name} costs {usd(abs(found.usd))} {way}"),
        f" than in the period before{cause}.",
        class_="sentence",
    )


def over_time(page: Page) -> Markup:
    """Spend over time, and the same numbers as a table."""
    series = page.series
    heads = ["time", *(NO_VALUE if key is None else key for key in series.keys), "others", "total", "calls"]
    columns = [usds(series.usd[key]) for key in series.keys]
    rows = zip(series.times, *columns, usds(series.other), usds(series.totals), plain(series.calls), strict=True)
    numbers = tag("details", tag("summary", "The numbers"), table(heads, rows))
    return tag(
        "section", tag("h2", f"Spend by {page.by}"), charts.legend(series), charts.spend(series), numbers, class_="wide"
    )


def by_key(page: Page) -> Markup:
    """The table of the groups; each leads to itself."""
    report = page.report
    colors = {key: f"c{n}" for n, key in enumerate(page.series.keys)}
    rows = list(report.rows)
    figures = [row.figures for row in rows]

    def column(name: str) -> list[Any]:
        return [each[name] for each in figures]

    cells: Iterable[tuple[str, ...]] = zip(
        (_key(page, row, colors) for row in rows),
        usds(column("cost_usd")),
        (
            charts.bar(part, colors.get(row.keys[0], "c-other"))
            for part, row in zip(column("cost_share"), rows, strict=True)
        ),
        shares(column("cost_share")),
        changes([row.figure("change") for row in rows]),
        plain(column("calls")),
        token_counts(column("tokens_per_call")),
        shares(column("cache_hit_share")),
        plain(column("errors")),
        durations(column("latency_p95_s")),
        (charts.spark(page.series.usd.get(row.keys[0], []), colors.get(row.keys[0], "c-other")) for row in rows),
        strict=True,
    )
    heads = [page.by, "cost", "", "share", "change", "calls", "tokens/call", "cache hit", "errors", "p95", "trend"]
    if page.report.total.figure("change") is None:
        heads.remove("change")
        cells = ((*cell[:CHANGE], *cell[CHANGE + 1 :]) for cell in cells)
    if "revenue_usd" in report.total.figures:
        heads += ["revenue", "margin", "of it"]
        earned = zip(
            usds(column("revenue_usd")), usds(column("margin_usd")), signed_shares(column("margin_share")), strict=True
        )
        cells = ((*cell, *more) for cell, more in zip(cells, earned, strict=True))
    more = f"and {report.more:,} more ({usd(report.more_usd)}), which the total counts" if report.more else None
    return tag(
        "section", tag("h2", f"By {page.by}"), table(heads, cells), more and tag("p", more, class_="dim"), class_="wide"
    )


def _key(page: Page, row: Row, colors: dict[str | None, str]) -> Markup:
    value = row.keys[0]
    name = NO_VALUE if value is None else value
    color = charts.swatch(colors.get(value, "c-other"))
    if not page.live:
        return joined(color, name)
    chosen = [f"{key}={glob}" for key, glob in page.query.where if key != page.by]
    return joined(color, tag("a", name, href=link(page, where=[*chosen, f"{page.by}={exactly(value)}"])))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: Collection[int] = ()) -> Markup:
    """A table whose first column is names; on a narrow screen it scrolls in its own frame.

    `texts` are the columns, besides the first, that are no numbers.
    """

    def column(n: int) -> str | None:
        return "text" if n in texts else None

    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, class_=column(n)) for n, cell in enumerate(row) if n),
        )
        for row in rows
    ]
    head = [tag("th", title, scope="col", class_=column(n)) for n, title in enumerate(heads)]
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", whole, class_="scroll", tabindex=0)


def findings(page: Page) -> Markup:
    """What to do, the dearest first."""
    items = [
        tag(
            "li",
            tag(
                "p",
                tag("strong", usd(found.usd)) if found.usd else None,
                f" {found.usd_is}" if found.usd else None,
                class_="sum",
            ),
            tag("p", f"{found.says}."),
            tag("p", f"{found.next_step[0].upper()}{found.next_step[1:]}.", class_="next"),
        )
        for found in page.findings
    ]
    nothing = tag("p", "Nothing stands out in this period.", class_="dim")
    return tag("section", tag("h2", "What to do"), tag("ol", *items, class_="findings") if items else nothing)


def models(page: Page) -> Markup:
    """The mix of models: what each costs a million tokens as it is used, and those without a price."""
    rows = page.models.rows
    figures = [row.figures for row in rows]
    rates = [
        None
        if not (count := (each["input_tokens"] or 0) + (each["output_tokens"] or 0)) or each["cost_usd"] is None
        else each["cost_usd"] / count * 1e6
        for each in figures
    ]
    cells = zip(
        (joined(charts.swatch(f"c{n}"), row.keys[0] or NO_VALUE) for n, row in enumerate(rows)),
        usds([each["cost_usd"] for each in figures]),
        shares([each["cost_share"] for each in figures]),
        plain([each["calls"] for each in figures]),
        usds(rates),
        durations([each["latency_p95_s"] for each in figures]),
        strict=True,
    )
    mix = charts.parts([(f"c{n}", each["cost_usd"] or 0.0) for n, each in enumerate(figures)])
    unpriced = [
        tag("p", f"No price is known for {model}: {many(calls, 'call')} are not in the cost.", class_="bad")
        for model, calls in page.report.unpriced[:3]
    ]
    return tag(
        "section",
        tag("h2", "Models"),
        mix,
        table(["model", "cost", "share", "calls", "$/M tokens", "p95"], cells),
        *unpriced,
    )


def inputs(page: Page) -> Markup | None:
    """What the requests were made of, section by section, and what the provider's cache had of each."""
    found = page.inputs
    if not found:
        return None
    cells = zip(
        (joined(charts.swatch(f"c{n}"), WORDS[part.name]) for n, part in enumerate(found)),
        shares([part.share for part in found]),
        token_counts([part.tokens for part in found]),
        shares([None if part.cached_tokens is None else part.cached_tokens / part.tokens for part in found]),
        usds([part.usd for part in found]),
        strict=True,
    )
    said = uncached(list(found))
    calls = page.report.total.figures["calls"]
    among = f", of the last {many(LOOKED_AT, 'call')}" if calls > LOOKED_AT else ""
    return tag(
        "section",
        tag("h2", f"Where the input goes{among}"),
        charts.parts([(f"c{n}", part.share) for n, part in enumerate(found)]),
        table(["section", "share", "tokens", "cached", "cost"], cells),
        tag("p", said, class_="next") if said else None,
    )


def budgets(page: Page) -> Markup | None:
    """How budgets stand."""
    if not page.budgets:
        return None
    now = page.now.timestamp()
    rows = []
    for each in page.budgets[:12]:
        out = each.runs_out(now)
        amount = usd if each.unit == "usd" else lambda count, unit=each.unit: f"{tokens(count)} {unit}"
        ends = (
            "unused"
            if each.window_start is None
            else "never ends"
            if each.window_end is None
            else f"until {when(each.window_end * 10**9)}"
        )
        rows.append(
            (
                joined(each.budget, tag("span", f" {each.key}", class_="dim") if each.key else None),
                share(each.used_share),
                charts.used(each.used_share),
                amount(each.limit),
                amount(each.remaining),
                ends,
                "" if out is None else when(int(out) * 10**9),
            )
        )
    heads = ["budget", "used", "", "limit", "left", "window", "runs out"]
    return tag("section", tag("h2", "Budgets"), table(heads, rows, (5, 6)))


def footer(page: Page) -> Markup:
    """How much of the cost is exact, and where all this comes from."""
    total = page.report.total.figures
    priced = total["calls"] - total["unpriced_calls"]
    exact = 1.0 - (total["estimated_share"] or 0.0)
    said = [
        f"{share(exact)} of the cost is exact, {share(total['estimated_share'] or 0.0)} estimated",
        f"{priced:,} of {many(total['calls'], 'call')} are priced",
        "latencies are within 5 %, from daily sums" if page.report.summed else "",
        f"made {page.now:%Y-%m-%d %H:%M} UTC",
        "all times are UTC; nothing left this machine",
    ]
    return tag("footer", tag("p", " · ".join(filter(None, said))))
