"""`tokenguard reconcile` against simulated billing APIs: each kind of difference is found and named."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta

import jsonschema
import pytest
from click.testing import CliRunner

from tokenguard import cli
from tokenguard.cli import reconcile
from tokenguard.cli.schemas import published
from tokenguard.demo.exchange import Received
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.facts import names
from tokenguard.facts.errors import TokenGuardError
from tokenguard.facts.record import COST_ATTRIBUTES, USAGE_ATTRIBUTES, CallRecord
from tokenguard.facts.usage import Usage
from tokenguard.invoice.lines import bare
from tokenguard.prices import PriceBook
from tokenguard.store.store import Store

OPENAI, CLAUDE = "gpt-4o-mini-2024-07-18", "claude-haiku-4-5-20251001"
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
USE = Usage(input=40_000_000, output=2_000_000, cache_read=10_000_000, cache_write=0)


@pytest.fixture
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def world(provider, tmp_path, monkeypatch):
    """A store and the provider's books with the same calls, four days of them, the last one yesterday."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENGUARD_STORE", str(tmp_path / "usage.db"))
    monkeypatch.setenv("OPENAI_ADMIN_BASE_URL", provider.openai_url)
    monkeypatch.setenv("ANTHROPIC_ADMIN_BASE_URL", provider.url)
    monkeypatch.setenv("OPENROUTER_BASE_URL", provider.url)
    return World(provider, tmp_path)


class World:
    def __init__(self, provider, folder):
        self.provider = provider
        self.folder = folder

    def call(self, model, days_ago=1, usage=USE, *, measured=True, billed=True, sent=None, **changes):
        """One call on both sides, or on one."""
        at = NOON - timedelta(days=days_ago)
        maker = "anthropic" if model.startswith("claude") else "openai"
        cost = PriceBook().cost(maker, model, usage, at_ns=int(at.timestamp() * 1e9))
        if billed:
            self.provider.requests.append(
                Received("/v1", "chat", sent or {}, {"model": model}, at.timestamp(), 200, usage, True)
            )
        if not measured:
            return
        attributes = {names.OPERATION: "chat", names.PROVIDER: maker, names.RESPONSE_MODEL: model}
        attributes |= {name: getattr(usage, field) for field, name in USAGE_ATTRIBUTES.items()}
        attributes |= {name: part for name, part in zip(COST_ATTRIBUTES, cost, strict=True) if part is not None}
        attributes |= changes
        attributes = {name: value for name, value in attributes.items() if value is not None}
        store = Store(str(self.folder / "usage.db"), 0)
        store.write([CallRecord(int(at.timestamp() * 1e9), 10**9, "ok", attributes)])
        store.close()

    def ask(self, monkeypatch, *arguments, keys=("OPENAI_ADMIN_KEY",)):
        for key in keys:
            monkeypatch.setenv(key, "sk-admin-simulated")
        done = CliRunner().invoke(cli.group, ["reconcile", "--since", "10d", *arguments], env={"COLUMNS": "160"})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    def facts(self, monkeypatch, *arguments, **more):
        found = json.loads(self.ask(monkeypatch, *arguments, "--format", "json", **more))
        jsonschema.validate(found, published("reconcile"))
        kinds = {part["kind"]: part["usd"] for part in found["difference"]}
        assert sum(kinds.values()) == pytest.approx(found["billed_usd"] - found["measured_usd"], abs=1e-6)
        return found, kinds


ONE = 30 * 0.15 + 10 * 0.075 + 2 * 0.60
"""USD of one call to OpenAI: 30 M plain and 10 M cached input tokens, 2 M output."""


def test_a_bill_that_agrees(world, monkeypatch):
    """Every day and model agree: nothing but rounding, which is none here."""
    for day in (1, 2, 3, 9):
        world.call(OPENAI, day)
    found, kinds = world.facts(monkeypatch)
    assert (found["billed_usd"], found["measured_usd"]) == (pytest.approx(4 * ONE), pytest.approx(4 * ONE))
    assert [kind for kind, usd in kinds.items() if abs(usd) > 1e-6] == []


