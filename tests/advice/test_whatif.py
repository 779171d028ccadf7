"""`tokenguard whatif`: reading a proposal, suggesting one, and what it is shown as."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from advice.conftest import call, tokens
from tokenguard import policy
from tokenguard.advice import proposal as proposals
from tokenguard.cli import group
from tokenguard.facts import names as n
from tokenguard.facts.errors import PolicyError
from tokenguard.policy import Route
from tokenguard.policy.match import draw
from tokenguard.store.store import Store

COLD = {n.BREAK_KIND: "changed", n.BREAK_SECTION: "system", n.BREAK_INDEX: 0, n.BREAK_OFFSET: 0, n.BREAK_TOKENS: 3000}


@pytest.fixture
def path(tmp_path):
    """A day of a product that repeats itself, breaks its prompt cache, and asks a large model for single words."""
    store = Store(tmp_path / "usage.db")
    repeated = {n.REQUEST_TEMPERATURE: 0.0}
    store.write(
        [
            *(
                call(
                    i, "gpt-4o", tokens(800, 90), feature="faq", tenant="a", **{n.REQUEST_HASH: f"f{i % 3}", **repeated}
                )
                for i in range(30)
            ),
            *(call(100 + i, "gpt-4o", tokens(4000, 90, 0), feature="chat", **COLD) for i in range(20)),
            *(call(200 + i, "claude-opus-4-5", tokens(300, 3), feature="triage|*") for i in range(40)),
            call(300, "gpt-4o", tokens(None, None), outcome="blocked"),
        ]
    )
    store.close()
    return tmp_path / "usage.db"


def run(path, *arguments):
    return CliRunner().invoke(group, ["whatif", "--source", str(path), *arguments], catch_exceptions=True)


def test_a_suggestion_is_a_policy(path, tmp_path):
    """What is suggested pays, is a valid policy that changes nothing as it stands, and comes to what it said."""
    file = tmp_path / "proposal.toml"
    assert run(path, "--suggest", "-o", str(file)).exit_code == 0
    text = file.read_text()
    assert policy.load(file).mode == "observe"
    found = proposals.load(file)
    assert [cache.name for cache in found.caches] == ["faq: answers"]
    assert found.assumed.prompt_cache
    (route,) = found.routes
    assert (route.to, route.share) == ("claude-haiku-4-5", 0.1)
    assert "# chat: changed at system 0, character 0, 20 calls" in text
    assert "# all of them, and not a tenth: $" in text
    fall = json.loads(run(path, "--policy", str(file), "--format", "json").output)
    assert fall["calls"] == 91
    assert {step["kind"]: step["calls"] for step in fall["steps"]} == {"cache": 27, "route": 4, "prompt_cache": 20}
    assert fall["spent_usd"] - sum(step["saved_usd"] for step in fall["steps"]) == pytest.approx(fall["left_usd"])
    assert fall["notes"] == ["1 calls were refused when they were made: what they would cost is not known"]


def test_every_form(path, tmp_path):
    """Table, Markdown, JSON and a picture say the same sum; names from the records cannot break out of any."""
    file = tmp_path / "p.toml"
    file.write_text('[[limit]]\nname = "<b>|short"\nmax_output_tokens = 50\nthen = "clamp"\n')
    said = {form: run(path, "--policy", str(file), "--format", form).output for form in ("table", "md", "json", "svg")}
    left = json.loads(said["json"])["left_usd"]
    for form in ("table", "md", "svg"):
        assert f"${left:.4f}" in said[form], form
    assert "&lt;b&gt;\\|short" in said["md"]
    picture = ET.fromstring(said["svg"])
    assert picture.tag.endswith("svg")
    assert any("<b>|short" in (node.text or "") for node in picture.iter())


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('[[cache]]\nname = "x"\nttl = "1 year"\n', ':3: [[cache]] "x": ttl'),
        ('[[route]]\nname = "x"\n', "to: it is missing"),
        ('[[whatif.batch]]\nwhen = { nobody = "x" }\n', 'no such attribution key "nobody"'),
        ("[whatif]\nprompt_cache = 1\n", "true or false"),
        ('[[limit]]\nname = "x"\nmax_outptu_tokens = 3\n', "max_outptu_tokens"),
    ],
)
def test_a_proposal_that_is_none(tmp_path, toml, says):
    """What cannot be meant names its line and its key, as in a policy."""
    file = tmp_path / "p.toml"
    file.write_text(toml)
    with pytest.raises(PolicyError) as error:
        proposals.load(file)
    assert says in str(error.value)


def test_what_is_not_known_is_said(whatif):
    """Calls without a price are in no sum; repeats at a temperature, and without a hash, are told and not counted."""
    same = {n.REQUEST_HASH: "aa"}
    fall = whatif(
        [
            call(0, "gpt-4o", tokens(1000, 100), **same),
            call(5, "gpt-4o", tokens(1000, 100), **same),
            call(9, "gpt-4o", tokens(1000, 100)),
            call(12, "a-model-of-ours", tokens(1000, 100), **same),
        ],
        '[[cache]]\nname = "answers"\nper = []\n',
    )
    assert (fall.unpriced, fall.lines[0].saved_usd) == (1, 0.0)
    said = " ".join(fall.lines[0].assumes)
    assert "2 more repeats ($0.0035) at a temperature that is not 0" in said
    assert "1 call without a hash" in said


def test_a_cache_serves_only_what_is_there(whatif):
    """An answer serves once it is there, within its time, for its own tenant, and if it ended by itself."""
    cold = {n.REQUEST_HASH: "aa", n.REQUEST_TEMPERATURE: 0.0}
    other = {**cold, n.REQUEST_HASH: "bb", n.FINISH_REASONS: ("length",)}
    use = tokens(1000, 100)
    fall = whatif(
        [
            call(0, "gpt-4o", use, tenant="a", **cold),
            call(0.05, "gpt-4o", use, tenant="a", **cold),  # at the same time
            call(1, "gpt-4o", use, tenant="a", **cold),  # a hit
            call(2, "gpt-4o", use, tenant="b", **cold),  # another tenant
            call(3, "gpt-4o", use, **cold),  # no tenant
            call(70, "gpt-4o", use, tenant="a", **cold),  # too late
            call(71, "gpt-4o", use, tenant="a", **other),
            call(72, "gpt-4o", use, tenant="a", **other),  # the earlier one was cut off
        ],
        '[[cache]]\nname = "answers"\nttl = "1m"\n',
    )
    assert fall.lines[0].calls == 1
    assert fall.lines[0].saved_usd == pytest.approx(1000 * 2.5e-6 + 100 * 10e-6)


def test_an_hour_is_paid_for(whatif):
    """An hour's lifetime saves what expired, and costs twice the input for every write."""
    late = {n.BREAK_KIND: "expired", n.BREAK_TOKENS: 4000}
    fall = whatif(
        [
            call(0, "claude-sonnet-4-6", tokens(5000, 0, 0, 4000)),
            call(1800, "claude-sonnet-4-6", tokens(5000, 0, 0, 4000), **late),
        ],
        '[whatif]\ncache_lifetime = "1h"\n',
    )
    assert fall.spent_usd == pytest.approx(2 * (1000 * 3 + 4000 * 3.75) / 1e6)
    assert fall.left_usd == pytest.approx((2 * 1000 * 3 + 4000 * 6 + 4000 * 0.3) / 1e6)


