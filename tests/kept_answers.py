"""The policy under which tests of kept answers run: by feature, and sampled answers, too."""

KEEPS = """
[[cache]]
name = "kept"
per = ["feature"]
sampled = true
[attribution]
defaults = { feature = "faq" }
"""
