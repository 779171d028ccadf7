"""Reads syntax that is newer than the Python this runs on, by writing it as older code that means the same to a linter.

libcst's parser knows the newest grammar. Type parameters and `type` statements (PEP 695, 696), quotes and backslashes
within f-strings (701), template strings (750) and `except A, B:` (758) are written the old way, line by line where they
were; columns behind them may move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libcst as cst

_QUOTES = ("'", '"', "'''", '"""')


def older(source: bytes) -> bytes | None:
    """`source` in the grammar of Python 3.11; None if it is no Python of any version that is known."""
    import libcst as cst

    try:
        tree = cst.parse_module(source)
        written = tree.visit(_writer()).code
    except (cst.ParserSyntaxError, cst.CSTValidationError, UnicodeError, RecursionError):
        return None
    return written.encode()


def _writer() -> cst.CSTTransformer:
    """A transformer of trees; a function, because libcst is only imported where it is needed."""
    import libcst as cst

    class Writer(cst.CSTTransformer):
        def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:  # noqa: N802
            return updated_node.with_changes(type_parameters=None)

        def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> cst.ClassDef:  # noqa: N802
            return updated_node.with_changes(type_parameters=None)

        def leave_TypeAlias(self, original_node: cst.TypeAlias, updated_node: cst.TypeAlias) -> cst.Assign:  # noqa: N802
            return cst.Assign([cst.AssignTarget(updated_node.name)], updated_node.value)

        def leave_ExceptHandler(  # noqa: N802
            self, original_node: cst.ExceptHandler, updated_node: cst.ExceptHandler
        ) -> cst.ExceptHandler:
            if isinstance(updated_node.type, cst.Tuple) and not updated_node.type.lpar:
                errors = updated_node.type.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
                return updated_node.with_changes(type=errors)
            return updated_node

        def leave_TemplatedString(  # noqa: N802
            self, original_node: cst.TemplatedString, updated_node: cst.TemplatedString
        ) -> cst.BaseExpression:
            parts = [
                cst.FormattedStringText(part.value)
                if isinstance(part, cst.TemplatedStringText)
                else cst.FormattedStringExpression(part.expression)
                for part in updated_node.parts
                if isinstance(part, cst.TemplatedStringText | cst.TemplatedStringExpression)
            ]
            start = updated_node.start.replace("t", "f").replace("T", "F")
            return _requoted(cst.FormattedString(parts, start, updated_node.end, updated_node.lpar, updated_node.rpar))

        def leave_FormattedString(  # noqa: N802
            self, original_node: cst.FormattedString, updated_node: cst.FormattedString
        ) -> cst.BaseExpression:
            return _requoted(updated_node)

    return Writer()


def _requoted(node: cst.FormattedString) -> cst.BaseExpression:
    """An f-string in quotes that do not occur within it, whose expressions hold no backslashes."""
    import libcst as cst

    inner = cst.Module([])
    parts = []
    for part in node.parts:
        if isinstance(part, cst.FormattedStringExpression):
            part = part.with_changes(expression=part.expression.visit(_plain()))
        parts.append(part)
    node = node.with_changes(parts=parts)
    expressions = [inner.code_for_node(p) for p in parts if isinstance(p, cst.FormattedStringExpression)]
    if not any(node.end in code for code in expressions) and (len(node.end) == 3 or "\n" not in "".join(expressions)):
        return node
    texts = "".join(inner.code_for_node(part) for part in parts)
    quotes = next((q for q in _QUOTES[2:] if q not in texts and not texts.endswith(q[0])), None)
    if quotes is None:
        return cst.SimpleString('""')
    return node.with_changes(start=node.start.removesuffix(node.end) + quotes, end=quotes)


def _plain() -> cst.CSTTransformer:
    """Takes the backslashes out of strings."""
    import libcst as cst

    class Plain(cst.CSTTransformer):
        def leave_SimpleString(  # noqa: N802
            self, original_node: cst.SimpleString, updated_node: cst.SimpleString
        ) -> cst.SimpleString:
            return updated_node.with_changes(value=updated_node.value.replace("\\", "/"))

    return Plain()
