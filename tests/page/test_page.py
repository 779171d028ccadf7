"""The page as HTML: what it says, and that nothing in it can be broken by what callers name things."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from page.conftest import DAY_NS, NASTY, Reader, html_of, page_of, records, write
from tokenguard.cli import group
from tokenguard.facts import names
from tokenguard.facts.record import CallRecord, FaultRecord
from tokenguard.page import charts
from tokenguard.page.advised import advised
from tokenguard.page.answered import answers
from tokenguard.page.document import content_policy, document
from tokenguard.page.gathered import PERIODS, TOP, Series
from tokenguard.page.markup import tag
from tokenguard.page.sections import exactly
from tokenguard.report.budgets import Standing
from tokenguard.report.figures import ask
from tokenguard.report.query import Query
from tokenguard.report.revenue import Earned, Revenue
from tokenguard.report.sources import open_sources
from tokenguard.store import faults

BUDGET = Standing(NASTY, f"tenant={NASTY}", "usd", 10.0, 8.5, 0.0, 0.0, "block", 0, None)
SHOWN = NASTY.replace("\u202e", "?").replace("\x1b", "?")


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("by", ["feature", "tenant", "error", "note"])
def test_names_are_text(nasty, by, live):
    """A name that is an attack is text, wherever it is shown, and the page has our one script and no handler."""
    found = Reader(
        html_of(nasty, by, where=(("tenant", "*"),), budgets=[BUDGET], live=live, period="all" if live else None)
    )
    assert len(found.all("script")) == 1
    assert found.all("img") == []
    assert not [key for _, attributes in found.elements for key in attributes if key.startswith("on")]
    assert not [
        value for _, attributes in found.elements for value in attributes.values() if "javascript:" in str(value)
    ]
    assert SHOWN in found.text
    assert "\u202e" not in found.text
    assert "\x1b" not in found.text


@pytest.mark.parametrize("live", [False, True])
def test_nothing_from_elsewhere(nasty, live):
    """The page asks nobody for anything: no address in it, and a policy that allows only what is in it."""
    html = html_of(nasty, live=live, period="all" if live else None)
    found = Reader(html)
    for _, attributes in found.elements:
        for key in ("src", "href", "action", "formaction", "data"):
            assert not re.match(r"(https?:)?//", attributes.get(key) or "")
        assert "style" not in attributes  # the policy forbids it
    policy = next(each["content"] for each in found.all("meta") if each.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "url(" not in html
    assert "@import" not in html


def test_what_it_says(tmp_path):
    """The cards, the chart's numbers, the table, findings, models, calls: those of the report."""
    path = write(tmp_path / "u.db", records(nasty=False))
    found = Reader(html_of(path))
    opened = open_sources([path]).records
    report = ask(opened, Query())
    opened.close()
    total = report.total.figures
    assert f"${total['cost_usd']:,.2f}" in found.text
    assert "200" in found.words  # calls
    assert f"{total['errors']} errors (4.0%)" in found.text
    for row in report.rows:
        assert (row.keys[0] or "(none)") in found.words
    assert "Put the constant part first" in found.text
    assert "claude-sonnet-4-6" in found.text
    columns = [each for each in found.all("g") if each.get("class") == "column"]
    assert len(columns) in (20, 21)
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in columns)
    panels = {each["id"] for each in found.all("div") if "popover" in each}
    openers = {each["popovertarget"] for each in found.all("button")}
    assert openers == panels
    assert "request.model" in found.text


def test_the_chart_adds_up(tmp_path):
    """The columns are the spend of the report, whatever is in the colours, and each day is one, idle ones too."""
    path = write(tmp_path / "u.db", [record for n, record in enumerate(records(nasty=False)) if n < 5 or n > 150])
    page = page_of(path)
    assert sum(page.series.totals) == pytest.approx(page.report.total.figures["cost_usd"])
    assert sum(page.series.calls) == page.report.total.figures["calls"]
    assert len(page.series.times) in (20, 21)
    assert page.series.totals.count(0.0) > 5


def test_many_keys(tmp_path):
    """Seven keys have a colour, the others are one; just one more than that has its own."""
    many = records(nasty=False)
    for n, record in enumerate(many[:-1]):
        record.attributes["tokenguard.feature"] = f"f{n % 30}"
    page = page_of(write(tmp_path / "u.db", many))
    assert len(page.series.keys) == TOP
    assert sum(page.series.other) > 0
    assert "others" in Reader(html_of(tmp_path / "u.db")).text
    for n, record in enumerate(many[:-1]):
        record.attributes["tokenguard.feature"] = f"f{n % (TOP + 1)}"
    assert len(page_of(write(tmp_path / "v.db", many)).series.keys) == TOP + 1


