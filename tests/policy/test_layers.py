"""A floor, and a nearer file on it: it tightens, never loosens, and everybody can see what came from where."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

import tokenguard
from tokenguard import PolicyError, policy
from tokenguard.installation import runtime
from tokenguard.policy import find
from tokenguard.policy.page import render

FLOOR = """
unpriced = "allow"
[[budget]]
name = "company"
limit_usd = 5
[ledger]
url = "sqlite:////var/lib/ledger.db"
[prices]
"own/m" = { input = 1, output = 2 }
[attribution]
defaults = { team = "platform" }
"""


@pytest.fixture
def lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Lays a floor by the environment and puts a nearer file into the working directory: the policy that is found."""
    monkeypatch.setattr(find, "PLATFORM", str(tmp_path / "etc.toml"))
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")

    def put(near: str, floor: str = FLOOR, platform: str = "") -> policy.Policy:
        (tmp_path / "floor.toml").write_text(floor)
        monkeypatch.setenv("TOKENGUARD_POLICY", str(tmp_path / "floor.toml"))
        if platform:
            (tmp_path / "etc.toml").write_text(platform)
        if near:
            Path("tokenguard.toml").write_text(near)
        return policy.load()

    return put


LOOSER = [
    ('mode = "observe"', "mode"),
    ('\n[prices]\n"own/*" = { input = 0, output = 0 }', "prices"),
    ('[hosts]\n"*" = "sdk"', "hosts"),
    ('[ledger]\nurl = "memory:"', "ledger.url"),
    ("[ledger]\ntimeout = 0.001", "ledger.timeout"),
    ('[alerts]\ncallback = "evil:run"', "alerts.callback"),
    ('may_override = ["x"]', "may_override"),
    ('[[cache]]\nname = "mine"\nttl = "1h"', '[[cache]] "mine"'),
    ('[[route]]\nname = "mine"\nto = "o1-pro"', '[[route]] "mine"'),
    ('[[share]]\nname = "mine"', '[[share]] "mine"'),
    ('[[budget]]\nname = "company"\nlimit_usd = 5000', '[[budget]] "company"'),
    ('[[limit]]\nname = "company"\nmax_input_tokens = 1', '[[limit]] "company"'),
]


@pytest.mark.parametrize(("near", "what"), LOOSER, ids=[what for _, what in LOOSER])
def test_what_loosens_is_not_taken(lay, near: str, what: str) -> None:
    """The floor's word stands, and it is said with file and line what was not taken."""
    alone = lay("")
    both = lay(near)
    assert both == alone
    (said,) = both.untaken
    line = 2 if what in ("prices", "ledger.url", "ledger.timeout", "alerts.callback") else 1
    assert said.startswith(
        f"{Path.cwd()}/tokenguard.toml:{line}: {what} is not taken: {Path.cwd().parent}/floor.toml is"
    )


@pytest.mark.parametrize(("near", "what"), LOOSER, ids=[what for _, what in LOOSER])
def test_what_the_floor_allows(lay, near: str, what: str) -> None:
    """`may_override` names keys and rules that a nearer file may say otherwise."""
    floor = f'may_override = ["{what.rpartition("] ")[2].strip(chr(34))}"]\n{FLOOR}'
    alone = lay("", floor)
    both = lay(near, floor)
    assert both.untaken == ()
    assert both != alone


def test_what_tightens_is_taken(lay) -> None:
    """Stricter words, more rules, and what the floor does not speak of."""
    both = lay(
        'unpriced = "block_budgets"\non_internal_error = "block"\n[[budget]]\nname = "project"\nlimit_usd = 1\n'
        '[alerts]\nwebhook = "https://hooks.example.com/x"\n[attribution]\ndefaults = { team = "x", feature = "f" }\n'
        '[store]\nkeep_days = 7\n[lint]\nselect = ["TG"]\n'
    )
    assert both.untaken == ()
    assert [each.name for each in both.budgets] == ["company", "project"]
    assert (both.unpriced, both.on_internal_error, both.store.keep_days) == ("block_budgets", "block", 7)
    assert both.alerts.webhook is not None
    assert both.attribution.defaults == {"team": "platform", "feature": "f"}
    assert both.lint == {"select": ["TG"]}
    assert both.ledger.url == "sqlite:////var/lib/ledger.db"


