"""The application's encoder, from texts to vectors: asked in a thread, and not waited for for long.

`module:function` is a function of yours, `model2vec:NAME` a static model of that library by its name or folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimedOut
from typing import TYPE_CHECKING, Any, Final

from tokenguard.facts.errors import PolicyError
from tokenguard.policy.kinds import STATIC
from tokenguard.process.log import Log
from tokenguard.process.named import named
from tokenguard.process.threads import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = Log("tokenguard")

_encoding: Final = Pool("tokenguard-encode", 2)


def encoder_of(name: str) -> Callable[[list[str]], Any]:
    """The function that a policy names. Raises `PolicyError` where it, or its library, is missing."""
    if name.startswith(STATIC):
        try:
            from model2vec import StaticModel
        except ImportError as error:
            raise PolicyError(
                f'encoder = "{name}" needs the package model2vec: pip install "tokenguard-otel[meaning]"'
            ) from error
        encode: Callable[[list[str]], Any] = StaticModel.from_pretrained(name.removeprefix(STATIC)).encode
        return encode
    found: Callable[[list[str]], Any] = named(name)
    return found


def unit_vectors(encode: Callable[[list[str]], Any], texts: Sequence[str]) -> NDArray[Any]:
    """The vectors of some texts, each of length 1. Raises `ValueError` for what are none."""
    try:
        import numpy as np
    except ImportError as error:
        raise PolicyError('match = "meaning" needs numpy: pip install "tokenguard-otel[meaning]"') from error

    vectors = np.asarray(encode(list(texts)), dtype=np.float32)
    if vectors.ndim != 2 or len(vectors) != len(texts):
        raise ValueError(f"the encoder gave an array of shape {vectors.shape} for {len(texts)} texts")
    sizes = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(sizes).all() or not sizes.all():
        raise ValueError("the encoder gave a vector without a direction")
    return vectors / sizes  # type: ignore[no-any-return] # numpy's division of arrays is an array


class Encoders:
    """The encoders of a policy. One that fails, or takes too long, makes a miss, and the log names it, once."""

    def __init__(self) -> None:
        self._found: dict[str, Callable[[list[str]], Any]] = {}
        self._late: dict[str, Future[Any]] = {}
        """The last answer of an encoder that was not waited for: until it is there, no call waits for that encoder."""
        self._told: set[str] = set()

    def vector(self, name: str, text: str, seconds: float) -> NDArray[Any] | None:
        """The vector of a text, of length 1; `None` where there is none in time."""
        late = self._late.get(name)
        if late is not None and not late.done():
            return None
        try:
            coming = _encoding.submit(self._encode, name, text)
            try:
                found: NDArray[Any] = coming.result(seconds)
            except TimedOut:
                if coming.done():  # its own
                    raise
                self._late[name] = coming
                self._tell(name, f"took longer than {seconds * 1000:g} ms, as it may when it is first loaded")
                return None
        except Exception as failure:
            self._tell(name, f"failed ({type(failure).__name__}: {failure})")
            return None
        return found

    def _encode(self, name: str, text: str) -> NDArray[Any]:
        encode = self._found.get(name)
        if encode is None:
            encode = self._found[name] = encoder_of(name)
        vector: NDArray[Any] = unit_vectors(encode, [text])[0]
        return vector

    def _tell(self, name: str, why: str) -> None:
        if name not in self._told:
            self._told.add(name)
            log.warning("tokenguard: the encoder %s %s: calls are sent meanwhile", name, why)
