"""The page as one file: its style and its script are in it, and nothing from elsewhere is allowed in."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path

from tokenguard.page import answered, records, sections
from tokenguard.page.gathered import Page
from tokenguard.page.markup import Markup, joined, tag

HERE = Path(__file__).parent


@cache
def asset(name: str) -> Markup:
    """A file of ours, as it goes into the page."""
    return Markup((HERE / name).read_text(encoding="utf-8"))


@cache
def content_policy(*, live: bool) -> str:
    """What a browser may load: the style and the script that are in the page, by their hashes; nothing else.

    https://www.w3.org/TR/CSP3/
    """
    style, script = (f"'sha256-{_hash(asset(name))}'" for name in ("page.css", "page.js"))
    says = ["default-src 'none'", f"style-src {style}", f"script-src {script}", "base-uri 'none'", "img-src data:"]
    return "; ".join([*says, *(["connect-src 'self'", "form-action 'self'"] if live else ["form-action 'none'"])])


def _hash(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


def main(page: Page) -> Markup:
    """What changes when the records do."""
    if not page.report.total.figures["calls"]:
        nothing = tag(
            "p", "No call that matches is recorded. A program that runs under TokenGuard shows here.", class_="nothing"
        )
        return tag("main", sections.header(page), sections.faults(page), nothing)
    return tag(
        "main",
        sections.header(page),
        sections.faults(page),
        sections.cards(page),
        sections.sentence(page),
        sections.over_time(page),
        sections.by_key(page),
        tag(
            "div",
            sections.findings(page),
            tag("div", sections.models(page), sections.inputs(page), sections.budgets(page)),
            class_="two",
        ),
        answered.answers(page),
        tag("div", id="later", class_="later") if page.live else [Markup(section) for section in page.later],
        records.single_calls(page),
        sections.footer(page),
        data_live="true" if page.live else None,
    )


def document(page: Page) -> str:
    """The whole page as HTML."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=content_policy(live=page.live)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("link", rel="icon", href="data:,"),
        tag("title", f"LLM spend, {page.source}"),
        tag("style", asset("page.css")),
    )
    body = tag("body", main(page), tag("script", asset("page.js")))
    return joined(Markup("<!doctype html>\n"), tag("html", head, body, lang="en"), "") + "\n"