def test_kinds_of_rules_that_a_nearer_file_may_add(lay) -> None:
    """By the kind's name; the floor's cache keeps its answers where the floor says."""
    cache = '[[cache]]\nname = "{}"\n'
    both = lay(cache.format("near"), f'may_override = ["cache"]\n{FLOOR}{cache.format("far")}')
    assert [each.name for each in both.caches] == ["far", "near"]
    elsewhere = '[answers]\nurl = "sqlite:///answers.db"\n'
    assert lay(elsewhere, FLOOR + cache.format("far")).answers.url == "memory:"
    assert lay(elsewhere).answers.url == "sqlite:///answers.db"


STRICT = (
    ("mode", ('"observe"', '"enforce"')),
    ("on_internal_error", ('"allow"', '"block"')),
    ("unpriced", ('"allow"', '"estimate"', '"block_budgets"')),
)


@pytest.mark.parametrize(
    ("key", "below", "above"),
    [(key, *pair) for key, words in STRICT for pair in itertools.product(range(len(words)), repeat=2)],
)
def test_the_stricter_one_holds(lay, key: str, below: int, above: int) -> None:
    """Whichever file says it."""
    words = dict(STRICT)[key]
    both = lay(f"{key} = {words[above]}\n", f"{key} = {words[below]}\n")
    assert f'"{getattr(both, key)}"' == words[max(below, above)]
    assert bool(both.untaken) == (above < below)


def test_three_layers(lay) -> None:
    """The machine's file is a floor for the environment's, and both are for the project's."""
    both = lay(
        'mode = "observe"\n[[limit]]\nname = "project"\nmax_input_tokens = 1\n',
        'mode = "observe"\n[[limit]]\nname = "env"\nmax_input_tokens = 2\n',
        '[[limit]]\nname = "machine"\nmax_input_tokens = 3\n',
    )
    assert [each.name for each in both.limits] == ["machine", "env", "project"]
    assert both.mode == "enforce"
    assert len(both.untaken) == 1


def test_where_the_ledger_is(lay, tmp_path: Path) -> None:
    """A ledger that the floor names is beside the floor; without one, it is where the project's was before."""
    assert lay("", '[ledger]\nurl = "sqlite:///l.db"\n').source == str(tmp_path / "floor.toml")
    near = "[[limit]]\nname = 'n'\nmax_input_tokens = 1\n"
    assert lay(near, '[ledger]\nurl = "sqlite:///l.db"\n').source == str(tmp_path / "floor.toml")
    assert lay(near, "[[budget]]\nname = 'b'\nlimit_usd = 1\n").source == str(tmp_path / "project/tokenguard.toml")


def test_the_same_file_is_one_layer(lay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A floor that is also the nearest file is not laid on itself."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokenguard.toml").write_text(FLOOR)
    monkeypatch.setenv("TOKENGUARD_POLICY", str(tmp_path / "tokenguard.toml"))
    assert len(policy.load().budgets) == 1
    assert policy.load().untaken == ()


def test_show_says_where_from(lay) -> None:
    """Each value that a file states has its file and line beside it; defaults have nothing; it still is a policy."""
    both = lay('on_internal_error = "block"\n[[budget]]\nname = "project"\nlimit_usd = 1\n[lint]\nselect = ["TG"]\n')
    shown = render(both, origins=True).splitlines()
    near, floor = str(Path.cwd() / "tokenguard.toml"), str(Path.cwd().parent / "floor.toml")
    assert f'on_internal_error = "block"  # {near}:1' in shown
    assert f'unpriced = "allow"  # {floor}:2' in shown
    assert f"[[budget]]  # {floor}:3" in shown
    assert f"[[budget]]  # {near}:2" in shown
    assert f'url = "sqlite:////var/lib/ledger.db"  # {floor}:7' in shown
    assert 'mode = "enforce"' in shown
    assert policy.loads("\n".join(shown)) == both


def test_install_lays_it_on_the_floor(lay, installed, caplog: pytest.LogCaptureFixture) -> None:
    """A file that the program names is a nearer file, too; what is not taken of it is in the log, once."""
    lay('mode = "observe"\n')
    for _ in range(2):
        tokenguard.install("tokenguard.toml")
    assert runtime.installed().meter.guard.enforces
    assert [record.getMessage() for record in caplog.records if "is not taken" in record.getMessage()] != []
    assert caplog.text.count("mode is not taken") == 1
    tokenguard.install(policy.Policy())


def test_a_floor_that_is_wrong(lay) -> None:
    """It is an error that says which file, and who has named it."""
    with pytest.raises(PolicyError, match=r"floor\.toml:1: mod = 1: there is no such key"):
        lay("", "mod = 1\n")
