"""Reading policies: everything that is wrong is named with file, line, key, value and the way out."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenguard import policy
from tokenguard.facts.errors import PolicyError
from tokenguard.policy import page
from tokenguard.policy.files import MAX_BYTES
from tokenguard.policy.grammar import rows
from tokenguard.policy.locate import Lines
from tokenguard.prices import PriceBook

LIMIT = '[[limit]]\nname = "a"\n'
BUDGET = '[[budget]]\nname = "b"\nlimit_usd = 1\n'

BAD = [
    # (what, TOML, line, parts of the message)
    (
        "unknown key",
        LIMIT + "max_output_token = 5",
        3,
        ['[[limit]] "a"', "max_output_token = 5", '"max_output_tokens"'],
    ),
    ("unknown top key", 'mod = "observe"', 1, ["mod", "no such key", '"mode"']),
    ("unknown table", "[ledgr]\nurl = 'memory:'", 1, ["ledgr", '"ledger"']),
    ("unknown key in a table", '[ledger]\nurl = "memory:"\nlese = 5', 3, ["[ledger]", "lese = 5", '"lease"']),
    (
        "wrong type",
        LIMIT + 'max_output_tokens = "800"',
        3,
        ['max_output_tokens = "800"', "whole number, without quotes"],
    ),
    ("boolean as number", LIMIT + "max_output_tokens = true", 3, ["max_output_tokens = true", "whole number"]),
    ("float as count", LIMIT + "max_input_tokens = 1.5", 3, ["max_input_tokens = 1.5", "whole number"]),
    ("negative limit", LIMIT + "max_cost_usd = -1", 3, ["max_cost_usd = -1", "between 0"]),
    ("not a number", LIMIT + "max_cost_usd = nan", 3, ["max_cost_usd = NaN", "between 0"]),
    ("infinite", '[[budget]]\nname="b"\nlimit_usd = inf', 3, ["limit_usd", "between 0"]),
    ("more than is exact", '[[budget]]\nname="b"\nlimit_usd = 1e12', 3, ["between 0 and 9,000,000"]),
    ("huge integer", LIMIT + f"max_input_tokens = {10**30}", 3, ["max_input_tokens", "between 1"]),
    ("zero output", LIMIT + "max_output_tokens = 0", 3, ["between 1"]),
    ("list of tables as table", '[limit]\nname = "a"', 1, ["limit", "[[limit]]"]),
    ("table as value", 'ledger = "memory:"', 1, ['ledger = "memory:"', "must be a table"]),
    ("no name", "[[limit]]\nmax_retries = 1", 1, ["[[limit]] #1", "name", "missing", "name = ..."]),
    ("empty name", '[[limit]]\nname = ""\nmax_retries = 1', 2, ["1 to 200 printable"]),
    ("duplicate names", LIMIT + "max_retries = 1\n" + '[[budget]]\nname = "a"\nlimit_usd = 1', 5, ["rename", "line 1"]),
    ("downgrade without target", LIMIT + 'max_retries = 1\nthen = "downgrade"', 4, ["downgrade_to"]),
    ("budget downgrade without target", BUDGET + 'then = "downgrade"', 4, ["downgrade_to"]),
    ("clamp without cap", LIMIT + 'max_retries = 1\nthen = "clamp"', 4, ["max_output_tokens"]),
    ("budget clamp", BUDGET + 'then = "clamp"', 4, ['then = "clamp"', '"warn", "block", "downgrade"']),
    ("misspelt action", LIMIT + 'max_retries = 1\nthen = "blok"', 4, ['"blok"', 'did you mean "block"']),
    ("limit without ceiling", LIMIT, 2, ["limits nothing", "max_cost_usd"]),
    ("budget without limit", '[[budget]]\nname = "b"', 2, ["no limit", "limit_usd"]),
    ("bad timezone", BUDGET + 'timezone = "Europe/Berln"', 4, ['"Europe/Berln"', '"Europe/Berlin"']),
    ("timezone as path", BUDGET + 'timezone = "../../etc/passwd"', 4, ["time zone"]),
    ("bad window", BUDGET + 'window = "dayly"', 4, ['"dayly"', '"day"']),
    ("bad glob", LIMIT + "max_retries = 1\nwhen = { model = 'gpt-[4o' }", 4, ["when.model", '"[" is never closed']),
    ("glob of wrong type", LIMIT + "max_retries = 1\nwhen = { model = 4 }", 4, ["when.model = 4", "string"]),
    ("empty globs", LIMIT + "max_retries = 1\nwhen = { model = [] }", 4, ["when.model", "matches nothing"]),
    ("when sub-table", LIMIT + "max_retries = 1\n[limit.when]\nfeatur = 'x'", 5, ['"featur"', '"feature"', "keys ="]),
    ("unknown per", BUDGET + 'per = ["tenat"]', 4, ['"tenat"', '"tenant"', "[attribution]"]),
    ("per as text", BUDGET + 'per = "tenant"', 4, ["must be a list"]),
    ("per twice", BUDGET + 'per = ["team", "team"]', 4, ["twice"]),
    ("several lines", BUDGET + 'per = [\n  "team",\n  "tenat",\n]', 6, ['per[1] = "tenat"']),
    ("alert share", BUDGET + "alert_at = [80]", 4, ["alert_at[0] = 80", "between"]),
    ("ledger scheme", '[ledger]\nurl = "sqlit:///x"', 2, ['"sqlit:///x"', '"sqlite"']),
    ("ledger without a file", '[ledger]\nurl = "sqlite://x.db"', 2, ["sqlite:///relative/path.db"]),
    ("ledger without a host", '[ledger]\nurl = "redis://"', 2, ["needs a host"]),
    ("ledger port", '[ledger]\nurl = "redis://h:99999"', 2, ["not a URL"]),
    ("huge slice", "[ledger]\nslice = 0.9", 2, ["slice = 0.9", "0.01"]),
    ("webhook scheme", '[alerts]\nwebhook = "ftp://x"', 2, ['"https", "http"']),
    ("callback form", '[alerts]\ncallback = "json.dumps"', 2, ["package.module:function"]),
    ("duration", '[[breaker]]\nname="x"\ncooldown = "soon"', 3, ['"30s"']),
    ("no duration", '[[breaker]]\nname="x"\ncooldown = 0', 3, ["longer than 0"]),
    ("price name", '[prices]\n"gpt-4o" = "openai/gpt-4o"', 2, ["provider/model"]),
    ("price rate", '[prices]\n"openai/x" = { inptu = 3 }', 2, ["inptu", '"input"']),
    ("price without rates", '[prices]\n"openai/x" = { cache_read = 3 }', 2, ['"input"']),
    ("ceiling", "unpriced = { input_per_mtok = 15 }", 1, ["output_per_mtok", "missing"]),
    ("unpriced", 'unpriced = "alow"', 1, ['"allow"']),
    ("broken TOML", 'mode = "observe"\n[[limit]\nname = "a"', 2, ["not valid TOML", "[[limit]"]),
    ("unclosed string", 'mode = "observe', 1, ["not valid TOML"]),
    ("key twice", 'mode = "observe"\nmode = "observe"', 2, ["not valid TOML"]),
]


@pytest.mark.parametrize(("text", "line", "parts"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_named(text: str, line: int, parts: list[str]) -> None:
    """A broken policy says in which file, on which line, which key, and what to do."""
    with pytest.raises(PolicyError) as caught:
        policy.loads(text, "app/tokenguard.toml")
    message = str(caught.value)
    assert message.startswith(f"app/tokenguard.toml:{line}: "), message
    for part in parts:
        assert part in message, message


def test_all_problems_are_named_at_once() -> None:
    """Three mistakes make one error with three lines, so that a file is mended in one go."""
    text = 'mode = "off"\n' + LIMIT + "max_retries = -1\n[ledger]\nurll = 1\n"
    with pytest.raises(PolicyError, match="3 problems") as caught:
        policy.loads(text, "t.toml")
    assert all(f"t.toml:{line}:" in str(caught.value) for line in (1, 4, 6))


def test_many_problems_are_cut_short() -> None:
    """A hundred mistakes do not make a hundred lines."""
    with pytest.raises(PolicyError, match=r"100 problems") as caught:
        policy.loads("".join(f"k{i} = 1\n" for i in range(100)), "t.toml")
    assert str(caught.value).count("\n") == 21


def test_no_secret_in_messages() -> None:
    """A ledger's password stays out of errors and of `policy show`, and so does a webhook's path."""
    with pytest.raises(PolicyError) as caught:
        policy.loads('[ledger]\nurl = "redis://:hunter2@h:99999/0"', "t.toml")
    assert "hunter2" not in str(caught.value)
    shown = page.render(
        policy.loads(
            '[ledger]\nurl = "redis://:hunter2@h/0"\n[alerts]\nwebhook = "https://hooks.example.com/T0/secret"',
            "t.toml",
        )
    )
    assert "hunter2" not in shown
    assert "secret" not in shown
    assert "hooks.example.com" in shown


def test_lines_are_right_in_awkward_files() -> None:
    """Multi-line strings, comments with brackets, dotted keys and nested arrays do not mislead the line count."""
    text = """# [[limit]] name = "no"
