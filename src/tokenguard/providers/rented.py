"""What is rented by time: OpenAI's vector stores and containers; and jobs that tune a model, billed when they are done.

https://developers.openai.com/api/docs/pricing, https://developers.openai.com/api/docs/guides/retrieval,
https://developers.openai.com/api/docs/guides/supervised-fine-tuning
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenguard.facts.usage import Usage
from tokenguard.providers.api import Api, Rental
from tokenguard.providers.reading import Reading, Rent, count, fields, text
from tokenguard.providers.units import Units
from tokenguard.providers.words import Words

CONTAINER_SECONDS = 1200.0
"""Of a container's session, which it is billed by."""
DONE = frozenset({"succeeded", "completed"})
FAILED = frozenset({"failed", "error", "user_error", "cancelled"})


def read_store(response: object) -> Reading:
    """A vector store: so many bytes, until it expires (some days after it was last used) or is deleted."""
    body = fields(response)
    size, until = count(body.get("usage_bytes")), count(body.get("expires_at"))
    since = count(body.get("last_active_at")) or count(body.get("created_at"))
    seconds = None if until is None or since is None else float(max(until - since, 0))
    rent = None if size is None or body.get("status") == "expired" else Rent(size, seconds)
    return Reading(Usage(megabyte_days=0), resource=text(body.get("id")), until=until, rent=rent)


def read_container(response: object) -> Reading:
    """A container: a session from the start, and another for each twenty minutes until it is idle for too long."""
    body = fields(response)
    minutes = count(fields(body.get("expires_after")).get("minutes"))
    seconds = CONTAINER_SECONDS if minutes is None else minutes * 60.0
    used = count(body.get("last_active_at")) or count(body.get("created_at"))
    return Reading(
        Usage(request=1),
        resource=text(body.get("id")),
        until=None if used is None else used + seconds,
        variant=text(body.get("memory_limit")),
        rent=None if body.get("status") == "expired" else Rent(1, seconds),
    )


def read_tuning(response: object) -> Reading:
    """A job: asked for until it is done, and told then how many tokens it took; Together tells the price."""
    body = fields(response)
    status = text(body.get("status"))
    trained = body.get("trained_tokens", body.get("token_count"))
    price, done = body.get("total_price"), status in DONE or status in FAILED
    return Reading(
        usage=Usage(trained_tokens=count(trained)) if done and trained is not None else None,
        model=text(body.get("model")),
        id=text(body.get("id")),
        finish_reasons=(status,) if status else (),
        error=(text(fields(body.get("error")).get("code")) or status) if status in FAILED else None,
        complete=done,
        reported_cost=price / 1e9 if isinstance(price, int) and done else None,
    )


STORE = Api(
    "vector_store",
    "create_vector_store",
    ("/vector_stores",),
    (),
    read_store,
    lambda events: Reading(),
    Words(texts=("name", "description")),
    changes=True,
    default_model="vector-store",
    units=Units(lambda body: Usage(megabyte_days=0)),
    rental=Rental("vector_stores", "megabyte_days", 1 / (10**6 * 86_400)),
)
CONTAINER = Api(
    "container",
    "create_container",
    ("/containers",),
    (),
    read_container,
    lambda events: Reading(),
    Words(texts=("name",)),
    changes=True,
    default_model="container",
    units=Units(lambda body: Usage(request=1), variant=lambda body: text(body.get("memory_limit")) or "1g"),
    rental=Rental("containers", "request", 1 / CONTAINER_SECONDS),
)
TUNING = Api(
    "fine_tuning",
    "fine_tuning",
    ("/fine_tuning/jobs", "/fine-tunes"),
    (),
    read_tuning,
    lambda events: Reading(),
    Words(texts=("suffix",)),
    changes=True,
    units=Units(lambda body: Usage()),
)
"""What a job may come to is told by nobody before it is done."""


def read_rent(told: object) -> Reading:
    """What has been rented since it was told last, as `metering.rents` has it."""
    said = fields(told)
    usage, until = said.get("usage"), said.get("until")
    return Reading(
        usage if isinstance(usage, Usage) else None,
        resource=text(said.get("resource")),
        until=until if isinstance(until, int | float) else None,
        variant=text(said.get("variant")),
        basis=text(said.get("basis")),
    )


def _rented(body: Mapping[str, Any]) -> Usage:
    usage = body.get("usage")
    return usage if isinstance(usage, Usage) else Usage()


RENT = Api(
    "rent",
    "rent",
    (),
    (),
    read_rent,
    lambda events: Reading(),
    Words(texts=("resource",)),
    changes=True,
    units=Units(_rented, variant=lambda body: text(body.get("variant"))),
)
"""The storage of what is rented, as time passes."""

APIS = (STORE, CONTAINER, TUNING, RENT)
