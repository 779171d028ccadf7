"""Patterns that several parts of the linter look for."""

from __future__ import annotations

from tokenguard.facts.patterns import lazy

TEMPLATE = lazy(rb"\b(?:[tT][rR]?|[rR][tT])[\"']")
"""Where a template string may begin (PEP 750)."""
