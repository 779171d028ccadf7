"""OpenAI's pictures, speech, transcripts, films and moderations, as they are on the wire, with what each is billed."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Mapping
from email.parser import BytesParser
from typing import Any

from tokenguard.demo.exchange import Desk, Event, Refusal, Reply
from tokenguard.demo.openai_chat import BROKEN, required
from tokenguard.facts.usage import Usage
from tokenguard.seams.common.files import describe
from tokenguard.tokens import count_text

PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"a picture" * 20).decode()
SOUND = b"ID3" + b"\x00a sound" * 400
TOKENS = {"low": 272, "medium": 1056, "high": 4160}
"""Of a square picture (https://developers.openai.com/api/docs/guides/image-generation)."""
BY_PICTURE = ("dall-e", "grok-imagine", "black-forest-labs")
BY_SECOND = ("whisper", "gpt-transcribe", "voxtral")
TOKENS_A_SECOND = 10
POLLS = 1
"""How often a film is asked for before it is done."""


def parts_of(content_type: str, raw: bytes) -> dict[str, Any]:
    """The fields of a multipart request; files as what they come to, several of one name as a list."""
    message: Any = BytesParser().parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
    body: dict[str, Any] = {}
    for part in message.get_payload():
        name = str(part.get_param("name", header="content-disposition"))
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes), "a part has a content"
        value: Any = content.decode() if part.get_filename() is None else describe(content)
        name, several = name.removesuffix("[]"), name.endswith("[]")
        body[name] = [*body.get(name, []), value] if several else value
    return {name: value == "true" if value in ("true", "false") else value for name, value in body.items()}