def test_equal_calls_under_way_share_an_answer(whatif):
    """Of equal calls at the same time one is sent, for each tenant; streams and what comes later are not shared."""
    same = {n.REQUEST_HASH: "aa", "tenant": "a"}
    use = tokens(1000, 100)
    fall = whatif(
        [
            call(0, "gpt-4o", use, **same),
            call(0.01, "gpt-4o", use, **same),  # shared
            call(0.02, "gpt-4o", use, **{**same, "tenant": "b"}),
            call(0.03, "gpt-4o", use, **same, **{n.REQUEST_STREAM: True}),
            call(0.04, "gpt-4o", use, **{**same, n.REQUEST_HASH: "bb"}),
            call(0.2, "gpt-4o", use, **same),  # the first one has its answer
            call(0.21, "gpt-4o", use, tenant="a"),
        ],
        '[[share]]\nname = "same"\n',
    )
    (line,) = fall.lines
    assert (line.kind, line.calls) == ("share", 1)
    assert "1 call without a hash" in " ".join(line.assumes)


def test_a_cascade_costs_both_answers(whatif):
    """Where a share p of the small model's answers fails, a call costs c1 + p c2; streams are not looked at."""
    use = tokens(1000, 200)
    arms = {n.ROUTE_RULE: "easy", n.ROUTE_ARM: "treated", "tenant": "b"}
    before = [call(i, "gpt-4o-mini", use, **arms) for i in range(40)]
    before += [call(50 + i, "gpt-4o", use, **arms, **{n.ROUTE_ESCALATION: "length"}) for i in range(10)]
    fall = whatif(
        [
            *before,
            *(call(100 + i, "gpt-4o", use, tenant="a") for i in range(100)),
            call(300, "gpt-4o", use, tenant="a", **{n.REQUEST_STREAM: True}),
        ],
        '[[route]]\nname = "easy"\nto = "gpt-4o-mini"\nescalate_to = "gpt-4o"\nescalate_when = ["length"]\n',
    )
    (line,) = fall.lines
    small, large = 1000 * 0.15e-6 + 200 * 0.6e-6, 1000 * 2.5e-6 + 200 * 10e-6
    assert line.calls == 101
    assert line.saved_usd == pytest.approx(101 * (large - small) - 100 * 0.25 * large)
    assert line.low_usd < line.saved_usd < line.high_usd
    said = " ".join(line.assumes)
    assert "25.0% of its answers fail, as 10 of 40 did, and gpt-4o is asked again" in said
    assert f"it pays while fewer than {1 - small / large:.0%} fail" in said