def test_hours_of_a_short_time(tmp_path):
    """What lasted two days at most is shown by hours, and an hour by minutes, with idle ones before it if need be."""
    page = page_of(write(tmp_path / "u.db", records(days=1, nasty=False)))
    assert 12 <= len(page.series.times) <= 25
    assert page.series.times[0].endswith(":00")
    at = time.time_ns()
    calls = [CallRecord(at - n * 60 * 10**9, 1, "ok", {names.COST: 1.0}) for n in range(3)]
    page = page_of(write(tmp_path / "v.db", calls))
    assert page.series.totals == [0.0] * 9 + [1.0] * 3
    assert page.series.times[-1] == f"{datetime.fromtimestamp(at // 10**9, UTC):%Y-%m-%d %H:%M}"


def test_no_day_before_the_period(tmp_path):
    """The chart has no days that are not of the period."""
    found = records(nasty=False)
    page = page_of(write(tmp_path / "u.db", found), days=6)
    last = max(each.start_ns for each in found if isinstance(each, CallRecord)) // DAY_NS
    first = page.query.since_ns // DAY_NS
    assert page.series.times == [
        f"{datetime.fromtimestamp(day * 86_400, UTC):%Y-%m-%d}" for day in range(first, last + 1)
    ]


def test_what_changed_most(tmp_path):
    """The page names the feature whose cost changed most, and the version of its prompt that did."""
    found = records(days=20, nasty=False)
    for record in found[:-1]:
        record.attributes["tokenguard.feature"] = "rag"
        record.attributes[names.COST] = 9.0 if record.attributes["tokenguard.prompt_version"] == "v2" else 0.1
    path = write(tmp_path / "u.db", found)
    page = page_of(path, days=7)
    assert page.changed is not None
    assert (page.changed.feature, page.changed.cause) == ("rag", "prompt v2")
    assert "What changed most" in Reader(html_of(path, days=7)).text
    assert page_of(path).changed is None


def test_links_keep_what_is_asked(nasty):
    """Each link of a served page changes one thing and keeps the others; a name in it matches itself alone."""
    page = page_of(nasty, "tenant", where=(("feature", "s*"),), live=True, period="30d")
    from tokenguard.page.document import document

    links = [each["href"] for each in Reader(document(page)).all("a")]
    assert {f"?period={name}&by=tenant&where=feature%3Ds%2A" for name in PERIODS} <= set(links)
    assert "?period=30d&by=tenant&where=feature%3Ds%2A&where=tenant%3Dacme" in links
    assert "?period=30d&by=tenant" in links  # the filter taken away
    opened = open_sources([nasty]).records
    for row in ask(opened, Query(by=("tenant",))).rows:
        only = ask(opened, Query(by=("tenant",), where=(("tenant", exactly(row.keys[0])),)))
        assert [each.keys for each in only.rows] == [row.keys]
    opened.close()


def test_no_calls(tmp_path):
    """A page of nothing says so."""
    path = write(tmp_path / "u.db", [])
    assert "No call that matches is recorded" in Reader(html_of(path)).text


def test_a_file_to_mail(nasty, tmp_path):
    """`report --format html` is one file, with what was asked at its head."""
    done = CliRunner().invoke(
        group, ["report", "--format", "html", "--source", str(nasty), "--where", "tenant=acme", "--by", "model"]
    )
    assert done.exit_code == 0, done.output
    assert done.output.startswith('<!doctype html>\n<html lang="en">')
    found = Reader(done.output)
    assert "by model, tenant = acme" in found.text
    assert len(done.output) < 300_000
    assert not found.all("a")


@pytest.mark.parametrize(("most", "top"), [(106.0, 120.0), (0.0421, 0.05), (9.99, 10.0), (1.0, 1.0), (0.0, 1.0)])
def test_the_top_of_an_axis(most, top):
    """The axis ends at a round number, not far above the highest column."""
    assert charts.nice(most) == pytest.approx(top)


def test_markup():
    """Text and attributes are escaped, whatever is in them; what is left out leaves nothing."""
    assert tag("p", "<&>\"'", title='"><script>') == '<p title="&quot;&gt;&lt;script&gt;">&lt;&amp;&gt;&quot;&#x27;</p>'
    assert tag("p", None, [tag("b"), ["x"]], hidden=False, lang=None) == "<p><b></b>x</p>"
    assert tag("rect", x=0.5, y=2) == '<rect x="0.5" y="2"/>'


def test_a_chart_of_nothing():
    """A series without money is drawn, and is empty."""
    drawn = charts.spend(Series(["2026-11-01"], ["rag"], {"rag": [0.0]}, [0.0], [3]))
    assert "2026-11-01: $0.00 in 3 calls" in drawn
    assert 'class="c0"' not in drawn


def test_the_policy_of_the_page_is_of_its_own_files():
    """The hashes are those of the style and the script that are in the page."""
    assert content_policy(live=True).count("sha256-") == 2
    assert "connect-src 'self'" in content_policy(live=True)
    assert "connect-src" not in content_policy(live=False)


