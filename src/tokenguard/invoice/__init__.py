"""The invoice: what providers say they billed, read from their reports or files, held against what was measured."""
