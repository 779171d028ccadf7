"""An answer as it is kept: what came, when, and until when; as bytes, sealed or with a checksum."""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, Protocol

from tokenguard.call.kept import HttpAnswer
from tokenguard.facts.errors import PolicyError
from tokenguard.facts.tuples import NamedTuple

FORMAT: Final = 2
LEAST_SECRET: Final = 16
"""Characters of a secret, at least."""


class Entry(NamedTuple):
    """A kept answer."""

    answer: HttpAnswer
    kept_at: float
    """Unix seconds."""
    expires: float
    hides_usage: bool = False
    """Whether its stream tells the usage only because TokenGuard had asked for it."""
    about: Mapping[str, str] = {}
    """By what it is found again, in words: the encoder with its version, the rule's version, whose it is."""

    def encode(self) -> bytes:
        """As bytes, unprotected: a line of JSON, the headers a line each, an empty line, the body."""
        hides, about = "true" if self.hides_usage else "false", json.dumps(dict(self.about)) if self.about else "{}"
        head = f"[{FORMAT}, {self.kept_at!r}, {self.expires!r}, {hides}, {about}]"
        headers = "".join([f"\n{name}:{value}" for name, value in self.answer.headers])
        return f"{head}{headers}\n\n".encode("utf-8", "surrogateescape") + self.answer.body


def decode(data: bytes) -> Entry:
    """The entry in these bytes; raises `ValueError` for what is none."""
    told, end, body = data.partition(b"\n\n")
    head, *lines = told.decode("utf-8", "surrogateescape").split("\n")
    version, kept_at, expires, hides_usage, about = json.loads(head)
    if not end or version != FORMAT:
        raise ValueError(f"an answer of format {version}, and not {FORMAT}")
    headers = tuple((name, value) for name, _, value in (line.partition(":") for line in lines))
    return Entry(HttpAnswer(headers, body), kept_at, expires, hides_usage, about)


class Box(Protocol):
    """How entries are protected, and the secret that keys are made by."""

    secret: bytes

    def seal(self, key: bytes, data: bytes) -> bytes:
        """The data, to be kept under this key."""
        ...

    def open(self, key: bytes, data: bytes) -> bytes:
        """What was sealed under this key; raises an exception for anything else."""
        ...


class Bare:
    """Entries as they are, in the memory of this process."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def seal(self, key: bytes, data: bytes) -> bytes:
        """The data."""
        return data

    def open(self, key: bytes, data: bytes) -> bytes:
        """The data."""
        return data


class Plain:
    """Entries as they are, with a checksum: a file may be cut off, or written to by others."""

    SUM: Final = 16

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def seal(self, key: bytes, data: bytes) -> bytes:
        """The data behind its checksum."""
        return self._sum(key, data) + data

    def open(self, key: bytes, data: bytes) -> bytes:
        """The data, if it is what was sealed under this key."""
        told, rest = data[: self.SUM], data[self.SUM :]
        if not hmac.compare_digest(told, self._sum(key, rest)):
            raise ValueError("a kept answer is not what was kept")
        return rest

    def _sum(self, key: bytes, data: bytes) -> bytes:
        return blake2b(data, digest_size=self.SUM, key=key).digest()


class Sealed:
    """Entries encrypted with AES-256-GCM, each bound to its key, so that none can be put in the place of another."""

    NONCE: Final = 12

    def __init__(self, secret: str) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise PolicyError(
                'Kept answers are encrypted with the package cryptography, which is missing: pip install "tokenguard-'
                'otel[answers]". Or say plain = true under [answers].'
            ) from error
        root = secret.encode()
        self.secret = hmac.digest(root, b"tokenguard answers: keys", "sha256")
        self._cipher = AESGCM(hmac.digest(root, b"tokenguard answers: bodies", "sha256"))

    def seal(self, key: bytes, data: bytes) -> bytes:
        """The data, encrypted."""
        nonce = os.urandom(self.NONCE)
        return nonce + self._cipher.encrypt(nonce, data, key)

    def open(self, key: bytes, data: bytes) -> bytes:
        """The data, decrypted."""
        return self._cipher.decrypt(data[: self.NONCE], data[self.NONCE :], key)


def box_of(url: str, key_env: str, *, plain: bool, source: str = "") -> Box:
    """How answers at `url` are protected; raises `PolicyError` where a secret is missing or too short.

    In memory they are as they are, under keys of a secret of this process.
    """
    if url == "memory:":
        return Bare(os.urandom(32))
    secret = os.environ.get(key_env, "")
    if plain:
        return Plain(hmac.digest(secret.encode(), b"tokenguard answers: plain keys", "sha256"))
    if len(secret) < LEAST_SECRET:
        said = f"has {len(secret)} characters, the least is {LEAST_SECRET}" if secret else "is not set"
        raise PolicyError(
            f"{source or '[answers]'}: answers are encrypted in {url.partition(':')[0]}, and the environment variable "
            f"{key_env} {said}. Set it (`openssl rand -hex 32`), or say plain = true under [answers]."
        )
    return Sealed(secret)
