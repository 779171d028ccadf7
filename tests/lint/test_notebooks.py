"""Notebooks are linted by cell, with magics and broken cells, and fixed without touching anything else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenguard.cli.lint import lint
from tokenguard.lint import suppress, syntax
from tokenguard.lint.config import Config
from tokenguard.lint.engine import Linter
from tokenguard.lint.notebooks import fix_notebook

CELLS = [
    ("markdown", "# Title\n"),
    ("code", "%pip install openai\nfrom openai import OpenAI\nclient = OpenAI(timeout=60)"),
    ("code", "files = !ls\nfor f in files:\n    %time print(f)\n"),
    ("code", "%%bash\necho (\n"),
    ("code", "def broken(:\n"),
    ("code", "# ask\nreply = client.responses.create(\n    model='m',\n    input='é',\n)\n!ls\nawait client.close()"),
]


def notebook(indent: int | None, *, ascii_only: bool, as_list: bool) -> str:
    cells = [
        {"cell_type": kind, "metadata": {}, "source": text.splitlines(keepends=True) if as_list else text, "id": str(n)}
        | ({"outputs": [{"text": "ü"}], "execution_count": None} if kind == "code" else {})
        for n, (kind, text) in enumerate(CELLS)
    ]
    document = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(document, indent=indent, ensure_ascii=ascii_only) + "\n"


@pytest.mark.parametrize("as_list", [True, False])
@pytest.mark.parametrize(("indent", "ascii_only"), [(1, False), (2, True), (None, False)])
def test_findings_and_fixes_by_cell(tmp_path: Path, indent: int | None, ascii_only: bool, as_list: bool) -> None:
    """Cell and line are reported; a fix changes that cell's source alone."""
    file = tmp_path / "n.ipynb"
    before = notebook(indent, ascii_only=ascii_only, as_list=as_list)
    file.write_text(before, encoding="utf-8")
    result = CliRunner().invoke(lint, ["--no-cache", "--format", "json", str(file)])
    assert [(r["rule"], r["cell"], r["line"]) for r in json.loads(result.stdout)["findings"]] == [
        ("TG000", 5, 1),
        ("TG101", 6, 2),
    ]
    text = CliRunner().invoke(lint, ["--no-cache", str(file)]).stdout
    assert ":cell 6:2:9: warning TG101" in text
    assert "    reply = client.responses.create(\n" in text
    CliRunner().invoke(lint, ["--no-cache", "--unsafe-fixes", str(file)])
    new = "    input='é',\n    max_output_tokens=1024,\n"
    expected = json.loads(before)
    fixed = CELLS[5][1].replace("    input='é',\n", new)
    expected["cells"][5]["source"] = fixed.splitlines(keepends=True) if as_list else fixed
    assert file.read_text(encoding="utf-8") == json.dumps(expected, indent=indent, ensure_ascii=ascii_only) + "\n"


LAYOUTS = {
    "indent 3": lambda d: json.dumps(d, indent=3),
    "no spaces": lambda d: json.dumps(d, separators=(",", ":")),
    "tabs": lambda d: json.dumps(d, indent="\t"),
    "sorted keys": lambda d: json.dumps(d, indent=1, sort_keys=True),
    "odd spaces": lambda d: json.dumps(d, indent=1).replace('"nbformat": 4', '"nbformat" :4'),
    "a number that json writes otherwise": lambda d: json.dumps(d, indent=1).replace(
        '"nbformat": 4', '"nbformat": 4.10'
    ),
}


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_whatever_wrote_a_notebook_only_the_line_is_inserted(tmp_path: Path, layout, end: str, bom: bytes) -> None:
    """Any layout, line ends of git on Windows, and a byte order mark stay as they are."""
    document = json.loads(notebook(1, ascii_only=True, as_list=True))
    fixed = json.loads(json.dumps(document))
    source = fixed["cells"][5]["source"]
    source.insert(source.index("    input='é',\n") + 1, "    max_output_tokens=1024,\n")
    before, after = (bom + layout(d).replace("\n", end).encode() for d in (document, fixed))
    file = tmp_path / "n.ipynb"
    file.write_bytes(before)
    CliRunner().invoke(lint, ["--no-cache", "--unsafe-fixes", str(file)])
    assert file.read_bytes() == after


