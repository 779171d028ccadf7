"""OpenAI's pictures, speech, transcripts, films and moderations, as they are on the wire, with what each is billed."""

from __future__ import annotations

import base64
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
    verbose = {"language": "english", "duration": float(seconds)} if form == "verbose_json" else {}
    return Reply({"text": text, **verbose, "usage": usage}, events, billed, BROKEN)


def moderations(desk: Desk, body: Mapping[str, Any], key: str) -> Reply:
    """`POST /moderations`."""
    required(body, "input")
    model = str(body.get("model") or "omni-moderation-latest")
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    return Reply({"id": desk.id("modr-"), "model": model, "results": [result]}, billed=Usage(request=1))


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
