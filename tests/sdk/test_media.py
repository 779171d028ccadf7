"""Pictures, speech, transcripts, films and moderations: what they cost, worked out by hand from the providers' pages.

The wire is real HTTP, the SDKs are real; each price names where it was read.
"""

from __future__ import annotations

import gc

import pytest
from families import wav

import connections
import tokenguard
from tokenguard import BudgetExceeded, LimitExceeded, policy
from tokenguard.demo.provider import SimulatedProvider
from tokenguard.installation import runtime

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # OpenAI retires what others go on with

films = pytest.mark.skipif(not hasattr(openai.OpenAI, "videos"), reason="this SDK makes no films")

TEXT = "Which of your plans has a warranty?"  # 35 characters


@pytest.fixture(scope="module")
def provider():
    with SimulatedProvider() as running:
        yield running


@pytest.fixture
def requests(provider):
    provider.requests.clear()
    return provider.requests


@pytest.fixture
def client(provider, installed):
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        # The host is no provider's: prices are those of whom the SDK is made for.
        tokenguard.install(policy.loads('[hosts]\n"127.0.0.1" = "sdk"\n'))
        yield client


def under(text):
    tokenguard.install(policy.loads(f'{text}\n[hosts]\n"127.0.0.1" = "sdk"\n[ledger]\nurl = "memory:"\n'))
    return runtime.installed().meter.guard


def cost(installed):
    (record,) = installed.records
    return record.cost


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_pictures_by_tokens(client, installed, spans):
    """GPT Image is billed by tokens: $5 a million of text, $32 of the pictures that it makes (OpenAI's price page)."""
    client.images.generate(model="gpt-image-1.5", prompt=TEXT, quality="low", size="1024x1024", n=2)
    attributes = spans.attributes
    assert attributes["gen_ai.operation.name"] == "image_generation"
    said = attributes["gen_ai.usage.input_tokens"]
    assert attributes["gen_ai.usage.image.output_tokens"] == 2 * 272
    assert attributes["tokenguard.usage.images"] == 2
    assert attributes["tokenguard.cost.usd"] == pytest.approx(said * 5e-6 + 544 * 32e-6)
    assert cost(installed).status == "exact"


def test_a_picture_that_is_edited(client, installed):
    """What is sent to be edited is input at $8 a million; the file never counts as text."""
    client.images.edit(model="gpt-image-1.5", image=("a.png", b"\x89PNG" + bytes(5000)), prompt=TEXT, quality="high")
    (record,) = installed.records
    said = record.usage.input - 194
    assert record.usage.input_image == 194
    assert record.cost_usd == pytest.approx(said * 5e-6 + 194 * 8e-6 + 4160 * 32e-6)


def test_partial_pictures(client, installed, spans):
    """The sketches in a stream are passed on, and the last event tells the usage."""
    stream = client.images.generate(model="gpt-image-2", prompt=TEXT, quality="medium", stream=True, partial_images=2)
    kinds = [event.type for event in stream]
    assert kinds[-1] == "image_generation.completed"
    assert spans.attributes["tokenguard.usage.images"] == 1
    said = spans.attributes["gen_ai.usage.input_tokens"]
    assert cost(installed).total == pytest.approx(said * 5e-6 + 1056 * 30e-6)  # $30 a million for GPT Image 2
    assert cost(installed).status == "exact"


@pytest.mark.parametrize(
    ("ask", "usd", "basis"),
    [
        ({"model": "dall-e-3"}, 0.04, "unchecked_price"),
        ({"model": "dall-e-3", "quality": "hd", "size": "1792x1024"}, 0.12, "unchecked_price"),
        ({"model": "dall-e-2", "size": "512x512", "n": 3}, 3 * 0.018, "unchecked_price"),
        ({"model": "dall-e-3", "size": "999x999"}, 0.12, "assumed_variant"),
    ],
    ids=["standard", "hd", "three", "a size nobody lists"],
)
def test_pictures_by_the_picture(ask, usd, basis, client, installed):
    """DALL-E costs by size and quality; a size that has no price is taken for the dearest, and says so."""
    client.images.generate(prompt=TEXT, **ask)
    assert cost(installed).total == pytest.approx(usd)
    assert cost(installed)[:2] == ("estimated", basis)


def test_pictures_without_a_price(client, installed):
    """A model that nobody lists has no cost; with a price by the picture it has one."""
    client.images.generate(model="black-forest-labs/FLUX.1-schnell", prompt=TEXT)
    assert cost(installed).status == "unpriced"
    installed.records.clear()
    under('[prices]\n"openai/black-forest-labs/*" = { images = 3000 }')
    client.images.generate(model="black-forest-labs/FLUX.1-schnell", prompt=TEXT, n=2)
    assert cost(installed) == ("exact", None, 0.006, 0.0, 0.006, 0.0, 0.0, 0.0, None)


# --- speech -----------------------------------------------------------------------------------------------------------