def linted(tmp_path: Path, *cells: str) -> list[tuple[str, int, int, str]]:
    """The findings of a notebook of these code cells."""
    file = tmp_path / "n.ipynb"
    file.write_text(json.dumps({"cells": [{"cell_type": "code", "source": text} for text in cells]}))
    result = CliRunner().invoke(lint, ["--no-cache", "--format", "json", "--ignore", "TG116", str(file)])
    return [(r["rule"], r["cell"], r["line"], r["severity"]) for r in json.loads(result.stdout)["findings"]]


CALL = "from openai import OpenAI\nOpenAI().responses.create(model='m', input='x')"


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        (f"!pip install -qU \\\n  openai==1.0 \\\n  tiktoken\n{CALL}", 5),
        (f"files = !ls \\\n  -la\n{CALL}", 4),
        (f"pip install openai\n{CALL}", 3),
        (f"a, b = %magic x\n{CALL}", 3),
        (f"%timeit \\\n  f(1)\n{CALL}", 4),
        (f"if True:\n    !ls \\\n      -la\n{CALL}", 5),
        (f"?OpenAI\n{CALL}", 3),
        (f"??OpenAI.responses\nOpenAI?\nOpenAI.responses??\n{CALL}", 5),
        (f"%%time\n{CALL}", 3),
        (f"%%capture out\n%%time\n{CALL}", 4),
        (f"x = (7\n    % 5)\n{CALL}", 4),
        (f"text = '''\n!ls \\\n%time\n'''\n{CALL}", 6),
        (f"x = 7 \\\n  % 5\n{CALL}", 4),
        (f"%%writefile app.py\n{CALL}", 3),
        (f"%%writefile -a src/app.py\n{CALL}", 3),
    ],
)
def test_magics_are_set_aside_and_the_rest_is_linted(tmp_path: Path, cell: str, line: int) -> None:
    """Lines that go on, help, cell magics over Python; and what only looks like a magic."""
    assert linted(tmp_path, cell) == [("TG101", 1, line, "warning")]


def test_a_cell_that_cannot_be_read_is_a_note_and_the_others_are_linted(tmp_path: Path) -> None:
    """It does not fail the run by itself."""
    assert linted(tmp_path, "def f(:", CALL) == [("TG000", 1, 1, "info"), ("TG101", 2, 2, "warning")]
    file = tmp_path / "n.ipynb"
    file.write_text(json.dumps({"cells": [{"cell_type": "code", "source": "print 'x'  # client.responses.create("}]}))
    assert CliRunner().invoke(lint, ["--no-cache", str(file)]).exit_code == 0


def test_a_cell_in_another_language_is_none_of_ours(tmp_path: Path) -> None:
    """Marked by two signs, or by one, alone on the first line, as Databricks does."""
    assert linted(tmp_path, "%sql\nSELECT 1 FROM x", "%%sh\necho (", CALL) == [("TG101", 3, 2, "warning")]


def test_where_broken_files_are_not_reported_the_other_cells_are_linted(tmp_path: Path) -> None:
    """A broken cell hides nothing where TG000 is off."""
    file = tmp_path / "n.ipynb"
    cells = [{"cell_type": "code", "source": text} for text in ("def f(:", CALL)]
    file.write_text(json.dumps({"cells": cells}))
    result = CliRunner().invoke(lint, ["--no-cache", "--select", "TG101", "--format", "json", str(file)])
    assert [(r["rule"], r["cell"]) for r in json.loads(result.stdout)["findings"]] == [("TG101", 2)]


def test_a_file_that_a_cell_writes_is_a_program_of_its_own(tmp_path: Path) -> None:
    """Its names are not those of the notebook, and what is no Python file is not read."""
    cap = "CAP = {'max_output_tokens': 5}"
    use = "%%writefile app.py\nfrom openai import OpenAI\nOpenAI().responses.create(model='m', input='x', **CAP)"
    assert linted(tmp_path, cap, use) == []
    assert linted(tmp_path, f"%%writefile app.txt\n{CALL}", f"%%bash\n{CALL}") == []


def test_a_fix_leaves_magics_as_they_are(tmp_path: Path) -> None:
    """Also those over several lines, in the cell that is mended."""
    magics = "%%time\n!pip install \\\n  openai\nif 1:\n    %time x = 1\n"
    file = tmp_path / "n.ipynb"
    file.write_text(json.dumps({"cells": [{"cell_type": "code", "source": magics + CALL}]}))
    CliRunner().invoke(lint, ["--no-cache", "--unsafe-fixes", str(file)])
    (cell,) = json.loads(file.read_text())["cells"]
    assert cell["source"] == magics + CALL.replace("input='x'", "input='x', max_output_tokens=1024")


