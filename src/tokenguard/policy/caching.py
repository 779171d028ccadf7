"""`[[cache]]` and `[answers]`: whose answers are kept, for how long, and where."""

# ruff: noqa: RUF009 - `row` is `dataclasses.field` with a row of the grammar as metadata

from __future__ import annotations

from dataclasses import dataclass

from tokenguard.policy import kinds
from tokenguard.policy.grammar import NAME_SAYS, WHEN_SAYS, When, row
from tokenguard.policy.kinds import choice


@dataclass(frozen=True, slots=True)
class Cache:
    """Answers that are kept: a request that is equal to an earlier one gets its answer, and nothing is sent."""

    name: str = row(kinds.NAME, ..., NAME_SAYS)
    when: When = row(kinds.WHEN, When(), WHEN_SAYS + " The first `[[cache]]` that applies is the call's.")
    per: tuple[str, ...] = row(
        kinds.KEYS,
        ("tenant",),
        "Only calls with equal values of these keys share an answer; a call that lacks one is not looked up.",
    )
    ttl: float = row(kinds.DURATION, 3600.0, "How long an answer is kept.")
    match: str = row(
        choice("exact", "words", "meaning"),
        "exact",
        "`exact`: the same request. `words`: of a single-turn request the user's text may differ in case, punctuation, "
        "spacing and filler words; numbers, negations and everything else count. `meaning`: it may be said otherwise; "
        "numbers, negations and everything else count.",
    )
    version: str = row(kinds.NAME, "1", "Part of the key: answers of another version are not found.")
    encoder: str | None = row(
        kinds.CALLBACK,
        None,
        'For `match = "meaning"`: a function of yours from a list of texts to a list of vectors, or `model2vec:` with '
        "the name or folder of a model.",
    )
    encoder_version: str = row(kinds.NAME, "1", "Of the encoder, and part of the key: set another one when it changes.")
    serve: bool = row(
        kinds.FLAG,
        False,
        'For `match = "meaning"`, which else only watches. Needs the four values below, which `tokenguard cache eval` '
        "writes.",
    )
    threshold: float | None = row(
        kinds.SHARE, None, "How near (by cosine) a question must be to be taken for the same. Without one, 0.95."
    )
    wrong_share: float | None = row(
        kinds.SHARE, None, "The share of labelled pairs of different questions that it takes for the same."
    )
    pairs: int | None = row(kinds.POSITIVE, None, "How many labelled pairs it was found by.")
    judged: str | None = row(kinds.NAME, None, "The encoder that it was found for, and its version.")
    sampled: bool = row(
        kinds.FLAG,
        False,
        "Also calls whose temperature is not 0, of which one answer of several possible ones is given to all. A call "
        "that sets no temperature is sampled.",
    )
    tools: bool = row(kinds.FLAG, False, "Also requests that offer tools; an answer that calls one is never kept.")
    max_entry_kib: int = row(kinds.POSITIVE, 256, "Larger answers are not kept.")

    @property
    def encodes(self) -> str:
        """What a threshold holds for: the encoder, and its version."""
        return f"{self.encoder} {self.encoder_version}"


@dataclass(frozen=True, slots=True)
class AnswersConfig:
    """Where answers are kept."""

    url: str = row(
        kinds.LEDGER_URL,
        "memory:",
        "`memory:` is one process, `sqlite:///` the processes of one machine (relative to the policy file), "
        "`redis://` a fleet.",
    )
    max_mib: int = row(kinds.POSITIVE, 64, "The least recently used answers go when all of them are larger.")
    key_env: str = row(
        kinds.NAME,
        "TOKENGUARD_CACHE_KEY",
        "The environment variable with the secret that answers are encrypted and their keys made by, for SQLite and "
        "Redis. At least 16 characters; whoever has another one finds nothing.",
    )
    plain: bool = row(kinds.FLAG, False, "Keep answers unencrypted, and do without a secret.")
    on_loss: str = row(choice("miss"), "miss", "While answers cannot be reached, calls are sent.")
    timeout: float = row(kinds.DURATION, 0.05, "How long a look-up may take before it counts as a miss.")
