"""Rule pages, as `tokenguard explain` prints them and as the documentation holds them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from tokenguard.lint.engine import Linter
from tokenguard.lint.shelf import Rule

BUILT_IN = {
    "TG000": (
        "unreadable-file",
        "A file could not be read, or is not valid Python though a rule is concerned with it.\n\n"
        "Syntax newer than the interpreter is read with libcst's grammar; what cannot be read that way is a note.\n\n"
        "The other files are linted all the same. A file without any word that a rule looks for is not parsed: its "
        "syntax errors are ruff's to report, unless TG000 is selected by its full id:\n\n"
        "    [lint]\n    select = [\"TG\", \"TG000\"]\n\n"
        "Exclude files that are meant to be broken:\n\n    [lint]\n    exclude = [\"tests/broken/**\"]\n",
    ),
    "TG001": (
        "unused-ignore",
        "A comment ignores a rule where there is nothing to ignore.\n\nA stale comment would hide the next, real "
        "finding."
        " Remove it.\n",
    ),
}  # fmt: skip


def page(rule: Rule) -> str:
    """A rule's page as plain text: its id and name, then its docstring."""
    options = "".join(f"\n    {key} = {_toml(value)}" for key, value in rule.options.items())
    head = f"{rule.id} {rule.name} ({rule.severity})\n\n"
    return (
        head
        + rule.page
        + (f"\nOptions, with their defaults:\n\n    [lint.rules.{rule.id}]{options}\n" if options else "")
        + f"\n{_silence(rule)}\n"
    )


def _silence(rule: Rule) -> str:
    return (
        f"To keep a line as it is, end it with `# tokenguard: ignore[{rule.id}] why`; to leave the rule out, set "
        f'`ignore = ["{rule.id}"]` in `[lint]`. `# noqa: {rule.id}` works, too, but ruff removes codes that it does '
        'not know, unless its `lint.external` is `["TG"]`.'
    )


def markdown(rule: Rule) -> str:
    """A rule's page as Markdown, its examples as code blocks."""
    text = re.sub(
        r"(?m)^((?: {4}.*\n|\n(?= {4}))+)",
        lambda m: "\n```python\n" + re.sub(r"(?m)^ {4}", "", m[1]).strip() + "\n```\n",
        rule.page,
    )
    options = "".join(f"{key} = {_toml(value)}\n" for key, value in rule.options.items())
    settings = f"\nOptions, with their defaults:\n\n```toml\n[lint.rules.{rule.id}]\n{options}```\n" if options else ""
    return f"# {rule.id} {rule.name}\n\nSeverity: {rule.severity}\n\n{text}{settings}\n{_silence(rule)}\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list | tuple) else str(value)


def settings(linter: Linter, path: str) -> str:
    """The settings that hold for `path`, as TOML with a comment where they come from."""
    config = linter.config
    lists = {"select": config.select, "ignore": config.ignore, "exclude": config.exclude, "plugins": config.plugins}
    lines = [f"# {path}: {config.file or 'no settings file'}", "[lint]"]
    lines += [f"{key} = {_toml(value)}" for key, value in lists.items()]
    lines.append(f"respect-gitignore = {_toml(config.respect_gitignore)}")
    if config.severity:
        lines += ["", "[lint.severity]", *(f"{rule} = {_toml(value)}" for rule, value in config.severity.items())]
    if config.per_file_ignores:
        lines += ["", "[lint.per-file-ignores]"]
        lines += [f'"{glob}" = {_toml(codes)}' for glob, codes in config.per_file_ignores.items()]
    for rule in linter.rules:
        if linter.options[rule.id]:
            lines += ["", f"[lint.rules.{rule.id}]"]
            lines += [f"{key} = {_toml(value)}" for key, value in linter.options[rule.id].items()]
    rules = {**{code: name for code, (name, _) in BUILT_IN.items()}, **{r.id: r.name for r in linter.rules}}
    lines += ["", "# Enabled:", *(f"#   {code} {name}" for code, name in rules.items() if code in linter.enabled)]
    return "".join(f"{line}\n" for line in lines)


def write_docs(folder: Path) -> None:
    """Write every rule's page to `folder`, and their index."""
    from tokenguard.lint.shelf import load

    folder.mkdir(parents=True, exist_ok=True)
    rules = load()
    for rule in rules.values():
        (folder / f"{rule.id}.md").write_text(markdown(rule), encoding="utf-8")
    rows = "".join(
        f"| [{r.id}]({r.id}.md) | {r.name} | {r.severity} | {r.page.partition(chr(10))[0]} |\n" for r in rules.values()
    )
    (folder / "README.md").write_text(
        f"# Rules\n\n| id | name | severity | finds |\n|---|---|---|---|\n{rows}", encoding="utf-8"
    )


if __name__ == "__main__":
    write_docs(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/rules"))