lint.text = '''
[[limit]]
name = "not here"
'''
lint.more = \"\"\"
x = "]" \\\"\"\" still
\"\"\"
[[limit]] # ] "
"name" = "a"
max_retries = 1
when = { "feature" = ["x", # one, two }
   "y[z"] }
"""
    with pytest.raises(PolicyError, match=r"t\.toml:13: .*when\.feature\[1\]"):
        policy.loads(text, "t.toml")


def test_windows_line_ends_and_byte_order_mark(tmp_path: Path) -> None:
    """A file saved by a Windows editor is read, and its lines are counted right."""
    path = tmp_path / "tokenguard.toml"
    path.write_bytes(b'\xef\xbb\xbfmode = "observe"\r\n')
    assert policy.load(path).mode == "observe"
    path.write_bytes(b'mode = "observe"\r\n\r\nmod = 1\r\n')
    with pytest.raises(PolicyError, match=r":3: "):
        policy.load(path)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"#" * (MAX_BYTES + 1), "1,000,001 bytes is too large"),
        (b"#" * 10_000_000, "10,000,000 bytes is too large"),
        (b'\nmode = "\xff"', "2: byte 0xff is not UTF-8"),
        ('mode = "observe"'.encode("utf-16"), "not UTF-8"),
        (b"x = " + b"[" * 5000 + b"]" * 5000, "nested too deeply"),
        (b'mode = "a\x00b"', "not valid TOML"),
    ],
    ids=["large", "10 MB", "latin-1", "UTF-16", "deep", "NUL"],
)
def test_unusable_files(tmp_path: Path, content: bytes, part: str) -> None:
    """A file that cannot be a policy is refused with its reason, whatever it holds."""
    path = tmp_path / "tokenguard.toml"
    path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        policy.load(path)
    assert part in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_directory_and_pipe(tmp_path: Path) -> None:
    """A path that is not there, is a directory or is a pipe is an error and never blocks."""
    with pytest.raises(PolicyError, match=r"No such file.*check the path"):
        policy.load(tmp_path / "no.toml")
    with pytest.raises(PolicyError, match="not a file"):
        policy.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PolicyError, match="not a file"):
        policy.load(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_unreadable_file(tmp_path: Path) -> None:
    """A file without permission says so."""
    path = tmp_path / "tokenguard.toml"
    path.write_text("")
    path.chmod(0)
    with pytest.raises(PolicyError, match="this user may read"):
        policy.load(path)


def test_discovery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's file wins, then the nearest file upwards; tokenguard.toml before pyproject.toml."""
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert policy.load() == policy.Policy()

    (tmp_path / "tokenguard.toml").write_text('[[breaker]]\nname = "top"')
    assert policy.load().breakers[0].name == "top"
    assert policy.load().source == str(tmp_path / "tokenguard.toml")

    (inner / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["tokenguard-otel"]')
    assert policy.load().breakers[0].name == "top", "a pyproject without our table is passed by"
    (inner / "pyproject.toml").write_text('[tool.tokenguard]\n[[tool.tokenguard.breaker]]\nname = "py"')
    assert policy.load().breakers[0].name == "py"
    (inner / "tokenguard.toml").write_text('[[breaker]]\nname = "near"')
    assert policy.load().breakers[0].name == "near"

    other = tmp_path / "other.toml"
    other.write_text('[[breaker]]\nname = "env"')
    monkeypatch.setenv("TOKENGUARD_POLICY", str(other))
    assert policy.load().breakers[0].name == "env"
    monkeypatch.setenv("TOKENGUARD_POLICY", str(tmp_path / "gone.toml"))
    with pytest.raises(PolicyError, match="TOKENGUARD_POLICY"):
        policy.load()


def test_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pyproject's lines are the file's; a broken one counts only if it names us; a named one must have the table."""
    monkeypatch.delenv("TOKENGUARD_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.x]\na = 1\n[[tool.tokenguard.limit]]\nname = "a"\nmax_retrys = 1\n')
    with pytest.raises(PolicyError, match=r'pyproject\.toml:5: \[\[limit\]\] "a": max_retrys = 1'):
        policy.load()
    path.write_text("[tool.x\n")
    assert policy.load() == policy.Policy()
    path.write_text("[tool.tokenguard]\nmode = \n")
    with pytest.raises(PolicyError, match=r"pyproject\.toml:2: this is not valid TOML"):
        policy.load()
    path.write_text("[tool.x]\n")
    with pytest.raises(PolicyError, match=r"no \[tool.tokenguard\] table"):
        policy.load(path)


def test_example_and_round_trip() -> None:
    """The reference's example is valid; the effective policy, printed and read back, is the same policy."""
    text = page.EXAMPLE.split("```toml\n")[1].split("```")[0]
    example = policy.loads(text, "t.toml")
    masked = policy.loads(text.replace("https://hooks.example.com/budget", "https://hooks.example.com/***"), "t.toml")
    assert policy.loads(page.render(example)) == masked
    lint = '[lint]\nselect = ["TG"]\n[lint.rules.TG103]\nmax_top_k = 20\n"odd key" = { when = 2026-11-20, x = 1.5 }'
    for source in ("", "unpriced = { input_per_mtok = 15, output_per_mtok = 75 }", lint):
        assert policy.loads(page.render(policy.loads(source))) == policy.loads(source)


def test_mapping_and_pickle() -> None:
    """A policy can be stated as a mapping, and travels to another process."""
    made = policy.from_mapping({"budget": [{"name": "b", "limit_usd": 1, "when": {"model": "gpt-*"}}]})
    assert made.budgets == (policy.Budget("b", when=policy.When((("model", ("gpt-*",)),)), limit_usd=1.0),)
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(PolicyError, match=r'^settings: \[\[budget\]\] "b": name = "b": the budget has no limit'):
        policy.from_mapping({"budget": [{"name": "b"}]}, "settings")


def test_prices_are_the_price_book_s() -> None:
    """Prices that the policy accepts are accepted by the price book."""
    example = page.EXAMPLE.split("```toml\n")[1].split("```")[0]
    PriceBook(policy.loads(example).prices)


def test_reference_is_current() -> None:
    """docs/policy.md is what the rows say; write it with `python -m tokenguard.policy.page > docs/policy.md`."""
    path = Path(__file__).parents[2] / "docs" / "policy.md"
    if not path.exists():
        pytest.skip("the documentation is not part of this installation")
    assert path.read_text() == page.reference()


def test_none_in_a_mapping():
    """A mapping may hold what no file can: that is an error with its place."""
    with pytest.raises(PolicyError, match=r"None: leave the key out"):
        policy.from_mapping({"lint": {"x": [{"y": None}]}}, "settings")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TABLES = ["", "attribution", "limit", "budget", "breaker", "share", "ledger", "alerts", "prices", "unpriced"]
KEYS = sorted(
    {row.toml for table in (policy.Limit, policy.Budget, policy.LedgerConfig, policy.Policy) for row in rows(table)}
)


@settings(deadline=None)  # a busy machine is no defect
@given(st.sampled_from(TABLES), st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=6), VALUES, max_size=4))
def test_any_mapping(table: str, values: dict) -> None:
    """Whatever a table holds, the answer is a policy or a PolicyError, and a policy can be shown and compiled."""
    raw = values if not table else {table: [values] if table in ("limit", "budget", "breaker", "share") else values}
    try:
        made = policy.from_mapping(raw)
    except PolicyError:
        return
    policy.CompiledPolicy(made).match("a", "b", "c", {})
    assert policy.loads(page.render(made)) is not None


@settings(deadline=None)  # a busy machine is no defect
@given(st.text(alphabet="[]{}=,.\"'#\n\\ ab1-", max_size=60))
def test_any_text(text: str) -> None:
    """Whatever a file holds, reading it ends, with a policy or a PolicyError."""
    for start in ("", "[lint]\n", '[lint]\nx = """'):
        with contextlib.suppress(PolicyError):
            policy.loads(start + text)


@settings(deadline=None)  # a busy machine is no defect
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=5),
        st.recursive(
            st.integers(-9, 9) | st.booleans() | st.text(max_size=9),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=9,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_lines_of_any_table(values: dict) -> None:
    """Each key of a table, however it is written, is found on its line."""
    pairs = [f"{page._key(key)} = {page._toml(value)}" for key, value in values.items()]
    text = "[lint]\n" + "\n# [x] = {\n".join(pairs)
    assert policy.loads(text).lint == values
    lines = Lines(text)
    for index, (key, value) in enumerate(values.items()):
        assert lines.of(("lint", key)) == 2 + 2 * index
        for inner in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            assert lines._lines[("lint", key, inner)] == 2 + 2 * index
