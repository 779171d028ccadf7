"""`tokenguard batches`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from tokenguard.facts import names
from tokenguard.facts.printed import document

if TYPE_CHECKING:
    from tokenguard.store.jobs import Job

NONE_OPEN: Final = "No batch waits to be collected{}. `tokenguard batches --all` shows those that were."
WHOSE: Final = ("tenant", "feature", "team")


@click.command()
@click.option("--all", "every", is_flag=True, help="Also list jobs whose results were read, of the last 60 days.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def batches(every: bool, form: str) -> None:
    """List the batch jobs whose results were not read to their end: worst-case cost, age, attribution.

    The cost of a batch is known when its results are read. Its progress is what its program last heard.
    """
    path = names.store_path(os.environ.get(names.ENV_STORE))
    jobs = [job for job in _jobs(path) if every or waits(job)]
    if form == "json":
        click.echo(document({"batches": [facts(job) for job in jobs]}))
    elif jobs:
        _print(jobs)
    else:
        click.echo(NONE_OPEN.format(f" in {path}" if path else f": {names.ENV_STORE} switches the local store off"))


def _jobs(path: str | None) -> list[Job]:
    from tokenguard.store.jobs import Jobs

    if path is None or not Path(path).exists():
        return []
    jobs = Jobs(path)
    try:
        return jobs.all()
    finally:
        jobs.close()


def waits(job: Job) -> bool:
    """Whether a job is yet to be collected: it goes on, or has ended with answers that nobody has read."""
    return job.collected_ns is None and (job.open or bool(job.output) or bool(job.done))


def facts(job: Job) -> dict[str, Any]:
    """A job as JSON: USD, seconds, Unix nanoseconds."""
    told = {key: value for key, value in asdict(job).items() if key not in ("attributes", "held", "groups")}
    own = {key: job.attributes.get(names.attribution_attribute(key)) for key in names.ATTRIBUTION_KEYS}
    return {
        **told,
        "models": [group.model for group in job.groups],
        "may_cost_usd": None if job.nano is None else job.nano / 1e9,
        "held_usd": sum(each.nano for each in job.held) / 1e9,
        "age_s": round(time.time() - job.created_ns / 1e9),
        "attribution": {key: value for key, value in own.items() if value is not None},
        "task": job.attributes.get(names.TASK),
    }


def _print(jobs: Sequence[Job]) -> None:
    from rich.text import Text

    from tokenguard.report.grid import Column, name, print_grid
    from tokenguard.report.labels import NO_VALUE
    from tokenguard.report.numbers import usds
    from tokenguard.report.terminal import console

    def texts(values: Sequence[str]) -> list[Text]:
        return [Text(value) for value in values]

    columns = [
        Column("batch", [name(job.id) for job in jobs], name=True),
        Column("model", [name(_models(job) or NO_VALUE) for job in jobs], name=True),
        Column("whose", [name(_whose(job) or NO_VALUE) for job in jobs], name=True),
        Column("state", texts([_state(job) for job in jobs])),
        Column("done", texts([_done(job) for job in jobs]), 60),
        Column("age", texts([_age(time.time() - job.created_ns / 1e9) for job in jobs]), 80),
        Column("may cost", texts(usds([None if job.nano is None else job.nano / 1e9 for job in jobs]))),
        Column("created at", [name(_site(job) or NO_VALUE) for job in jobs], 50, name=True),
    ]
    print_grid(console(), columns)


def _models(job: Job) -> str:
    return ", ".join(sorted({group.model for group in job.groups if group.model}))


def _whose(job: Job) -> str:
    own = [(key, job.attributes.get(names.attribution_attribute(key))) for key in WHOSE]
    own.append(("task", job.attributes.get(names.TASK)))
    return " ".join(f"{key}={value}" for key, value in own if value is not None)


def _state(job: Job) -> str:
    if job.collected_ns is not None:
        return "collected"
    return job.state if job.open else f"{job.state}, not read"


def _done(job: Job) -> str:
    total = job.total or sum(group.lines for group in job.groups) or None
    return f"{job.done or 0:,} / {total:,}" if total else ""


def _age(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _site(job: Job) -> str:
    file = job.attributes.get(names.CODE_FILE)
    return "" if file is None else f"{Path(str(file)).name}:{job.attributes.get(names.CODE_LINE, 0)}"