def test_speech_by_the_character(client, installed, spans):
    """tts-1 costs $15 a million characters; the sound comes to the caller untouched."""
    sound = client.audio.speech.create(model="tts-1", voice="alloy", input=TEXT)
    assert sound.content.startswith(b"ID3")
    assert spans.attributes["tokenguard.usage.characters"] == 35
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(35 * 15e-6)
    assert cost(installed).status == "exact"


def test_speech_that_is_streamed(client, installed):
    """A body that is read as it comes is one call, ended when it is over, and none of it is kept."""
    with client.audio.speech.with_streaming_response.create(model="tts-1-hd", voice="alloy", input=TEXT) as response:
        sound = b"".join(response.iter_bytes(64))
    assert len(sound) > 1000
    assert cost(installed) == ("exact", None, pytest.approx(35 * 30e-6), *cost(installed)[3:])


def test_speech_by_tokens(client, installed):
    """gpt-4o-mini-tts: $0.60 a million in, $12 out. Sound tells neither: it is an estimate, above what is billed."""
    client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input=TEXT)
    assert cost(installed).basis == "missing_usage"
    assert cost(installed).output == pytest.approx(70 * 12e-6)
    installed.records.clear()
    with client.audio.speech.with_streaming_response.create(
        model="gpt-4o-mini-tts", voice="alloy", input=TEXT, stream_format="sse"
    ) as response:
        list(response.iter_lines())
    (record,) = installed.records
    assert record.usage.output == 53
    assert record.cost_usd == pytest.approx(record.usage.input * 0.6e-6 + 53 * 12e-6)
    assert record.cost.status == "exact"


# --- transcripts ------------------------------------------------------------------------------------------------------


def test_transcripts_by_the_second(client, installed, spans):
    """whisper-1 costs $0.006 a minute."""
    client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav(90)))
    assert spans.attributes["tokenguard.usage.input_seconds"] == 90
    assert spans.attributes["tokenguard.cost.usd"] == pytest.approx(0.009)
    assert cost(installed).status == "exact"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_transcripts_by_tokens(stream, client, installed):
    """gpt-4o-transcribe: $2.50 a million of what is heard, $10 of what is written; two lists have it differently."""
    got = client.audio.transcriptions.create(model="gpt-4o-transcribe", file=("a.wav", wav(30)), stream=stream)
    if stream:
        assert [event.type for event in got][-1] == "transcript.text.done"
    (record,) = installed.records
    assert record.usage.input_audio == 300
    assert record.cost_usd == pytest.approx(record.usage.input * 2.5e-6 + record.usage.output * 1e-5)
    assert record.cost.basis == "unchecked_price"


@pytest.mark.parametrize("form", ["text", "srt"])
def test_a_transcript_as_text(form, client, installed):
    """Plain text tells nothing: the length of a WAV file is in its head, and the cost is an estimate by that."""
    said = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav(60)), response_format=form)
    assert isinstance(said, str)
    assert cost(installed).total == pytest.approx(0.006)
    assert cost(installed).basis == "missing_usage"


def test_a_translation(client, installed):
    """Translations are transcripts; `verbose_json` tells how long the sound is."""
    client.audio.translations.create(model="whisper-1", file=("a.wav", wav(60)), response_format="verbose_json")
    assert cost(installed).total == pytest.approx(0.006)
    assert cost(installed).status == "exact"


def test_two_files_are_two_requests(client, requests, installed):
    """What differs in the file alone is another request: nothing is shared, and no retry is seen."""
    under('[[share]]\nname = "s"\n')
    for seconds in (1, 2):
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", wav(seconds)))
    assert len(requests) == 2
    assert len({record.attributes["tokenguard.call.fingerprint"] for record in installed.records}) == 2


# --- moderations ------------------------------------------------------------------------------------------------------


def test_moderations_are_free(client, installed, spans):
    """A moderation costs nothing, and that is exact: a budget of nothing lets it pass."""
    under('[[budget]]\nname = "b"\nlimit_usd = 0.0\n')
    client.moderations.create(input=TEXT)
    assert spans.attributes["gen_ai.operation.name"] == "moderation"
    assert cost(installed)[:3] == ("exact", None, 0.0)


# --- films ------------------------------------------------------------------------------------------------------------


@films
def test_a_film(client, installed, spans, requests):
    """A job that is polled is one call: sora-2-pro at 1024x1792 costs $0.50 a second."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 10.0\n')
    job = client.videos.create(model="sora-2-pro", prompt=TEXT, seconds="8", size="1024x1792")
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 4 * 10**9 + round(account.reserved_nano % 10**9)
    assert installed.records == []
    assert client.videos.retrieve(job.id).status == "in_progress"
    assert installed.records == []
    assert client.videos.retrieve(job.id).status == "completed"
    client.videos.retrieve(job.id)
    assert spans.attributes["tokenguard.usage.output_seconds"] == 8
    assert cost(installed)[:3] == ("exact", None, pytest.approx(4.0))
    (account,) = guard.ledger.accounts()
    assert (account.spent_nano, account.reserved_nano) == (4 * 10**9, 0)


@films
def test_a_film_that_is_polled_by_the_sdk(provider, client, installed):
    """`create_and_poll` is one call too, asynchronously as well; a film without a model is one of sora-2's."""

    async def work():
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as asynchronous:
            return await asynchronous.videos.create_and_poll(prompt=TEXT, poll_interval_ms=1)

    assert connections.run(work()).status == "completed"
    assert cost(installed).total == pytest.approx(0.4)  # 4 seconds at $0.10