@pytest.mark.parametrize("reader", ["openai", "anthropic", "anthropic-legacy"])
def test_each_injected_difference_is_found_and_named(world, monkeypatch, reader):
    """A call without TokenGuard, a new price, a credit and a hosted tool, in one bill, over each API's pages."""
    whose, model, key = {
        "openai": ("openai", OPENAI, "OPENAI_ADMIN_KEY"),
    }.get(reader, ("anthropic", CLAUDE, "ANTHROPIC_ADMIN_KEY"))
    other = "gpt-4.1-mini-2025-04-14" if whose == "openai" else "claude-sonnet-4-5-20250929"
    for day in (1, 2, 3):
        world.call(model, day)
        world.call(other, day)
    ones = PriceBook().cost(whose, other, USE).total
    world.provider.invoice.more.append((model, Usage(input=8_000_000, output=0)))
    world.provider.invoice.factors[other] = 1.25
    world.provider.invoice.credits[whose] = -5.0
    world.provider.invoice.tools[whose] = 2.5
    found, kinds = world.facts(monkeypatch, "--from", reader, keys=(key,))
    rate = 0.15 if whose == "openai" else 1.0
    assert kinds["not covered"] == pytest.approx(8 * rate)
    assert kinds["price"] == pytest.approx(3 * ones * 0.25)
    assert kinds["credit"] == pytest.approx(-5.0)
    assert kinds["hosted tools"] == pytest.approx(2.5)
    assert abs(kinds.get("rounding", 0)) < 0.01
    factors = {each["model"]: each["billed_over_measured"] for each in found["factors"]}
    assert factors[bare(other)] == pytest.approx(1.25)
    says = [part["says"] for cell in found["cells"] for part in cell["parts"] if part["kind"] == "not covered"]
    assert says == ["8,000,000 tokens more than measured"]


def test_what_only_one_side_has(world, monkeypatch):
    """A model that nobody measured, a call that is on no bill, a call without a price, an estimate that was off."""
    world.call(OPENAI, 1)
    world.call("gpt-4.1-mini-2025-04-14", 1, measured=False)
    world.call("gpt-4.1-nano-2025-04-14", 2, billed=False)
    unpriced = dict.fromkeys((names.COST, names.COST_INPUT, names.COST_OUTPUT, names.COST_CACHE_READ), None)
    world.call("gpt-4.1-2025-04-14", 3, **unpriced, **{names.COST_STATUS: names.UNPRICED})
    world.call("gpt-4o-2024-08-06", 3, **{names.COST: 90.0, names.COST_STATUS: names.ESTIMATED})
    _, kinds = world.facts(monkeypatch)
    book = PriceBook()
    assert kinds["not covered"] == pytest.approx(book.cost("openai", "gpt-4.1-mini", USE).total)
    assert kinds["not billed"] == pytest.approx(-book.cost("openai", "gpt-4.1-nano", USE).total)
    assert kinds["unpriced"] == pytest.approx(book.cost("openai", "gpt-4.1", USE).total)
    assert kinds["estimated"] == pytest.approx(book.cost("openai", "gpt-4o", USE).total - 90)


def test_other_projects_are_others(world, monkeypatch):
    """With `[reconcile.projects]`, what is billed to a project that it does not name is no difference of ours."""
    world.call(OPENAI, 1, measured=False)
    (world.folder / "tokenguard.toml").write_text('[reconcile.projects]\nproj_other = "search"\n')
    _, kinds = world.facts(monkeypatch)
    assert kinds == {"other keys": pytest.approx(ONE)}
    (world.folder / "tokenguard.toml").write_text('[reconcile]\nproject = "x"\n')
    with pytest.raises(TokenGuardError, match="there is no such key"):
        world.ask(monkeypatch)


@pytest.mark.parametrize("by", ["project", "key"])
def test_by_project_and_by_key(world, monkeypatch, by):
    """The policy says whose calls are a project's or a key's: each is compared with its own; another is another's."""
    table = {"project": "projects", "key": "keys"}[by]
    ids = {"project": ("proj_chat", "proj_docs"), "key": ("key_chat-key", "key_docs-key")}[by]
    rows = f'{ids[0]} = {{ feature = "chat-*" }}\n"{ids[1]}" = {{ feature = "docs" }}\n'
    (world.folder / "tokenguard.toml").write_text(f"[reconcile.{table}]\n{rows}")
    sent = {
        name: {"openai-project": f"proj_{name}", "authorization": f"Bearer sk-{name}-key"}
        for name in ("chat", "docs", "none")
    }
    world.call(OPENAI, 1, sent=sent["chat"], **{"tokenguard.feature": "chat-web"})
    world.call(OPENAI, 1, sent=sent["docs"], **{"tokenguard.feature": "docs"})
    world.call(OPENAI, 2, sent=sent["docs"], measured=False)
    world.call(OPENAI, 2, sent=sent["none"], measured=False)
    found, kinds = world.facts(monkeypatch, "--by", f"{by},day")
    assert kinds == {"not covered": pytest.approx(ONE), "other keys": pytest.approx(ONE)}
    sums = {}
    for cell in found["cells"]:
        both = sums.setdefault(cell["account"], [0.0, 0.0])
        both[0] += cell["billed_usd"]
        both[1] += cell["measured_usd"]
    assert sums == {
        f"{ids[0]} feature=chat-*": pytest.approx([ONE, ONE]),
        f"{ids[1]} feature=docs": pytest.approx([2 * ONE, ONE]),
        "(others)": pytest.approx([ONE, 0]),
    }
    assert ids[0] in world.ask(monkeypatch, "--by", by)