def images(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /images/generations`, `/images/edits` and `/images/variations`."""
    model = str(required(body, "model"))
    number = int(body.get("n") or 1)
    data = [{"b64_json": PIXEL, "revised_prompt": None} for _ in range(number)]
    if model.startswith(BY_PICTURE):
        if body.get("response_format") != "b64_json":
            data = [{"url": "https://files/1.png", "revised_prompt": None}] * number
        return Reply({"created": int(time.time()), "data": data}, billed=Usage(images=number))
    said, seen = count_text(str(body.get("prompt") or ""), None), 194 * ("image" in body)
    drawn = TOKENS.get(str(body.get("quality")), TOKENS["medium"]) * number
    usage = {
        "input_tokens": said + seen,
        "input_tokens_details": {"text_tokens": said, "image_tokens": seen},
        "output_tokens": drawn,
        "total_tokens": said + seen + drawn,
    }
    billed = Usage(said + seen, drawn, input_image=seen, output_image=drawn, images=number)
    made = {"quality": body.get("quality") or "medium", "size": "1024x1024", "output_format": "png"}
    kind = "edit" if "image" in body else "generation"
    events = []
    if body.get("stream"):
        sketch = {"type": f"image_{kind}.partial_image", "b64_json": PIXEL, "created_at": 0, **made}
        whole = {"type": f"image_{kind}.completed", "b64_json": PIXEL, "created_at": 0, **made, "usage": usage}
        whole["background"] = sketch["background"] = "opaque"
        events = [Event({**sketch, "partial_image_index": n}) for n in range(2)]
        events = [*events, Event(whole)]
        events = [event._replace(name=str(event.data["type"])) for event in events if isinstance(event.data, Mapping)]
    return Reply({"created": int(time.time()), "data": data, **made, "usage": usage}, events, billed, BROKEN)


def speech(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /audio/speech`."""
    model, text = str(required(body, "model")), str(required(body, "input"))
    if "tts" in model and "gpt" not in model:
        return Reply({}, billed=Usage(characters=len(text)), content=SOUND, content_type="audio/mpeg")
    said, spoken = count_text(text, None), math.ceil(len(text) * 1.5)
    billed = Usage(said, spoken, characters=len(text))
    if body.get("stream_format") != "sse":
        return Reply({}, billed=billed, content=SOUND, content_type="audio/mpeg")
    usage = {"input_tokens": said, "output_tokens": spoken, "total_tokens": said + spoken}
    sound = {"type": "speech.audio.delta", "audio": base64.b64encode(SOUND).decode()}
    return Reply({}, [Event(sound), Event({"type": "speech.audio.done", "usage": usage})], billed)


def transcripts(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /audio/transcriptions` and `/audio/translations`."""
    model, file = str(required(body, "model")), required(body, "file")
    seconds = math.ceil(file.get("seconds") or file["bytes"] / 4000)
    text = "We have three plans, and each has a warranty."
    form = body.get("response_format") or "json"
    if form in ("text", "srt", "vtt"):
        billed = Usage(input_seconds=seconds)
        return Reply({}, billed=billed, content=text.encode(), content_type="text/plain; charset=utf-8")
    if model.startswith(BY_SECOND):
        usage: dict[str, Any] = {"type": "duration", "seconds": seconds}
        billed = Usage(input_seconds=seconds)
    else:
        heard, hint = seconds * TOKENS_A_SECOND, count_text(str(body.get("prompt") or ""), None)
        written = count_text(text, None)
        usage = {
            "type": "tokens",
            "input_tokens": heard + hint,
            "input_token_details": {"audio_tokens": heard, "text_tokens": hint},
            "output_tokens": written,
            "total_tokens": heard + hint + written,
        }
        billed = Usage(heard + hint, written, input_audio=heard)
    events = []
    if body.get("stream"):
        events = [Event({"type": "transcript.text.delta", "delta": f"{word} "}, text=word) for word in text.split()]
        events.append(Event({"type": "transcript.text.done", "text": text, "usage": usage}))
    verbose: dict[str, Any] = {"language": "english", "duration": float(seconds)} if form == "verbose_json" else {}
    if model.startswith("voxtral"):
        verbose = {"model": model, "language": "en", "segments": []}
        usage = {"prompt_audio_seconds": seconds, "prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 400}
    if "large-v3" in model:  # Groq tells no usage
        return Reply({"text": text, **verbose}, billed=billed)
    return Reply({"text": text, **verbose, "usage": usage}, events, billed, BROKEN)


def moderations(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /moderations`."""
    required(body, "input")
    model = str(body.get("model") or "omni-moderation-latest")
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return Reply({"id": desk.id("modr-"), "model": model, "results": [result]}, billed=Usage(request=1))


def decisions(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /decisions`: OpenAI's questions are a list, those of Perplexity and Google have names; all are granted."""
    asked, model = required(body, "questions"), str(required(body, "model"))
    read = count_text(json.dumps([body.get("input") or required(body, "state"), asked]), None)
    counted: dict[str, Any] = {"input_tokens": read, "output_tokens": len(asked)}
    granted: dict[str, Any] = {"type": "noul", "noul": 0.9}
    if isinstance(asked, list):
        granted = {"type": "predicate", "probability": 0.9}
        answers: Any = [granted] * len(asked)
        counted["input_tokens_details"] = {"cached_tokens": 0, "cache_write_tokens": 0}
        counted["output_tokens_details"] = {"reasoning_tokens": 0}
        counted["total_tokens"] = read + len(asked)
    else:
        answers = dict.fromkeys(asked, granted)
    if "state" not in body and not isinstance(asked, list):  # Google's
        counted = {"total_input_tokens": read, "total_output_tokens": len(asked), "total_tokens": read + len(asked)}
    return Reply({"model": model, "answers": answers, "usage": counted}, billed=Usage(read, len(asked)))


def videos(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /videos`: a job, done when it has been asked for `POLLS` times; one of `a failure` fails."""
    prompt = str(required(body, "prompt"))
    seconds = str(body.get("seconds") or "4")
    video: dict[str, Any] = {
        "id": desk.id("video_"),
        "object": "video",
        "created_at": int(time.time()),
        "model": str(body.get("model") or "sora-2"),
        "status": "queued",
        "progress": 0,
        "prompt": prompt,
        "seconds": seconds,
        "size": str(body.get("size") or "720x1280"),
    }
    desk.jobs[video["id"]] = {**video, "polls": 0}
    return Reply(video, billed=Usage(output_seconds=0 if prompt == "a failure" else int(seconds)))


def video(desk: Desk, video_id: str) -> Reply:
    """`GET /videos/ID`."""
    if (job := desk.jobs.get(video_id)) is None:
        raise Refusal(404, "invalid_request_error", f"Video with id '{video_id}' not found.")
    job["polls"] += 1
    if job["polls"] <= POLLS:
        status, progress = "in_progress", 50
    else:
        status, progress = ("failed" if job["prompt"] == "a failure" else "completed"), 100
    told = {name: value for name, value in job.items() if name != "polls"}
    failed = {"error": {"code": "moderation_blocked", "message": "No."}} if status == "failed" else {}
    return Reply({**told, "status": status, "progress": progress, **failed})


# --- Google's ---------------------------------------------------------------------------------------------------------


def predict(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /models/imagen-...:predict`; what the prompt has filtered is not made, and not billed."""
    number = int((body.get("parameters") or {}).get("sampleCount") or 4)
    filtered = "filter one" in str(body["instances"][0].get("prompt"))
    made = [{"bytesBase64Encoded": PIXEL, "mimeType": "image/png"} for _ in range(number - filtered)]
    reasons = [{"raiFilteredReason": "58061214"}] * filtered
    return Reply({"predictions": [*made, *reasons]}, billed=Usage(images=len(made)))


def film_operation(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /models/veo-...:predictLongRunning`."""
    settings = body.get("parameters") or {}
    failed = body["instances"][0].get("prompt") == "a failure"
    films = int(settings.get("sampleCount") or 1)
    name = f"projects/p/locations/l/publishers/google/models/{body['model']}/operations/{desk.id('op')}"
    desk.jobs[name.rpartition("/")[2]] = {"name": name, "films": films, "failed": failed, "polls": 0}
    seconds = 0 if failed else films * int(settings.get("durationSeconds") or 8)
    return Reply({"name": name}, billed=Usage(output_seconds=seconds))


def fetched(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /models/veo-...:fetchPredictOperation`, as Vertex AI has it."""
    return operation(desk, body["operationName"].rpartition("/")[2])


def operation(desk: Desk, number: str) -> Reply:
    """`GET /models/veo-.../operations/ID`."""
    job = desk.jobs[number]
    job["polls"] += 1
    if job["polls"] <= POLLS:
        return Reply({"name": job["name"]})
    if job["failed"]:
        return Reply({"name": job["name"], "done": True, "error": {"code": 3, "message": "No.", "status": "INVALID"}})
    films = [{"video": {"uri": "https://files/1"}} for _ in range(job["films"])]
    return Reply(
        {"name": job["name"], "done": True, "response": {"generateVideoResponse": {"generatedSamples": films}}}
    )


# --- Mistral's --------------------------------------------------------------------------------------------------------


def ocr(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /v1/ocr`: documents have three pages."""
    pages = list(body.get("pages") or range(1 if body["document"]["type"] == "image_url" else 3))
    usage = {"pages_processed": len(pages), "doc_size_bytes": 1000}
    read: list[dict[str, Any]] = [{"index": n, "markdown": "# A plan", "images": [], "dimensions": None} for n in pages]
    billed = "annotated_pages" if body.get("document_annotation_format") else "pages"
    return Reply({"pages": read, "model": body["model"], "usage_info": usage}, billed=Usage(**{billed: len(pages)}))


# --- Bedrock's --------------------------------------------------------------------------------------------------------


def canvas(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /model/amazon.nova-canvas-.../invoke`, and Stability's."""
    number = int((body.get("imageGenerationConfig") or {}).get("numberOfImages") or 1)
    return Reply({"images": [PIXEL] * number, "error": None}, billed=Usage(images=number))


def rank(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /model/cohere.rerank-.../invoke`."""
    results = [{"index": n, "relevance_score": 0.5} for n in range(len(body["documents"]))]
    return Reply({"results": results}, billed=Usage(request=math.ceil(len(results) / 100)))


def async_invoke(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /async-invoke`."""
    wanted = body["modelInput"]
    arn = f"arn:aws:bedrock:us-east-1:123456789012:async-invoke/{desk.id('job')}"
    failed = "a failure" in str(wanted)
    desk.jobs[arn.rpartition("/")[2]] = {"arn": arn, "failed": failed, "polls": 0}
    seconds = int((wanted.get("videoGenerationConfig") or {}).get("durationSeconds") or 6)
    return Reply({"invocationArn": arn}, billed=Usage(output_seconds=0 if failed else seconds))


def async_invocation(desk: Desk, number: str) -> Reply:
    """`GET /async-invoke/ARN`."""
    job = desk.jobs[number]
    job["polls"] += 1
    status = "InProgress" if job["polls"] <= POLLS else "Failed" if job["failed"] else "Completed"
    times = {"submitTime": "2026-11-26T12:00:00Z", "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://b/k"}}}
    return Reply({"invocationArn": job["arn"], "modelArn": "arn:aws:bedrock:::m", "status": status, **times})
