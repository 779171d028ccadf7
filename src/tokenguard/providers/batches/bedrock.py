"""Amazon Bedrock's batch inference: a job of the control plane, whose requests and results are files in S3.

A line of the input is `{"recordId", "modelInput"}`; of the results, which lie in a folder named by the job,
`{"recordId", "modelInput", "modelOutput"}` or, in the place of the last, `"error"`. The job names the model, and
whether its lines are Converse's or each family's own.
Source: https://docs.aws.amazon.com/bedrock/latest/userguide/batch-inference.html and botocore's `bedrock` model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenguard.providers.api import Api
from tokenguard.providers.batches.rows import Asked, BatchApi, Line, Result, Seen, dicts, moment_ns, none_held
from tokenguard.providers.bedrock import CONVERSE, invoked
from tokenguard.providers.reading import fields, text, whole

GOING: Final = frozenset({"submitted", "validating", "scheduled", "inprogress", "stopping"})
CONVERSES: Final = "Converse"
INVOKES: Final = "InvokeModel"


def job_in(arn: str) -> str:
    """The id of a job, which names the folder of its results, in its ARN.

    >>> job_in("arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/w1xyz2abc3de")
    'w1xyz2abc3de'
    """
    return arn.rpartition("/")[2]


def _asked(body: Mapping[str, Any]) -> Asked:
    source = fields(fields(body.get("inputDataConfig")).get("s3InputDataConfig"))
    return Asked(
        text(body.get("modelInvocationType")) or INVOKES,
        text(body.get("modelId")),
        text(source.get("s3Uri")) or "",
        whole(body.get("timeoutDurationInHours")),
    )


def _api(kind: str, body: Mapping[str, Any], model: str | None) -> Api | None:
    return CONVERSE if kind == CONVERSES else invoked(body, model or "")


def _line(each: Mapping[str, Any], asked: Asked) -> Line | None:
    """One request; in a file of which the job is not known yet, its body alone says what it is."""
    body = fields(each.get("modelInput"))
    return Line(text(each.get("recordId")) or "", "", body, _api(asked.url, body, asked.model)) if body else None


def _named(line: Line, asked: Asked) -> Line:
    return line._replace(body={**line.body, "model": asked.model}, api=_api(asked.url, line.body, asked.model))


def _seen(job: object) -> Seen | None:
    body = fields(job)
    arn = text(body.get("jobArn"))
    if arn is None:
        return None
    state = (text(body.get("status")) or "Submitted").lower()
    tags = dicts(body.get("tags"))  # only what creates a job has them
    return Seen(
        job_in(arn),
        state,
        state in GOING,
        whole(body.get("totalRecordCount")) or None,
        whole(body.get("successRecordCount")),
        endpoint=text(body.get("modelInvocationType")) or "",
        expires_ns=moment_ns(body.get("jobExpirationTime")),
        ended_ns=moment_ns(body.get("endTime")),
        metadata={str(tag.get("key")): tag.get("value") for tag in tags},
        model=text(body.get("modelId")),
    )


def _result(line: Mapping[str, Any]) -> Result | None:
    name, output, error = text(line.get("recordId")), fields(line.get("modelOutput")), fields(line.get("error"))
    if name is None or not (output or error):
        return None
    if output:
        return Result(name, output, None, fields(line.get("modelInput")))
    return Result(name, None, "expired" if error.get("expired") else str(error.get("errorCode") or "error"))


def _answered(provider: str, endpoint: str, model: str | None, result: Result) -> Api | None:
    return _api(endpoint, result.asked, model)


BEDROCK: Final = BatchApi(
    "bedrock",
    (),  # its client is told by its SDK, and an operation of botocore's by its name
    _asked,
    lambda body: None,
    _line,
    _seen,
    "invocationJobSummaries",
    none_held,
    _result,
    b'"modelInput"',
    _answered,
    named=_named,
)