def test_a_cascade_that_was_never_tried(whatif):
    """Nobody knows how many answers will fail: the interval is from none to all, which costs more than now."""
    fall = whatif(
        [call(i, "gpt-4o", tokens(1000, 200)) for i in range(10)],
        '[[route]]\nname = "x"\nto = "gpt-4o-mini"\nescalate_to = "gpt-4o"\nescalate_when = ["length"]\n',
    )
    (line,) = fall.lines
    assert "how many of its answers fail is not known" in " ".join(line.assumes)
    assert line.low_usd < 0 < line.saved_usd < line.high_usd


SECTIONS = {n.input_attribute("system"): 300, n.input_attribute("tools"): 700, n.input_attribute("history"): 2600}
SECTIONS |= {n.input_attribute("tool_results"): 1200, n.input_attribute("last"): 200}


@pytest.mark.parametrize(
    ("ceiling", "refused"),
    [
        ("max_system_tokens = 299", 1),
        ("max_system_tokens = 300", 0),
        ("max_tools_tokens = 699", 1),
        ("max_history_tokens = 2000", 1),
        ("max_history_tokens = 2600", 0),
        ("max_tool_result_tokens = 100", 0),
    ],
)
def test_ceilings_of_sections(whatif, ceiling, refused):
    """A ceiling of a section refuses by what is recorded of it; what is only known as a sum refuses nothing."""
    fall = whatif(
        [call(0, "gpt-4o", tokens(5000, 100), **SECTIONS), call(1, "gpt-4o", tokens(5000, 100))],
        f'[[limit]]\nname = "short"\n{ceiling}\n',
    )
    assert sum(line.calls for line in fall.lines) == refused
    assert bool(fall.notes) is ("tool_result" in ceiling)


def test_a_trimmed_history(whatif):
    """A history past its ceiling loses whole steps; where the provider's cache holds it, it stays whole."""
    facts = {**SECTIONS, n.input_attribute("tool_results"): 0}
    fall = whatif(
        [
            call(0, "gpt-4o", tokens(3800, 100), **facts),  # 2,600 - 1,000 past, in steps of 500: 2,000 go at least
            call(1, "gpt-4o", tokens(3800, 100, 3000), **facts),
            call(2, "gpt-4o", tokens(900, 100)),
        ],
        '[[limit]]\nname = "short"\nmax_history_tokens = 1000\nthen = "trim"\n',
    )
    (line,) = fall.lines
    assert (line.kind, line.calls) == ("trim", 1)
    assert line.low_usd == pytest.approx(1500 * 2.5e-6)
    assert line.saved_usd == pytest.approx(2150 * 2.5e-6)
    said = " ".join(line.assumes)
    assert "1 call left whole: the provider's cache holds" in said
    assert "1 call whose input's sections are not recorded" in said


def test_each_step_says_what_it_stands_on(path, tmp_path):
    """In every form each step has a basis: what of the records its figure is reckoned from."""
    file = tmp_path / "p.toml"
    file.write_text(
        '[[limit]]\nname = "short"\nmax_output_tokens = 50\nthen = "clamp"\n[whatif]\nprompt_cache = true\n'
    )
    fall = json.loads(run(path, "--policy", str(file), "--format", "json").output)
    assert [step["basis"] for step in fall["steps"]] == [
        "recorded lengths of answers",
        "what the break finder found of each prompt; reported cache reads and writes",
    ]
    for form in ("table", "md"):
        assert "short, from recorded lengths of answers: answers past 50 tokens" in run(
            path, "--policy", str(file), "--format", form
        ).output.replace("\n", " ")


def test_the_first_cache_is_the_calls(whatif):
    """Where several `[[cache]]` apply, only the first one is asked, as by the guard."""
    same = {n.REQUEST_HASH: "aa", n.REQUEST_TEMPERATURE: 0.0}
    calls = [call(i, "gpt-4o", tokens(1000, 100), tenant="a", **same) for i in (0, 100)]
    fall = whatif(calls, '[[cache]]\nname = "one"\nttl = "1m"\n[[cache]]\nname = "two"\nttl = "1h"\n')
    assert [line.calls for line in fall.lines] == [0, 0]


def test_arms_are_drawn_as_the_guard_draws_them(whatif):
    """Whose calls are in which arm of a route is known: the same as when it is in force."""
    rule = Route(name="half", to="gpt-4o-mini", share=0.5)
    calls = [call(i, "gpt-4o", tokens(1000, 100), tenant=f"t{i}") for i in range(40)]
    fall = whatif(calls, '[[route]]\nname = "half"\nto = "gpt-4o-mini"\nshare = 0.5\n')
    treated = sum(draw(rule, f"tenant=t{i},user=") == "treated" for i in range(40))
    assert fall.lines[0].calls == treated
    assert 10 < treated < 30
