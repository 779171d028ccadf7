"""The runbooks as a dashboard, so that an alert's link leads somewhere wherever the dashboards are."""

from __future__ import annotations

from pathlib import Path

from panels import Board, text

PAGES = {
    page.stem: page.read_text(encoding="utf-8") for page in sorted((Path(__file__).parent / "runbooks").glob("*.md"))
}
UID = "tokenguard-runbooks"


def number(alert: str) -> int:
    """The panel with an alert's page."""
    return list(PAGES).index(alert) + 1


def linked(page: str) -> str:
    """A page without its title, its links leading to panels instead of files."""
    body = page.split("\n", 1)[1].strip()
    for name in PAGES:
        body = body.replace(f"({name}.md)", f"(/d/{UID}/{name}?viewPanel={number(name)})")
    return body


RUNBOOKS = Board(
    UID,
    "TokenGuard / Runbooks",
    "What each alert means, what to look at and what to do.",
    [text(page.split("\n", 1)[0].removeprefix("# "), linked(page), width=12, height=14) for page in PAGES.values()],
)
