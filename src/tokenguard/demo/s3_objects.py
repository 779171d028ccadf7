"""As much of Amazon S3 as the files of Bedrock's batches need: objects that are put, got, listed, and come in parts.

Buckets are in the path, as for any endpoint that is not Amazon's own. Source:
https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html.
"""

from __future__ import annotations

import re
import zlib
from email.message import Message
from typing import Final
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape

from tokenguard.demo.exchange import Desk, Refusal, Reply

SIGNED: Final = "/s3/aws4_request"
"""What a request to S3 has in its `Authorization`."""
XML: Final = "application/xml"
RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)$")


def answer(desk: Desk, method: str, url: str, headers: Message, raw: bytes) -> Reply:
    """Answer a request, by what it is and what its query says."""
    path, _, query = url.partition("?")
    name, asked = unquote(path).strip("/"), dict(parse_qsl(query, keep_blank_values=True))
    if headers.get("Content-Encoding") == "aws-chunked":
        raw = _chunks(raw)
    if method == "PUT":
        place = f"{asked['uploadId']}/{int(asked['partNumber']):05}" if "uploadId" in asked else name
        desk.objects[place] = raw
        return _reply(b"", ETag=_tag(raw))
    if method == "POST" and "uploads" in asked:
        return _xml(f"<InitiateMultipartUploadResult><UploadId>{desk.id('upload-')}</UploadId>", name)
    if method == "POST":
        parts = [place for place in sorted(desk.objects) if place.startswith(f"{asked['uploadId']}/")]
        desk.objects[name] = b"".join(map(desk.objects.pop, parts))
        return _xml(f"<CompleteMultipartUploadResult><ETag>{_tag(desk.objects[name])}</ETag>", name)
    if "list-type" in asked:
        return _listed(desk, name, asked.get("prefix", ""))
    if (content := desk.objects.get(name)) is None:
        raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
    if method == "HEAD":
        return _reply(b"", ETag=_tag(content), **{"Content-Length": str(len(content))})
    if found := RANGE.match(headers.get("Range") or ""):
        start, end = int(found[1]), min(int(found[2] or len(content)), len(content) - 1)
        said = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return _reply(content[start : end + 1], ETag=_tag(content), **said)._replace(status=206)
    return _reply(content, ETag=_tag(content))


def refused(refusal: Refusal) -> Reply:
    """An error as S3 says it."""
    said = f"<Error><Code>{refusal.kind}</Code><Message>{escape(str(refusal))}</Message></Error>"
    return Reply({}, status=refusal.status, content=said.encode(), content_type=XML)


def _listed(desk: Desk, bucket: str, prefix: str) -> Reply:
    found = [name for name in sorted(desk.objects) if name.startswith(f"{bucket}/{prefix}")]
    each = (
        f"<Contents><Key>{escape(name.removeprefix(f'{bucket}/'))}</Key><Size>{len(desk.objects[name])}</Size>"
        "</Contents>"
        for name in found
    )
    return _xml(f"<ListBucketResult><KeyCount>{len(found)}</KeyCount>{''.join(each)}", bucket)


def _xml(opened: str, name: str) -> Reply:
    """A document whose root is open, and names its bucket and key."""
    bucket, _, key = name.partition("/")
    root = opened[1 : opened.index(">")]
    said = f"{opened}<Bucket>{escape(bucket)}</Bucket><Key>{escape(key)}</Key></{root}>"
    return Reply({}, content=said.encode(), content_type=XML)


def _reply(content: bytes, **headers: str) -> Reply:
    return Reply({}, content=content, content_type="binary/octet-stream", headers=headers)


def _tag(content: bytes) -> str:
    return f'"{zlib.crc32(content):032x}"'


def _chunks(raw: bytes) -> bytes:
    """The content of a body in Amazon's own chunks: a length in hexadecimal, a line's end, the bytes, a line's end."""
    found = []
    while raw:
        head, _, raw = raw.partition(b"\r\n")
        size = int(head.partition(b";")[0] or b"0", 16)
        if not size:
            break
        found.append(raw[:size])
        raw = raw[size + 2 :]
    return b"".join(found)