def test_budgets_on_the_page(nasty):
    """A budget shows how much of it is used, and when it runs out at this rate."""
    now = 86_400 * 20_000
    day = Standing(
        "tenant per day", "tenant=acme", "usd", 10.0, 8.5, 0.5, 0.0, "block", now - 3600 * 6, now + 3600 * 18
    )
    page = page_of(nasty, budgets=[day])
    from tokenguard.page.sections import budgets

    shown = Reader(budgets(replace(page, now=page.now.fromtimestamp(now, page.now.tzinfo))))
    assert "90%" in shown.text
    assert "$1.00" in shown.text
    assert "near" in {each.get("class") for each in shown.all("rect")}


def test_a_budget_of_calls_says_so(nasty):
    """What is no money has its unit beside it."""
    from tokenguard.page.sections import budgets

    rate = Standing("rate", "tenant=acme", "calls", 60, 48, 2, 0, "block", 0, 60)
    shown = Reader(budgets(page_of(nasty, budgets=[rate]))).text
    assert "60 calls" in shown
    assert "10 calls" in shown


def test_answers_that_were_kept(tmp_path):
    """Each rule has its calls, how many were served, what was saved, and why the others were sent."""
    now = time.time_ns()
    told = [
        ("faq", names.HIT, None, 0.0, 0.02, 6),
        ("faq", names.MISS, None, 0.01, None, 3),
        ("faq", names.SKIP, "sampled", 0.01, None, 1),
        ("watched", names.HIT, names.OBSERVED, 0.01, 0.01, 2),
        (NASTY, names.SHARED, None, 0.0, 0.5, 1),
    ]
    found = [
        CallRecord(
            now - DAY_NS,
            1,
            "ok",
            {
                names.COST: cost,
                names.COST_STATUS: "exact",
                names.CACHE_RULE: rule,
                names.CACHE_RESULT: result,
                **({} if reason is None else {names.CACHE_REASON: reason}),
                **({} if saved is None else {names.CACHE_SAVED: saved}),
            },
            f"{n:032x}",
            f"{row:08x}{n:08x}",
        )
        for row, (rule, result, reason, cost, saved, count) in enumerate(told)
        for n in range(count)
    ]
    page = page_of(write(tmp_path / "usage.db", found))
    rows = [Reader(row).words for row in re.findall("<tr>.*?</tr>", answers(page) or "", re.DOTALL)]
    assert ["faq", "10", "6", "60%", "3", "1", "$0.0400", "$0.1200"] in [
        [w for w in row if w != "60% served"] for row in rows
    ]
    assert ["watched", "2", "0", "0%", "0", "0", "$0.0200", "-"] in [
        [w for w in row if w != "0% served"] for row in rows
    ]
    assert [
        "faq",
        "skip",
        "its temperature is not 0, and the rule does not say sampled = true",
        "1",
        "$0.0100",
        "-",
    ] in rows
    assert "<script>document.title='taken'" not in document(page)


def test_no_answers_kept_no_part_of_the_page(nasty):
    """Where no rule keeps or shares answers, the page says nothing of it."""
    assert answers(page_of(nasty)) is None


def test_what_was_missed_is_said_first(tmp_path):
    """Calls that went out past the policy are said at the head of the page, whether any were recorded or not."""
    fault = FaultRecord("unguarded", time.time_ns(), 3, f"guarding a call failed ({NASTY})")
    for found in ([fault], [*records(), fault]):
        path = write(tmp_path / f"{len(found)}.db", found)
        page = html_of(path, faults=faults.read(path))
        assert "3 calls went out past the policy" in Reader(page).text
        assert page.index("missed something") < (page + 'class="cards"').index('class="cards"')
        assert NASTY not in page
        assert "missed something" not in html_of(path)


def test_what_would_save(tmp_path):
    """The page has what a policy would have saved, step by step, and what each step assumes."""
    found = records(nasty=False)
    same = {names.REQUEST_HASH: "same", names.REQUEST_TEMPERATURE: 0.0, names.FINISH_REASONS: ("stop",)}
    for n, record in enumerate(found[:-1]):
        record.start_ns = time.time_ns() - n * 10**9
        record.attributes |= {**same, "tokenguard.feature": "faq"}
    path = write(tmp_path / "u.db", found)
    opened = open_sources([path]).records
    sections = advised(opened, Query())
    opened.close()
    assert "What would save, replayed on the last 200 calls" in Reader(sections[0]).text
    assert "answered from a cache" in Reader(sections[0]).text
    assert {"saved", "c0", "empty"} <= {each.get("class") for each in Reader(sections[0]).all("rect")}
    assert "What would save" in Reader(html_of(path, later=sections)).text


def test_margins(tmp_path):
    """With what tenants pay, the table by tenant has revenue and margin; one without revenue has none."""
    path = write(tmp_path / "u.db", records(nasty=False))
    paid = Revenue(tmp_path / "revenue.csv", [Earned("acme", 100.0)])
    page = page_of(path, "tenant", paid=paid)
    figures = {row.keys[0]: row.figures for row in page.report.rows}
    assert figures["acme"]["margin_usd"] == pytest.approx(100.0 - figures["acme"]["cost_usd"])
    found = Reader(document(page))
    assert {"revenue", "margin", "$100.00"} <= set(found.words)
    assert "margin" not in Reader(html_of(path, "feature", paid=paid)).words
