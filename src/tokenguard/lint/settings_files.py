"""Settings files that a program reads by a literal path: TOML, JSON, and YAML where PyYAML is installed.

`yaml.safe_load(open("config.yaml"))` is as good as the dict written out, if there is such a file beside the module, or
in a folder above it up to the project's root.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from tokenguard.lint.values import DEPTH, Values

if TYPE_CHECKING:
    from pathlib import Path

_LARGEST = 200_000  # bytes; a larger file is data
_LOADERS = {
    "yaml.safe_load": "yaml", "yaml.load": "yaml", "yaml.full_load": "yaml", "json.load": "json", "json.loads": "json",
    "tomllib.load": "toml", "tomllib.loads": "toml", "tomli.load": "toml", "tomli.loads": "toml", "toml.load": "toml",
}  # fmt: skip
_OPENERS = frozenset({"open", "read", "read_text", "read_bytes", "resolve", "absolute"})


def parsed(values: Values, call: ast.Call, path: str) -> ast.expr | None:
    """What `call`, whose function is `path`, loads from a file, as an expression; None if that is not certain."""
    kind = _LOADERS.get(path)
    name = _literal_path(values, call.args[0]) if kind and call.args else None
    file = _find(values, name) if name else None
    if kind is None or file is None:
        return None
    try:
        if file.stat().st_size > _LARGEST:
            return None
        tree = ast.parse(repr(_load(kind, file.read_text(encoding="utf-8"))), mode="eval")
    except (OSError, ValueError, SyntaxError, RecursionError, ImportError):
        return None
    return tree.body


def _load(kind: str, text: str) -> Any:
    if kind == "json":
        import json

        return json.loads(text)
    if kind == "toml":
        import tomllib

        return tomllib.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _literal_path(values: Values, node: ast.expr, depth: int = 0) -> str | None:
    """The path of the file that `node` opens or reads, as written."""
    if depth > DEPTH:
        return None
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Call(func=ast.Name(id="open" | "Path") | ast.Attribute(attr="Path"), args=[first, *_]):
            return _literal_path(values, first, depth + 1)
        case (
            ast.Call(func=ast.Attribute(attr="join" | "joinpath"), args=[*_, last])
            | ast.BinOp(op=ast.Div(), right=last)
        ):
            return _literal_path(values, last, depth + 1) if "__file__" in ast.unparse(node) else None
        case ast.Call(func=ast.Attribute(value=value, attr=attr)) if attr in _OPENERS:
            return _literal_path(values, value, depth + 1)
        case ast.Name(id=name):
            found = values.module.scope_at(node).lookup(name)
            around = set(values.module.ancestors(node))
            bindings = found[1] if found else []
            near = [b for b in bindings if b.kind == "with" and b.node in around] or bindings  # each `as f` is its own
            binding = near[0] if len(near) == 1 else None
            if binding is not None and binding.kind in ("assign", "with") and binding.value is not None:
                return _literal_path(values, binding.value, depth + 1)
    return None


def _find(values: Values, name: str) -> Path | None:
    """The file of that name beside the module, or in the nearest folder above it that has it."""
    if values.project is None or not values.module.path or values.module.path == "-":
        return None
    from pathlib import Path

    for folder in list(Path(values.module.path).absolute().parents)[:8]:
        file = folder / name
        values.project.consulted.add(str(file))
        if file.is_file():
            return file
        if (folder / "pyproject.toml").exists() or (folder / ".git").exists():
            break
    return None
