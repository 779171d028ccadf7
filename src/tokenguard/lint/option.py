"""What the options of `tokenguard lint` are, to its command line and to argparse."""

from __future__ import annotations

from collections.abc import Mapping

from tokenguard.facts.tuples import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal


class Option(NamedTuple):
    """An option: its names, what `--help` says, and how it is read into its field of `Options`.

    A `flag` sets its field to `sets`; a `value` is the next word; `words` are gathered, each by `type`, over all uses;
    `maybe` is a value that may be left out.
    """

    names: tuple[str, ...]
    says: str
    kind: Literal["flag", "value", "words", "maybe"] = "flag"
    metavar: str | None = None
    type: Any = str
    choices: tuple[str, ...] = ()
    to: str = ""
    sets: bool = True

    @property
    def field(self) -> str:
        """The name of its field."""
        return self.to or self.names[-1].lstrip("-").replace("-", "_")


class Command(NamedTuple):
    """A command line: its name, what `--help` says before and behind the options, the options in their groups."""

    name: str
    says: str
    ends: str
    options: Mapping[str, tuple[Option, ...]]
    paths: bool = False
    """Whether it takes paths."""
