"""Two examples for the help of each command."""

from __future__ import annotations

from typing import Final

import click

EXAMPLES: Final = {
    "init": ("tokenguard init --dry-run", "tokenguard init --yes ."),
    "demo": ("tokenguard demo", "COLUMNS=160 tokenguard demo"),
    "report": (
        "tokenguard report --by feature,model --since 7d",
        "tokenguard report --by tenant,day --where 'feature=support_*' --format csv",
    ),
    "whatif": (
        "tokenguard whatif --suggest -o proposal.toml",
        "tokenguard whatif --policy proposal.toml --since 30d",
    ),
    "compare": (
        "tokenguard compare prompt_version=v13 prompt_version=v14 --task resolve_ticket",
        "tokenguard compare model=gpt-4o model=gpt-4o-mini --where feature=triage",
    ),
    "calls": ("tokenguard calls --sort latency --since 24h", "tokenguard calls --failed --where feature=support_bot"),
    "reconcile": (
        "tokenguard reconcile --from openai --since 30d",
        "tokenguard reconcile --bill bill.csv --by day,model",
    ),
    "calls show": ("tokenguard calls show 3f9a", "tokenguard calls show 3f9a --format json"),
    "batches": ("tokenguard batches", "tokenguard batches --all --format json"),
    "cache stats": ("tokenguard cache stats", "tokenguard cache stats --format json"),
    "cache eval": ("tokenguard cache eval pairs.jsonl", "tokenguard cache eval pairs.jsonl --max-wrong 0.005"),
    "cache clear": ("tokenguard cache clear --rule 'faq answers'", "tokenguard cache clear --tenant acme"),
    "dashboard": ("tokenguard dashboard", "tokenguard dashboard --source .tokenguard/demo.db --port 0 --no-open"),
    "prices": ("tokenguard prices gpt-4o", "tokenguard prices --check"),
    "store prune": ("tokenguard store prune --keep 90d", "tokenguard store prune --keep 30d"),
    "store export": ("tokenguard store export --out usage", "tokenguard report --source usage"),
    "store ddl": ("tokenguard store ddl clickhouse", "tokenguard store ddl clickhouse --attributes json"),
    "policy check": ("tokenguard policy check", "tokenguard policy check proposal.toml"),
    "policy init": ("tokenguard policy init", "tokenguard policy init staging.toml --source .tokenguard/usage.db"),
    "policy schema": ("tokenguard policy schema", "tokenguard policy schema -o tokenguard.schema.json"),
    "policy try": (
        "tokenguard policy try --model gpt-4o --feature support_bot --input 9000",
        "tokenguard policy try proposal.toml --model gpt-4o --tool-steps 9 --format json",
    ),
    "policy show": ("tokenguard policy show", "tokenguard policy show staging.toml"),
    "budgets": ("tokenguard budgets", 'tokenguard budgets --reset "tenant per day"'),
    "grafana export": (
        "tokenguard grafana export monitoring",
        "tokenguard grafana export monitoring --grafana https://grafana.example.com",
    ),
    "doctor": ("tokenguard doctor", "tokenguard doctor --format json"),
    "schema": ("tokenguard schema", "tokenguard schema calls show"),
    "lint": ("tokenguard lint src", "tokenguard lint --fix --diff"),
    "ci comment": (
        "tokenguard ci comment --base origin/main",
        "tokenguard ci comment src --policy tokenguard.toml --source usage.db -o comment.md",
    ),
    "explain": ("tokenguard explain", "tokenguard explain TG102"),
}
"""By the command's path, without `tokenguard`."""


def explain(command: click.Command, path: str) -> click.Command:
    """`command` with its examples at the end of its help, its subcommands too."""
    if isinstance(command, click.Group):
        for name, inside in command.commands.items():
            explain(inside, f"{path} {name}")
    if command.epilog is None and (examples := EXAMPLES.get(path)):
        command.epilog = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
    return command