def test_a_cell_that_is_indented_as_a_whole_is_python(tmp_path: Path) -> None:
    """IPython takes the indent away; findings and fixes keep their columns."""
    indented = "\n".join(f"  {line}" for line in f"# a note\n{CALL}".splitlines())
    assert linted(tmp_path, indented, "   ", CALL) == [("TG101", 1, 3, "warning"), ("TG101", 3, 2, "warning")]
    CliRunner().invoke(lint, ["--no-cache", "--unsafe-fixes", "--select", "TG101", str(tmp_path / "n.ipynb")])
    first, _, last = json.loads((tmp_path / "n.ipynb").read_text())["cells"]
    fixed = CALL.replace("input='x'", "input='x', max_output_tokens=1024")
    assert "".join(first["source"]) == "\n".join(f"  {line}" for line in f"# a note\n{fixed}".splitlines())
    assert "".join(last["source"]) == fixed


@pytest.mark.parametrize("line", ["/print x", ",f a b", ";f a b", "  !echo hi", "  %cd .."])
def test_calls_without_parentheses_are_magics(tmp_path: Path, line: str) -> None:
    """IPython's `/`, `,` and `;` at the start of a line."""
    assert linted(tmp_path, line, CALL) == [("TG101", 2, 2, "warning")]


ENDS = st.sampled_from(["\n", "\r\n", "\r"])
BEFORE = st.lists(st.sampled_from(['# café / \\ "q"', "s = 'é/'", "%time 1", "!ls \\\n  -l", ""]), max_size=3)
SPACE = st.sampled_from(["", " ", "\n", "\r\n  ", "\t"])
ONE_CALL = ["c.responses.create(", "    model='m',  # é", "    input='x',", ")"]


@st.composite
def notebooks(draw) -> bytes:
    """A notebook with one call to be fixed: any line ends, escapes, spaces, and parts that its source is cut into."""
    lines = "\n".join([*draw(BEFORE), "from openai import OpenAI", "c = OpenAI()", *ONE_CALL]).split("\n")
    text = "".join(line + draw(ENDS) for line in lines[:-1]) + lines[-1] + draw(st.sampled_from(["", "\n", "\r\n"]))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
    by_line = text.splitlines(keepends=True)
    parts = draw(
        st.sampled_from([[text], by_line, [text[i:j] for i, j in zip([0, *cuts], [*cuts, None], strict=True)]])
    )

    def written(part: str) -> str:
        raw = json.dumps(part, ensure_ascii=draw(st.booleans()))
        return raw.replace("/", draw(st.sampled_from(["/", "\\/"])))

    gap, colon = draw(SPACE), draw(SPACE)
    source = written(text) if draw(st.booleans()) else f"[{gap}{f'{gap},{gap}'.join(map(written, parts))}{gap}]"
    cell = f'{{"cell_type"{colon}:{gap}"code",{gap}"source":{colon}{source}{gap}, "n": 1.10}}'
    return (
        draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
        + f'{{"nbformat":4,{gap}"cells":[{gap}{cell}{gap}]}}{gap}'.encode()
    )


@settings(deadline=None, max_examples=40)
@given(notebooks())
def test_a_fix_is_the_only_difference(source: bytes) -> None:
    """Whatever the line ends in a cell are, how characters are escaped, and where strings are cut."""
    fixed, mended = fix_notebook(LINTER, source, "n.ipynb", unsafe=True)
    assert len(mended) == 1
    head = next(i for i, (a, b) in enumerate(zip(source, fixed, strict=False)) if a != b)
    assert fixed.endswith(source[head:]), "bytes are only inserted"
    before, after = ("".join(json.loads(t.decode("utf-8-sig"))["cells"][0]["source"]) for t in (source, fixed))
    assert set(after.splitlines()) - set(before.splitlines()) == {"    max_output_tokens=1024,"}


LINTER = Linter(Config(root=Path(), select=("TG101",)))


def test_marks_of_cells_are_no_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put between cells silences nothing: where no person wrote a comment, none is looked for."""
    call = "from openai import OpenAI\nOpenAI(timeout=1).responses.create(model='m', input='x')"
    monkeypatch.setattr(suppress, "ignores", None)
    assert [f[0] for f in linted(tmp_path, "x = 1", "%time 1", call)] == ["TG101"]
    monkeypatch.setattr(syntax, "parse", None)
    assert linted(tmp_path, "x = 1", "%time 1", "y = 2") == []
