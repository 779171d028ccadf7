"""Policies under which tests of several rooms run."""

from __future__ import annotations

KEEPS = """
[[cache]]
name = "kept"
per = ["feature"]
sampled = true
[attribution]
defaults = { feature = "faq" }
"""
"""Answers are kept by feature, sampled ones, too."""


SHORT = """
[[limit]]
name = "short"
max_output_tokens = 7
then = "clamp"
"""
"""Every answer is cut to seven tokens."""


def short_and_cheap(model: str) -> str:
    """And every call goes to `model`."""
    return f"""{SHORT}
[[limit]]
name = "cheap"
max_input_tokens = 1
then = "downgrade"
downgrade_to = "{model}"
"""
