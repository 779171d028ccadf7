"""What the end-to-end test runs under `tokenguard-instrument`: the demo's application, and what it leaves out.

    python product.py ROUNDS

Then it stays for a moment, as a server does, so that its last metrics are exported more than once.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time

import openai

import tokenguard
from tokenguard.demo import guarded, workload


def routes(client):
    """More routes than the policy lets be labels."""
    for n in range(40):
        with (
            tokenguard.attribution(tenant="acme", feature="search", route=f"/item/{n}", team="web"),
            contextlib.suppress(tokenguard.BudgetExceeded),
        ):
            client.embeddings.create(model="text-embedding-3-small", input="a short text")


def unknown_model(client):
    """A model that no price list knows."""
    with tokenguard.attribution(tenant="globex", feature="lab", team="research"):
        client.chat.completions.create(model="house-model", messages=[{"role": "user", "content": "Hello"}])


def pictures(client):
    """What is billed by the image."""
    with tokenguard.attribution(tenant="acme", feature="pictures", team="web"):
        client.images.generate(model="dall-e-3", prompt="A coat", n=2)


def kept(client):
    """A question that is asked again, and answered with what was kept."""
    with tokenguard.attribution(tenant="acme", feature="kept", team="web"):
        for _ in range(3):
            messages = [{"role": "user", "content": "Which sizes are there?"}]
            client.chat.completions.create(model="gpt-4.1-nano", messages=messages, temperature=0)


def outage():
    """A provider that is not there; a breaker opens."""
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", max_retries=0) as client,
        tokenguard.attribution(tenant="initech", feature="outage"),
    ):
        for _ in range(4):
            with contextlib.suppress(openai.APIConnectionError, tokenguard.CircuitOpen):
                client.chat.completions.create(model="gpt-4.1-nano", messages=[{"role": "user", "content": "Hello"}])


def main():
    for _ in range(int(sys.argv[1])):
        asyncio.run(workload.main())
    with openai.OpenAI(max_retries=0) as client:
        routes(client)
        unknown_model(client)
    with openai.OpenAI(max_retries=5) as client:
        pictures(client)
        kept(client)
    outage()
    guarded.main()
    time.sleep(3.5)


if __name__ == "__main__":
    main()
