"""Comments that silence: how rules are named in them, where they count, and what is said of the idle ones."""

from __future__ import annotations

import pytest

from .conftest import Lint

HEAD = "from openai import OpenAI\nclient = OpenAI(timeout=60)\n"
CALL = "client.responses.create(model='m', input='x')"


@pytest.mark.parametrize(
    "comment",
    ["noqa", "noqa: TG101", "noqa: tg101", "NOQA : Tg101", "noqa: TG", "noqa: tg", "noqa: no-output-cap",
     "noqa: E501, no-output-cap", "noqa:TG101,E501", "type: ignore # noqa: TG101", "tokenguard: ignore",
     "tokenguard: ignore[TG101]", "tokenguard: ignore[tg101] why", "tokenguard: ignore[no-output-cap, TG102]"],
)  # fmt: skip
def test_ways_to_name_a_rule(lint: Lint, comment: str) -> None:
    """Ids in any case, their beginnings, and names are understood."""
    assert "TG101" not in [f.rule for f in lint(f"{HEAD}{CALL}  # {comment}\n")]


@pytest.mark.parametrize(
    "comment",
    ["tokenguard: ignore-file", "tokenguard: ignore-file[TG101] generated", "tokenguard: ignore-file[no-output-cap]",
     "flake8: noqa", "flake8: noqa: TG101", "ruff: noqa: TG101"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["{c}\n{code}", "{code}\n{c}\n"])
def test_whole_files(lint: Lint, comment: str, place: str) -> None:
    """A comment for the file counts wherever it stands."""
    assert lint(place.format(c=f"# {comment}", code=f"{HEAD}{CALL}\n{CALL}\n")) == []


@pytest.mark.parametrize("comment", ["ruff: noqa", "flake8: noqa: E501", "noqa: E501", "noqa: some-thing", "noqa:"])
def test_what_is_for_others(lint: Lint, comment: str) -> None:
    """Comments for other linters' rules silence nothing of ours and are not judged."""
    assert [f.rule for f in lint(f"# {comment}\n{HEAD}{CALL}  # {comment}\n")] == ["TG101"]
    assert lint(f"x = 1  # {comment}\n") == []


@pytest.mark.parametrize(
    ("comment", "says"),
    [("noqa: TG101", "ignores TG101"), ("noqa: tg101", "ignores TG101"), ("noqa: TG999", "no rule TG999"),
     ("tokenguard: ignore[no-cap]", "no rule no-cap"), ("tokenguard: ignore[TG101]", "ignores TG101"),
     ("tokenguard: ignore", "ignores anything"), ("tokenguard: ignore-file[TG101]", "ignores TG101"),
     ("tokenguard: ignore[TG]", "ignores TG")],
)  # fmt: skip
def test_idle_comments(lint: Lint, comment: str, says: str) -> None:
    """A comment that silences nothing, or names no rule, is reported: it would hide the next, real finding."""
    (found,) = lint(f"x = 1  # {comment}\n")
    assert found.rule == "TG001"
    assert says in found.message


def test_a_misspelt_name_is_answered(lint: Lint) -> None:
    """A finding that stays because of it comes with the name that may be meant; another linter's name is left alone."""
    call = "from openai import OpenAI\nOpenAI(timeout=1).responses.create(model='m', input='x')  # noqa: "
    assert [f.rule for f in lint(call + "no-output-cp\n")] == ["TG101", "TG001"]
    assert lint(call + "no-output-cp\n")[1].message == "There is no rule no-output-cp; no-output-cap?"
    assert [f.rule for f in lint(call + "line-too-long\n")] == ["TG101"]
