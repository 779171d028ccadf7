"""What a value of the policy file may be: one `Kind` each, the words for it and the function that reads it.

A reader takes what `tomllib` made of the value and returns what the policy holds, or raises `Wrong` with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, Final
from urllib.parse import urlsplit

from tokenguard.facts.frozen import dataclass
from tokenguard.prices.overrides import OVERRIDE_KEYS, STATED_KEYS, fault

MAX_USD: Final = 9_000_000.0
"""The largest amount a rule may name: Redis scripts count in doubles, exact up to 2**53 nano-dollars."""
MAX_COUNT: Final = 2**53 - 1
MAX_TEXT: Final = 200
"""The longest name, glob or attribution value, in characters."""


class Wrong(Exception):
    """The value cannot be used: `why`, and under which of its own keys or positions (`at`)."""

    def __init__(self, why: str, *at: str | int) -> None:
        super().__init__(why)
        self.why = why
        self.at = at


@dataclass(frozen=True, slots=True)
class Kind:
    """What a value may be."""

    words: str
    """For messages and the reference: "one of "warn", "block""."""
    read: Callable[[Any], Any]
    mask: Callable[[str], str] = str
    """How the value is shown where others may look on: URLs lose their secrets."""
    schema: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What a JSON Schema can say of it; `read` may know more."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence: an offer of the one of `known` that is nearest to `word`, or a full stop."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else "."


# --- readers ----------------------------------------------------------------------------------------------------------


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong("it must be a string in quotes")
    if not value or len(value) > MAX_TEXT or not value.isprintable():
        raise Wrong(f"it must have 1 to {MAX_TEXT} printable characters")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong("it must be true or false, without quotes")
    return value


def _number(value: object, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Wrong("it must be a number, without quotes")
    if not math.isfinite(value) or not low <= value <= high:
        raise Wrong(f"it must lie between {low:,.16g} and {high:,.16g}")
    return value


def _count(low: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise Wrong("it must be a whole number, without quotes")
        return int(_number(value, low, MAX_COUNT))

    return read


def _choice(*choices: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in choices or not isinstance(value, str):
            raise Wrong(f"it must be one of {_listed(choices)}{nearest(str(value), choices)}")
        return value

    return read


_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration(value: object) -> float:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(ms|[smhd])", value.strip())
        if match is None:
            raise Wrong('it must be seconds, or a string like "50ms", "30s", "10m", "2h" or "1d"')
        value = float(match[1]) * _UNITS[match[2]]
    seconds = float(_number(value, 0, 31 * 86400))
    if seconds <= 0:
        raise Wrong("it must be longer than 0 s")
    return seconds


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)


def _several(one: Callable[[object], Any]) -> Callable[[object], tuple[Any, ...]]:
    def read(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise Wrong("it must be a list in square brackets")
        if len(value) > 100:
            raise Wrong(f"it has {len(value)} entries, the most is 100")
        out = tuple(_nested(one, item, index) for index, item in enumerate(value))
        if len(set(out)) != len(out):
            raise Wrong("it names the same thing twice")
        return out

    return read


def _nested(one: Callable[[Any], Any], value: object, *at: str | int) -> Any:
    try:
        return one(value)
    except Wrong as wrong:
        raise Wrong(wrong.why, *at, *wrong.at) from None


def _table(value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Wrong("it must be a table: { key = value }")
    return value


def _plain(value: Any) -> Any:
    """The value, if a file could hold it: TOML has no word for nothing."""
    if value is None:
        raise Wrong("TOML has no value for None: leave the key out")
    if isinstance(value, Mapping):
        for key, member in value.items():
            _at(key, member)
    elif isinstance(value, list | tuple):
        for position, member in enumerate(value):
            _at(position, member)
    return value


def _at(key: str | int, member: object) -> None:
    try:
        _plain(member)
    except Wrong as wrong:
        raise Wrong(wrong.why, key, *wrong.at) from None


def _glob(value: object) -> str:
    text = _text(value)
    if re.search(r"\[(?![^\]]+\])", text):
        raise Wrong('its "[" is never closed: write [abc] for one of these characters, or [[] for the bracket itself')
    return text


def _when(value: object) -> tuple[tuple[str, tuple[str, ...]], ...]:
    rows = []
    for key, patterns in _table(value).items():
        if not isinstance(patterns, list | tuple):
            rows.append((key, (_nested(_glob, patterns, key),)))
        elif patterns:
            rows.append((key, tuple(_nested(_glob, glob, key, index) for index, glob in enumerate(patterns))))
        else:
            raise Wrong("an empty list matches nothing, so the rule would never apply; remove the key", key)
    return tuple(rows)


def _texts(value: object) -> dict[str, str]:
    return {key: _nested(_text, text, key) for key, text in _table(value).items()}


def _timezone(value: object) -> str:
    import zoneinfo

    name = _text(value)
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # ZoneInfoNotFoundError is a KeyError
        known = zoneinfo.available_timezones()
        missing = "" if known else ' (this machine has no time zone data: "pip install tzdata")'
        raise Wrong(f'no such IANA time zone{nearest(name, known)} Names look like "Europe/Berlin"{missing}') from None
    return name


def _url(*schemes: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() or len(value) > 2000:
            raise Wrong("it must be a URL in quotes")
        try:
            parts = urlsplit(value)
            has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError as error:
            raise Wrong(f"not a URL: {error}") from None
        if "sentinel" in parts.scheme and "redis" in schemes:
            raise Wrong('Sentinel is not asked for its master; name the master itself: "redis://host:6379/0"')
        if parts.scheme not in schemes:
            raise Wrong(f"its scheme must be one of {_listed(schemes)}{nearest(parts.scheme or value, schemes)}")
        if parts.scheme == "memory" and value != "memory:":
            raise Wrong('there is no path in memory; write "memory:"')
        if parts.scheme == "sqlite" and not (value.startswith("sqlite:///") and value[10:].strip("/")):
            raise Wrong("SQLite needs a file: sqlite:///relative/path.db or sqlite:////absolute/path.db")
        if parts.scheme == "unix" and not parts.path:
            raise Wrong("it needs the socket's path: unix:///run/redis.sock")
        if parts.scheme not in ("memory", "sqlite", "unix") and not has_host:
            raise Wrong(f'it needs a host: "{parts.scheme}://host"')
        return value

    return read


def _callback(value: object) -> str:
    text = _text(value)
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", text):
        raise Wrong('it must name a function as "package.module:function"')
    return text


STATIC: Final = "model2vec:"
"""Before the name or folder of a static model, in the place of a function."""


def _encoder(value: object) -> str:
    text = _text(value)
    if text.startswith(STATIC) and text.removeprefix(STATIC).strip():
        return text
    try:
        return _callback(text)
    except Wrong as wrong:
        raise Wrong(f'{wrong}, or a model as "{STATIC}NAME OR FOLDER"') from None


FAILURE_WORDS: Final = ("length", "schema", "refusal")


def _failure(value: object) -> str:
    text = _text(value)
    if ":" in text:
        return _callback(text)
    try:
        return _choice(*FAILURE_WORDS)(text)
    except Wrong as wrong:
        raise Wrong(f'{str(wrong).removesuffix(".")}, or a function of yours as "package.module:function"') from None


def _price(value: object) -> str | dict[str, float]:
    if isinstance(value, str):
        return _priced_name(value)
    rates = _table(value)
    for name in rates:
        if name not in STATED_KEYS:
            raise Wrong(f"no such rate{nearest(name, STATED_KEYS)} Rates are {', '.join(OVERRIDE_KEYS)}", name)
    if (wrong := fault(rates)) is not None:
        raise Wrong(wrong)
    return {name: float(_nested(lambda rate: _number(rate, 0, 1e9), rate, name)) for name, rate in rates.items()}


def _priced_name(value: object) -> str:
    text = _glob(value)
    provider, slash, model = text.partition("/")
    if not (slash and provider and model):
        raise Wrong('it must be "provider/model", such as "openai/gpt-4o-mini"')
    return text


def _prices(value: object) -> dict[str, str | dict[str, float]]:
    return {_nested(_priced_name, key, key): _nested(_price, price, key) for key, price in _table(value).items()}


def _hosts(value: object) -> dict[str, str]:
    return {_nested(_glob, host, host): _nested(_text, provider, host) for host, provider in _table(value).items()}


def _mask_credentials(url: str) -> str:
    return re.sub(r"://[^@/]*@", "://***@", url)


def _mask_path(url: str) -> str:  # a chat system's webhook carries its secret in the path
    return re.sub(r"^(\w+://)(?:[^/@]*@)?([^/]*).*$", r"\1\2/***", url)


# --- kinds ------------------------------------------------------------------------------------------------------------

_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}
_AMOUNT: Final = {"type": "number", "minimum": 0}
_TIME: Final = {
    "anyOf": [
        {"type": "number", "exclusiveMinimum": 0},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)? ?(ms|[smhd])\s*$"},
    ]
}
_LIST: Final = {"type": "array", "items": _TEXT, "uniqueItems": True, "maxItems": 100}
_TABLE: Final = {"type": "object", "additionalProperties": _TEXT}
_WHEN: Final = {
    "type": "object",
    "additionalProperties": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]},
}
_PRICES: Final = {
    "type": "object",
    "additionalProperties": {
        "anyOf": [
            _TEXT,
            {"type": "object", "properties": dict.fromkeys(STATED_KEYS, _AMOUNT), "additionalProperties": False},
        ]
    },
}

NAME: Final = Kind("text", _text, schema=_TEXT)
MODEL: Final = Kind("a model's name", _text, schema=_TEXT)
FLAG: Final = Kind("true or false", _flag, schema={"type": "boolean"})
POSITIVE: Final = Kind("whole number, at least 1", _count(1), schema={"type": "integer", "minimum": 1})
COUNT: Final = Kind("whole number, at least 0", _count(0), schema={"type": "integer", "minimum": 0})
USD: Final = Kind("USD, at least 0", lambda value: float(_number(value, 0, MAX_USD)), schema=_AMOUNT)
RATE: Final = Kind("USD per million tokens", lambda value: float(_number(value, 0, 1e6)), schema=_AMOUNT)
SHARE: Final = Kind("number from 0 to 1", lambda value: float(_number(value, 0, 1)), schema={**_AMOUNT, "maximum": 1})
DURATION: Final = Kind('seconds, or "30s", "10m", "2h"', _duration, schema=_TIME)
THRESHOLDS: Final = Kind(
    "list of shares of the limit, such as [0.5, 1.0]",
    lambda value: tuple(sorted(_several(lambda item: float(_number(item, 0.001, 10)))(value))),
    schema={"type": "array", "items": {"type": "number", "minimum": 0.001, "maximum": 10}, "uniqueItems": True},
)
KEYS: Final = Kind("list of attribution keys", _several(_text), schema=_LIST)
GLOBS: Final = Kind("list of globs", _several(_glob), schema=_LIST)
TEXTS: Final = Kind("table of texts", _texts, schema=_TABLE)
WHEN: Final = Kind("table of globs, or lists of globs", _when, schema=_WHEN)
TIMEZONE: Final = Kind("IANA time zone", _timezone, schema=_TEXT)
LEDGER_URL: Final = Kind(
    '"memory:", "sqlite:///path" or "redis://host:port/db"',
    _url("memory", "sqlite", "redis", "rediss", "unix"),
    _mask_credentials,
    {"type": "string", "pattern": "^(memory:$|sqlite:///|redis://|rediss://|unix://)"},
)
WEBHOOK: Final = Kind("http(s) URL", _url("https", "http"), _mask_path, {"type": "string", "pattern": "^https?://"})
FAILURES: Final = Kind(f"list of {_listed(FAILURE_WORDS)} and functions", _several(_failure))
ENCODER: Final = Kind(
    f'"package.module:function" or "{STATIC}name"', _encoder, schema={"type": "string", "pattern": "^[^:]+:.+$"}
)
CALLBACK: Final = Kind('"package.module:function"', _callback, schema={"type": "string", "pattern": "^[^:]+:[^:]+$"})
CODE: Final = (CALLBACK, ENCODER)
"""What names code that is run."""
PRICES: Final = Kind("table of prices", _prices, schema=_PRICES)
HOSTS: Final = Kind("table of hosts", _hosts, schema=_TABLE)
OPAQUE: Final = Kind("table", lambda value: dict(_plain(_table(value))), schema={"type": "object"})


def choice(*choices: str) -> Kind:
    """One of a few words."""
    return Kind("one of " + _listed(choices), _choice(*choices), schema={"enum": list(choices)})
