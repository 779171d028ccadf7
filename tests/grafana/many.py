"""Ten thousand tenants, and some of them on many routes: more label sets than a metric can have."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import tokenguard
from canned import MESSAGES, openai_client

TENANTS = 10_000
BUSY, ROUTES = 100, 20
"""The first so many tenants call once more on each of so many routes."""


def call(client, tenant, route):
    with tokenguard.attribution(tenant=f"t{tenant}", feature="chat", route=route):
        client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES)


def main():
    client = openai_client()
    for n in range(TENANTS):
        call(client, n, "/")
    for n in range(BUSY * ROUTES):
        call(client, n % BUSY, f"/{n // BUSY}")
    time.sleep(2.5)


if __name__ == "__main__":
    main()
