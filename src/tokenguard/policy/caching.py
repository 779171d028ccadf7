"""`[[cache]]` and `[answers]`: whose answers are kept, for how long, and where."""

from __future__ import annotations

from tokenguard.facts.frozen import dataclass
from tokenguard.policy import kinds
from tokenguard.policy.grammar import NAME_SAYS, WHEN_SAYS, When, row
from tokenguard.policy.kinds import choice


@dataclass(frozen=True, slots=True)
class Cache:
    """The answer cache: a request that is equal to an earlier one gets the earlier answer, and nothing is sent."""

    name: str = row(kinds.NAME, ..., NAME_SAYS)
    when: When = row(kinds.WHEN, When(), WHEN_SAYS + " The first `[[cache]]` that matches a call applies.")
    per: tuple[str, ...] = row(
        kinds.KEYS,
        ("tenant",),
        "Only calls with equal values of these keys share an answer; a call that lacks one is not looked up.",
    )
    ttl: float = row(kinds.DURATION, 3600.0, "How long an answer is kept.")
    match: str = row(
        choice("exact", "words", "meaning"),
        "exact",
        "`exact`: the same request. `words`: in a single-turn request the user's text may differ in case, punctuation, "
        "spacing, articles and courtesies; all other words and everything else must be equal. `meaning`: other words "
        "with the "
        "same meaning match too; numbers, negations and everything else must be equal.",
    )
    version: str = row(kinds.NAME, "1", "Part of the key: answers of another version are not found.")
    encoder: str | None = row(
        kinds.ENCODER,
        None,
        'For `match = "meaning"`: your own function from a list of texts to a list of vectors, or `model2vec:` with '
        "the name or folder of a model.",
    )
    encoder_version: str = row(
        kinds.NAME, "1", "The version of the encoder; part of the key. Change it when the encoder changes."
    )
    serve: bool = row(
        kinds.FLAG,
        False,
        'For `match = "meaning"`, which otherwise only observes. Needs the four values below, which `tokenguard '
        "cache eval` "
        "writes.",
    )
    threshold: float | None = row(
        kinds.SHARE, None, "The cosine similarity from which two questions count as the same. 0.95 if not set."
    )
    wrong_share: float | None = row(
        kinds.SHARE,
        None,
        "The share of labelled pairs of different questions that count as the same at this threshold.",
    )
    pairs: int | None = row(kinds.POSITIVE, None, "How many labelled pairs the threshold was found with.")
    judged: str | None = row(kinds.NAME, None, "The encoder, and its version, for which the threshold was found.")
    sampled: bool = row(
        kinds.FLAG,
        False,
        "`true`: also calls whose temperature is not 0 or not set. All of them get the same one of several possible "
        "answers.",
    )
    tools: bool = row(
        kinds.FLAG, False, "`true`: also requests that offer tools. An answer that calls a tool is never kept."
    )
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
        "`memory:` is for one process, `sqlite:///` for the processes of one machine (a path relative to the policy "
        "file), `redis://` for a fleet.",
    )
    max_mib: int = row(kinds.POSITIVE, 64, "The size of all kept answers. The least recently used are removed first.")
    key_env: str = row(
        kinds.NAME,
        "TOKENGUARD_CACHE_KEY",
        "The environment variable with the secret for SQLite and Redis, which encrypts answers and hashes their "
        "keys. At "
        "least 16 characters. A process with another secret finds no answers.",
    )
    plain: bool = row(kinds.FLAG, False, "`true`: keep answers unencrypted, without a secret.")
    on_loss: str = row(choice("miss"), "miss", "If the answers cannot be reached, calls are sent.")
    timeout: float = row(kinds.DURATION, 0.05, "How long a look-up may take before it counts as a miss.")
