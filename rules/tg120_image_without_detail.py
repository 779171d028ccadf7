"""An image is sent to OpenAI without saying how closely it is to be looked at.

Without `detail` the API chooses for you (`auto`), and a photo from a phone is mostly taken apart into tiles: for
gpt-4.1, 765 input tokens for 1024 x 1024 pixels, where `low` costs 85. To tell a receipt from a cat, `low` will do. To
read small print, say `high`: then it is a choice that the next reader can see.

A note, not a fault. Only files that make a client of OpenAI, without a `base_url`, are looked at.

Bad:

    from openai import OpenAI

    client = OpenAI()

    def kind_of(url):
        return client.chat.completions.create(
            model="gpt-4.1-mini",
            max_completion_tokens=20,
            messages=[{"role": "user", "content": [
                {"type": "text", "text": "A receipt, or something else?"},
                {"type": "image_url", "image_url": {"url": url}},  # TG120
            ]}],
        )

    def image(url):
        return {"type": "input_image", "image_url": url}  # TG120

Good:

    from openai import OpenAI

    client = OpenAI()

    def kind_of(url):
        return client.chat.completions.create(
            model="gpt-4.1-mini",
            max_completion_tokens=20,
            messages=[{"role": "user", "content": [
                {"type": "text", "text": "A receipt, or something else?"},
                {"type": "image_url", "image_url": {"url": url, "detail": "low"}},  # TG120
            ]}],
        )

    def image(url):
        return {"type": "input_image", "image_url": url, "detail": "low"}  # TG120
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tokenguard.lint.finding import Edit, Fix, Span
from tokenguard.lint.rulebook import File, Report

SEVERITY = "info"
WORDS = (("image_url", "openai"),)
_CLIENTS = ("OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI", "ChatOpenAI", "AzureChatOpenAI")
_ELSEWHERE = (None, "base_url", "openai_api_base")  # another server may know nothing of `detail`
_MESSAGE = (
    "The API chooses how closely to look at this image, and pays attention by the tile. Set detail to low, or high."
)


def check(file: File) -> Iterator[Report]:
    """Report image parts in OpenAI's format that name no detail, where the file makes OpenAI's own client."""
    clients = list(file.module.calls_of(_CLIENTS))
    if not clients or any(k.arg in _ELSEWHERE for call in clients for k in call.keywords):
        return
    for node in file.module.all(ast.Dict):
        assert isinstance(node, ast.Dict)
        parts = _parts(node)
        kind = file.constant(parts.get("type"))
        holder = parts.get("image_url") if kind == "image_url" else node if kind == "input_image" else None
        if not isinstance(holder, ast.Dict) or "image_url" not in parts or None in holder.keys:
            continue
        given = _parts(holder)
        if "detail" not in given and ("url" in given or holder is node):
            fix = Fix("Set detail to low", (Edit("set", Span.of(holder), "detail", '"low"'),))
            yield Report(node, _MESSAGE, None, fix)


def _parts(node: ast.Dict) -> dict[str, ast.expr]:
    return {
        k.value: v
        for k, v in zip(node.keys, node.values, strict=True)
        if isinstance(k, ast.Constant) and isinstance(k.value, str)
    }