def test_by_account_says_what_cannot_be(world, monkeypatch):
    """Two accounts at once, a table that is none, a bill that tells no keys: said with the next step."""
    with pytest.raises(TokenGuardError, match="Ask twice"):
        world.ask(monkeypatch, "--by", "project,key")
    with pytest.raises(TokenGuardError, match="not told by key"):
        world.ask(monkeypatch, "--by", "key", "--from", "openrouter", keys=("OPENROUTER_MANAGEMENT_KEY",))
    (world.folder / "tokenguard.toml").write_text("[reconcile.projects]\na = { colour = 'red' }\n")
    with pytest.raises(TokenGuardError, match="no such attribution"):
        world.ask(monkeypatch, "--by", "project")


def test_the_report_shows_the_cost_as_billed_where_it_is_asked_to(world, monkeypatch):
    """By the factors of a reconciliation, beside the measured cost, with their origin; without being asked, never."""
    world.call(OPENAI, 1, **{"tokenguard.feature": "dear"})
    world.call("gpt-4.1-nano-2025-04-14", 1, **{"tokenguard.feature": "plain"})
    world.provider.invoice.factors[OPENAI] = 1.25
    bill = world.folder / "bill.json"
    bill.write_text(world.ask(monkeypatch, "--format", "json"))

    def report(*arguments):
        done = CliRunner().invoke(cli.group, ["report", *arguments], env={"COLUMNS": "160"})
        assert done.exit_code == 0, done.output
        return done

    found = json.loads(report("--format", "json", "--billed", str(bill)).stdout)
    rows = {row["keys"]["feature"]: row for row in found["rows"]}
    assert rows["dear"]["as_billed_usd"] == pytest.approx(1.25 * rows["dear"]["cost_usd"])
    assert rows["plain"]["as_billed_usd"] == pytest.approx(rows["plain"]["cost_usd"])
    shown = report("--billed", str(bill)).stdout
    assert "as billed" in shown
    assert "bill.json, written today" in " ".join(shown.split())
    assert "as billed" not in report().stdout
    bill.write_text("{}")
    assert "no factors can be read" in str(CliRunner().invoke(cli.group, ["report", "--billed", str(bill)]).exception)


def test_the_table(world, monkeypatch):
    """Read by people: by model, each kind with its sum, what it is, and the largest of it."""
    world.call(OPENAI, 1)
    world.provider.invoice.factors[OPENAI] = 1.1
    shown = world.ask(monkeypatch)
    assert f"${ONE * 1.1:,.2f}" in shown
    assert "price: the same tokens at another price" in shown
    assert "openai gpt-4o-mini: the same tokens were billed at 1.100 times what was measured" in shown
    assert f"{(NOON - timedelta(days=1)):%Y-%m-%d} openai gpt-4o-mini" in shown


def test_openrouter(world, monkeypatch):
    """Its activity is by day and model, in dollars."""
    world.call(OPENAI, 1, **{names.PROVIDER: "openrouter"})
    monkeypatch.setattr(reconcile, "_largest", lambda *_: [])
    found, _ = world.facts(monkeypatch, "--from", "openrouter", "--since", "2d", keys=("OPENROUTER_MANAGEMENT_KEY",))
    assert found["cells"][0]["provider"] == "openrouter"


def test_today_is_on_no_bill_yet(world, monkeypatch):
    """Only whole UTC days are compared."""
    world.call(OPENAI, 0)
    world.call(OPENAI, 1)
    found, _ = world.facts(monkeypatch, "--until", "2099-01-01")
    assert (found["billed_usd"], found["measured_usd"]) == (pytest.approx(ONE), pytest.approx(ONE))
    with pytest.raises(TokenGuardError, match="no whole UTC day"):
        world.ask(monkeypatch, "--since", time.strftime("%Y-%m-%d", time.gmtime()))


def test_what_goes_wrong_says_what_to_do(world, monkeypatch, provider):
    """No key, a key that is none, a path that is gone, an address that is no https: one line, and no key in it."""
    world.call(OPENAI, 1)
    for name in ("OPENAI_ADMIN_KEY", "ANTHROPIC_ADMIN_KEY", "OPENROUTER_MANAGEMENT_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TokenGuardError, match="no bill to read"):
        world.ask(monkeypatch, keys=())
    with pytest.raises(TokenGuardError, match="OPENAI_ADMIN_KEY is not set"):
        world.ask(monkeypatch, "--from", "openai", keys=())
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-secret")
    with pytest.raises(TokenGuardError, match="answered 401") as refused:
        world.ask(monkeypatch, keys=())
    assert "sk-secret" not in str(refused.value)
    assert "It takes an admin key" in str(refused.value)
    monkeypatch.setenv("OPENAI_ADMIN_BASE_URL", "http://billing.example")
    with pytest.raises(TokenGuardError, match="https alone"):
        world.ask(monkeypatch)
    with pytest.raises(TokenGuardError, match="there is openai"):
        world.ask(monkeypatch, "--from", "nobody")
