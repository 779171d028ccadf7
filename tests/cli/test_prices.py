"""`tokenguard prices`: the rates that would be used, where they come from, and its exit codes."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

import fresh
from tokenguard.cli.prices import prices


@pytest.fixture
def show(tmp_path, monkeypatch):
    """Runs the command under a policy."""

    def show(*arguments, policy="", code=0):
        (tmp_path / "tokenguard.toml").write_text(policy)
        monkeypatch.setenv("TOKENGUARD_POLICY", str(tmp_path / "tokenguard.toml"))
        result = CliRunner().invoke(prices, arguments)
        assert result.exit_code == code, result.output
        return result.output

    return show


def _row(output, label):
    return next(line for line in output.splitlines() if line.startswith(label + " ")).removeprefix(label).split()


def test_rates_and_source(show):
    """Rates are in USD per million tokens, with the price list's version and the provider."""
    output = show("claude-opus-4-1")
    assert _row(output, "input")[0] == "15"
    assert _row(output, "cached input")[0] == "1.5"
    assert _row(output, "cache write")[0] == "18.75"
    assert _row(output, "cache write, 1 hour")[0] == "30"
    assert _row(output, "output")[0] == "75"
    assert "Source: genai-prices " in output
    assert ", anthropic." in output
    assert "\x1b" not in output, "plain when piped"


def test_it_is_light():
    """Where no policy is, neither its grammar nor what draws tables and what logs is loaded."""
    program = (
        "import sys\nfrom tokenguard.cli import main\n"
        "try:\n    main(['prices', 'gpt-4o'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'rich', 'logging', 'sqlite3', 'genai_prices', 'tokenguard.policy.model', 'tokenguard.store'}\n"
        "print(*(heavy & set(sys.modules)), end='', file=sys.stderr)\n"
    )
    done = fresh.python(program, cwd="/")
    assert ("openai/gpt-4o" in done.stdout, done.stderr) == (True, "")


def test_long_context(show):
    """Each threshold has a column."""
    output = show("gemini-2.5-pro")
    assert "up to 200,000 input" in output
    assert "above 200,000 input" in output
    assert _row(output, "input")[:2] == ["1.25", "2.5"]


def test_tiers_and_providers(show):
    """A tier's own rates are shown; where they are assumed, that is said."""
    assert _row(show("gpt-5", "--tier", "priority"), "input")[0] == "2.5"
    assumed = show("gpt-4o", "--provider", "azure.ai.openai", "--tier", "batch")
    assert _row(assumed, "input")[0] == "1.25"
    assert "Costs are estimated: assumed_batch." in assumed
    assert "sold by azure" in assumed
    assert _row(show("azure/gpt-4o"), "input")[0] == "2.5"


def test_overrides_name_their_file(show, tmp_path):
    """An override comes first, with its key, its value and its file."""
    output = show("my-gpt4o-prod", policy='[prices]\n"azure/my-gpt4o-*" = "openai/gpt-4o"\n')
    assert _row(output, "output")[0] == "10"
    assert f'override "azure/my-gpt4o-*" = "openai/gpt-4o" in [prices] of {tmp_path / "tokenguard.toml"}' in output


@pytest.mark.parametrize("arguments", [("gpt-4oo",), ("openai/gpt-4oo",), ("gpt-4oo", "--provider", "openai")])
def test_unknown(show, arguments):
    """An unknown model is exit code 1, with the nearest known ones and how to set a price."""
    output = show(*arguments, code=1)
    assert 'No price is known for "gpt-4oo"' in output
    assert "openai/gpt-4o" in output
    assert '/gpt-4oo" = { input = 1, output = 4 }' in output


def test_a_wrong_policy(show):
    """A policy that cannot be used is exit code 2."""
    assert "prices" in show("gpt-4o", policy='[prices]\n"azure/x" = { inptu = 1.0 }\n', code=2)


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("whisper-1", ("per second of sound that is sent  0.0001",)),
        ("tts-1", ("per character that is spoken  0.000015",)),
        (
            "aws/amazon.nova-reel-v1:1",
            ("0.08", "aws.amazon.com/bedrock/pricing, not checked", "unchecked_price"),
        ),
        ("mistral-ocr-latest", ("per page that is read       0.004", "per page that is annotated  0.005")),
        ("openai/dall-e-3", ("per picture             0.12", "Costs are estimated: assumed_variant")),
    ],
)
def test_units(model, shown, show):
    """What is billed by the picture, the second or the page is shown so, and nothing is said of tokens."""
    output = show(model)
    for each in shown:
        assert each in output
    assert "\ninput" not in output