@films
def test_a_film_that_fails(client, installed):
    """A job that failed costs nothing, and gives back what was reserved."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 10.0\n')
    job = client.videos.create(model="sora-2", prompt="a failure")
    for _ in range(2):
        client.videos.retrieve(job.id)
    (record,) = installed.records
    assert (record.outcome, record.attributes["error.type"], record.cost_usd) == ("error", "moderation_blocked", 0.0)
    (account,) = guard.ledger.accounts()
    assert (account.spent_nano, account.reserved_nano) == (0, 0)


@films
def test_a_film_that_nobody_asks_for(client, installed):
    """What is under way when the process ends is charged as it was reserved."""
    client.videos.create(model="sora-2", prompt=TEXT, seconds="12")
    runtime.installed().meter.pending.give_up()
    (record,) = installed.records
    assert record.outcome == "abandoned"
    assert (record.cost.status, record.cost_usd) == ("estimated", pytest.approx(1.2))


@films
def test_a_film_that_goes_on(client, installed):
    """An extension is billed by what is added; its answer tells the length of the whole."""
    body = {"prompt": TEXT, "seconds": "4", "video": {"id": "video_1"}}
    job = client.post("/videos/extensions", body=body, cast_to=openai.types.Video)
    for _ in range(2):
        client.videos.retrieve(job.id)
    assert cost(installed).total == pytest.approx(0.4)


# --- the guard --------------------------------------------------------------------------------------------------------


@films
def test_a_budget_stops_pictures(client, requests, installed):
    """The worst case is reserved before: by quality and size, and `auto` is the best that the model can do."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 0.25\n')
    with pytest.raises(BudgetExceeded, match="the worst case of this call is"):
        client.images.generate(model="gpt-image-1.5", prompt=TEXT, n=2)
    assert requests == []
    client.images.generate(model="gpt-image-1.5", prompt=TEXT, n=2, quality="low")
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano > 544 * 32_000
    with pytest.raises(BudgetExceeded):
        client.videos.create(model="sora-2", prompt=TEXT, seconds="4")


@films
def test_a_limit_stops_films(client, requests):
    """`max_cost_usd` knows what a film comes to."""
    under('[[limit]]\nname = "l"\nmax_cost_usd = 1.0\n')
    with pytest.raises(LimitExceeded, match=r"can cost \$3\.6"):
        client.videos.create(model="sora-2-pro", prompt=TEXT, seconds="12", size="720x1280")
    assert requests == []


def test_a_budget_refuses_what_has_no_price(client, requests):
    """Pictures of a model that nobody lists are refused by a budget in USD, as text is."""
    under('[[budget]]\nname = "b"\nlimit_usd = 10.0\n')
    with pytest.raises(BudgetExceeded, match="no price is known"):
        client.images.generate(model="black-forest-labs/FLUX.1-schnell", prompt=TEXT)
    assert requests == []


def test_a_long_file_is_reserved_by_its_size(client, requests, tmp_path):
    """Of a file that is no WAV, its size bounds how long it can be: 5 MB are at most 83 minutes, so $0.50."""
    file = tmp_path / "long.mp3"
    file.write_bytes(bytes(5_000_000))
    under('[[budget]]\nname = "b"\nlimit_usd = 0.45\n')
    with file.open("rb") as opened, pytest.raises(BudgetExceeded):
        client.audio.transcriptions.create(model="whisper-1", file=opened)
    under('[[budget]]\nname = "b"\nlimit_usd = 0.55\n')
    with file.open("rb") as opened:
        client.audio.transcriptions.create(model="whisper-1", file=opened)
    assert requests[0].body["file"]["bytes"] == 5_000_000


def test_a_dropped_stream_of_pictures(client, installed):
    """A stream that is left after a sketch is charged as reserved, as the picture may be made to its end."""
    guard = under('[[budget]]\nname = "b"\nlimit_usd = 1.0\n')
    stream = client.images.generate(model="gpt-image-2", prompt=TEXT, quality="low", stream=True, partial_images=1)
    next(iter(stream))
    stream.close()
    del stream
    gc.collect()
    (record,) = installed.records
    assert (record.outcome, record.cost.basis) == ("abandoned", "abandoned_stream")
    (account,) = guard.ledger.accounts()
    assert account.reserved_nano == 0
    assert account.spent_nano >= 400 * 30_000
