"""`tokenguard prices MODEL`: the rates that would be used, and where they come from."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import click

from tokenguard.cli import shows_colour
from tokenguard.cli.columns import columns
from tokenguard.facts import names
from tokenguard.facts.errors import PolicyError
from tokenguard.policy.find import may_exist
from tokenguard.prices import Card, PriceBook, Rates, Tier
from tokenguard.prices.book import ASSUMED_PROVIDER
from tokenguard.prices.listed import nearest, version
from tokenguard.prices.models import PROVIDERS
from tokenguard.prices.rates import DERIVED, FEMTO_PER_USD, PLACE

LABELS = {
    "input": "input",
    "cache_read": "cached input",
    "cache_write": "cache write",
    "cache_write_30m": "cache write, 30 minutes",
    "cache_write_1h": "cache write, 1 hour",
    "cache_write_12h": "cache write, 12 hours",
    "input_image": "image input",
    "input_audio": "audio input",
    "cache_audio_read": "cached audio input",
    "output": "output",
    "reasoning": "reasoning",
    "output_audio": "audio output",
    "output_image": "image output",
    "web_searches": "web searches, per million",
    "map_searches": "map searches, per million",
    "file_searches": "file searches, per million",
}
"""The rates, in the order in which they are shown."""
EACH = {
    "request": "per call",
    "images": "per picture",
    "input_seconds": "per second of sound that is sent",
    "output_seconds": "per second of film or sound that is made",
    "characters": "per character that is spoken",
    "pages": "per page that is read",
    "annotated_pages": "per page that is annotated",
    "token_hours": "per token that is kept for an hour",
    "megabyte_days": "per megabyte that is kept for a day",
    "trained_tokens": "per token that a model is tuned with",
}
"""The rates of what is no token."""


@click.command()
@click.argument("model", required=False)
@click.option("--check", is_flag=True, help="Say how old the price list is; exit 1 if older than 30 days.")
@click.option(
    "--provider", help="The provider, such as openai, azure.ai.openai or aws.bedrock. Default: the first that has it."
)
@click.option(
    "--tier", type=click.Choice(["batch", "flex", "priority", "fast"]), help="A service tier other than the standard."
)
def prices(model: str | None, check: bool, provider: str | None, tier: str | None) -> None:
    """Show the rates that would be used for MODEL, and where they come from.

    MODEL is a name as a provider knows it, or provider/name. Prices set under [prices] in the policy come first.
    Exits with 1 when no price is known, and with 2 when the policy cannot be used. New prices come with
    `pip install -U genai-prices`; a long-running program can update itself (genai_prices.UpdatePrices).
    """
    if check:
        sys.exit(_check())
    if model is None:
        raise click.UsageError("give a MODEL, or --check")
    try:
        book = _book() if may_exist() else PriceBook()
    except PolicyError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    found = dict(_sellers(book, model, provider, Tier(tier)))
    if not found:
        click.echo(_unknown(model, provider), err=True)
        sys.exit(1)
    seller = min(found, key=lambda name: found[name].basis == names.ASSUMED_MODEL)  # a guess only where nobody knows it
    _show(found.pop(seller), seller, tier, list(found))


def _book() -> PriceBook:
    """By the policy that holds here. Raises `PolicyError`."""
    from tokenguard.policy import load

    policy = load()
    stated = policy.origins.get("prices", "").rpartition(":")[0]  # of several layers, the one that has it
    return PriceBook(policy.prices, origin=f"[prices] of {stated or policy.source or 'the policy'}")


STALE_DAYS = 30


def _check() -> int:
    """Say how old the list is; 1 where it is older than `STALE_DAYS`."""
    PriceBook().warm()
    newest = PriceBook.newest()
    days = None if newest is None else int((time.time() - newest) // 86_400)
    click.echo(f"Prices: {version()}, whose newest price took effect {'?' if days is None else days} days ago.")
    if days is None or days <= STALE_DAYS:
        return 0
    click.echo("Models and prices newer than that are not in it. Update it: pip install -U genai-prices", err=True)
    return 1


def _sellers(book: PriceBook, model: str, provider: str | None, tier: Tier) -> Iterator[tuple[str, Rates]]:
    """Who sells the model, and its rates there, in the order of `PROVIDERS`."""
    places = [(provider, model)] if provider else [(name, model) for name in PROVIDERS]
    if not provider and (named := _named(model)):
        places.insert(0, named)
    seen = set()
    for name, its in places:
        provider_id = PROVIDERS.get(name, name)
        rates = None if provider_id in seen else book.rates(name, its, tier=tier)
        if rates is not None and (provider or rates.basis != ASSUMED_PROVIDER):  # who passes it on does not sell it
            seen.add(provider_id)
            yield name, rates


def _named(model: str) -> tuple[str, str] | None:
    """The provider and the model of `provider/model`; `None` when it starts with no provider's name."""
    provider, slash, name = model.partition("/")
    return (provider.lower(), name) if slash and provider.lower() in {*PROVIDERS, *PROVIDERS.values()} else None


