"""Files of requests are looked at where they are, and put back."""

from __future__ import annotations

import io
import zlib

import pytest

from tokenguard.seams.common.files import describe, read_again


class Plain:
    """As boto3 wraps a part of a file: it does not say that it seeks, and seeking tells nothing."""

    def __init__(self):
        self._file = io.BytesIO(b"abcdef")
        self._file.seek(2)

    def read(self, amount=-1):
        return self._file.read(amount)

    def tell(self):
        return self._file.tell()

    def seek(self, where, whence=0):
        self._file.seek(where, whence)


class Broken(Plain):
    """It cannot go to its end."""

    def seek(self, where, whence=0):
        if whence:
            raise OSError("not there")
        super().seek(where)


class Asynchronous:
    """As aiofiles has it: nothing can be read without waiting."""

    async def read(self, amount=-1):
        raise AssertionError

    tell = seek = seekable = read


def test_a_file_is_put_back():
    """What is left of it is described, all of it is read, and then it is where it was."""
    file = Plain()
    assert describe(file) == {"type": "file", "head": zlib.crc32(b"cdef"), "bytes": 4}
    assert read_again(file) == b"abcdef"
    assert file.tell() == 2


@pytest.mark.parametrize("kind", [Broken, Asynchronous, lambda: iter([b"abc"])])
def test_what_cannot_be_looked_at_is_left_alone(kind):
    """Of an unknown size, and where it was."""
    file = kind()
    assert "bytes" not in describe(file)
    if isinstance(file, Broken):
        assert file.tell() == 2
    else:
        assert read_again(file) is None