def _show(rates: Rates, seller: str, tier: str | None, others: list[str]) -> None:
    thresholds = [above for above, _ in rates.bands[1:]]
    head = [
        f"above {above:,} input" if above else f"up to {thresholds[0]:,} input" if thresholds else "rate"
        for above, _ in rates.bands
    ]
    colour = shows_colour() and sys.stdout.isatty()
    said = [
        click.style(f"{rates.model} at {seller}" + (f", {tier}" if tier else ""), bold=True),
        "",
        *columns(
            ("USD per million tokens", *head, ""),
            [*_rows(rates)],
            {1: {"bold": True}, len(head) + 1: {"dim": True}},
            line=colour,
        ),
        "",
    ]
    if thresholds:
        said.append("Past the threshold, the higher rates apply to all tokens of the call.")
    if rates.basis:
        said.append(f"Costs are estimated: {rates.basis}.")
    said.append(f"Source: {rates.source}.")
    if others:
        said.append(f"Also priced at {', '.join(others)} (--provider).")
    click.echo("\n".join(said), color=colour)


def _rows(rates: Rates) -> Iterator[tuple[str, ...]]:
    """What a rate is for, what it is up to and past each threshold, and what it is assumed by."""
    card = rates.bands[0][1]
    for name, label in LABELS.items():
        if _tells(rates, name):
            usd = [f"{rates.usd_per_mtok(name, above + 1).normalize():f}" for above, _ in rates.bands]
            yield label, *usd, dict(rates.assumed).get(PLACE[name], "")
    for unit, label in EACH.items():
        if PLACE[unit] not in rates.unlisted and (getattr(card, unit) or unit != "request"):
            usd_each = f"{getattr(card, unit) / FEMTO_PER_USD:.9f}".rstrip("0").rstrip(".")
            yield label, *(usd_each for _ in rates.bands), "USD"


def _tells(rates: Rates, name: str) -> bool:
    """Whether a rate says something that the rate it would be derived from does not."""
    if name in ("input", "output", "cache_read"):
        if PLACE["input"] in rates.unlisted:
            return False  # tokens are not billed
        return not (name == "output" and (Card._fields.index(name), DERIVED[name].basis) in rates.assumed)
    source = DERIVED[name].source
    card = rates.bands[0][1]
    return bool(getattr(card, name) != (0 if source is None else getattr(card, source)))


def _unknown(model: str, provider: str | None) -> str:
    sold, name = (provider, model) if provider else _named(model) or (None, model)
    near = nearest(PROVIDERS.get(sold, sold) if sold else None, name)
    lines = [f'No price is known for "{name}"{f" at {sold}" if sold else ""}; its calls are unpriced.']
    if near:
        lines.append("Nearest known models: " + ", ".join(near))
    lines.append(
        f'To set one, in tokenguard.toml: [prices] "{sold or "provider"}/{name}" = {{ input = 1, output = 4 }}'
    )
    return "\n".join(lines)
