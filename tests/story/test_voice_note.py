"""
The life of a voice note, on real parts, as docs/life-of-a-voice-note.md tells it.

One cell process with real engines, WhatsApp's simulator beside it, one real recording. The
story runs once; each test reads one chapter of it.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.cell import Town
from support.stage import family, left, metrics, received, staged, until, vocustody

from gateway.audio import ogg
from gateway.demo.graph import GraphWorld, serve

pytestmark = [pytest.mark.engine, pytest.mark.anyio, pytest.mark.timeout(180)]

DEMO = Path(__file__).parents[2] / "gateway" / "demo"
NOTE = DEMO / "speech" / "psphinx_misc_en_goforward.ogg"
DAY_S = 24 * 3600
MOST_VOICE_BYTES = 512 * 1024  # WhatsApp shows anything longer as a file
RAW_LIFE_S = 3600
STEPS = (
    "fetch", "delete-media", "transcribe", "send-typing", "understand", "send-text", "speak",
    "upload", "send-voice",
)  # fmt: skip


@dataclass(slots=True)
class Story:
    """What happened, and where its traces are."""

    town: Town
    asked: Any = None
    text: Any = None
    voice: Any = None
    fetched_before_consent: int = 0
    leaves: list[dict[str, Any]] = field(default_factory=list)
    metrics: str = ""

    @property
    def config(self) -> str:
        """Return the settings file."""
        return str(self.town.cell.config)

    @property
    def recording(self) -> str:
        """Return the id of the recording."""
        return str(self.began("fetch")["artifact"])

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the leaves of *kind*, in the log's order."""
        return [leaf for leaf in self.leaves if leaf["type"] == kind]

    def began(self, action: str) -> dict[str, Any]:
        """Return the only touch of the recording's job that is an *action*."""
        job = next(leaf["job"] for leaf in self.of("touch.began") if leaf["action"] == "fetch")
        (found,) = [
            leaf
            for leaf in self.of("touch.began")
            if (leaf["action"], leaf["job"]) == (action, job)
        ]
        return found


async def _told(town: Town) -> Story:
    story = Story(town)
    await town.ada.say(NOTE.read_bytes())
    story.asked = await received(town, "buttons")
    story.fetched_before_consent = len(_downloads(town))
    await town.ada.press("consent.grant")
    story.text = await received(town, "text")
    story.voice = await received(town, "voice")
    await until(lambda: _ended(town, 2))
    story.leaves = await town.leaves()
    story.metrics = await metrics(town)
    return story


async def _ended(town: Town, count: int) -> bool:
    return len([leaf for leaf in await town.leaves() if leaf["type"] == "job.ended"]) >= count


def _downloads(town: Town) -> list[Any]:
    return [each for each in town.world.receipts if each.path.startswith("/_cdn")]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run the story's fixture and its tests on one loop."""
    return "asyncio"


@pytest.fixture(scope="module")
async def story(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Story]:
    """Yield the story after it was played; the cell still serves."""
    world = GraphWorld(lambda: datetime.now(UTC))
    world.line()
    async with serve(world):
        home = tmp_path_factory.mktemp("story")
        town = staged(
            home / "cell",
            world,
            registry=None,
            assistant=DEMO / "assistant.toml",
            retention={"raw_audio_seconds": RAW_LIFE_S},
        )
        try:
            await town.cell.start()
            yield await _told(town)
        finally:
            await town.cell.kill()


async def test_consent_comes_before_capture(story: Story) -> None:
    """Without a valid consent the recording is not fetched (GDPR Art. 6(1)(a), 7)."""
    assert {button for button, _ in story.asked.buttons} == {"consent.grant", "consent.refuse"}
    assert "Fernruf GmbH" in story.asked.text
    assert story.fetched_before_consent == 0
    assert len(_downloads(story.town)) == 1


async def test_the_recording_is_understood(story: Story) -> None:
    """What was said, not that something was said, decides the answer."""
    assert "10" in story.text.text
    assert story.text.at <= story.voice.at, "text first"


async def test_the_spoken_answer_is_a_voice_message(story: Story) -> None:
    """WhatsApp plays mono Opus in Ogg of at most 512 KB as a voice message."""
    audio = story.voice.audio

    walked = ogg.inspect(audio)

    assert len(audio) <= MOST_VOICE_BYTES
    assert audio[28:36] == b"OpusHead"
    assert audio[37] == walked.channels == 1
    assert walked.seconds > 0.5, "it says something"


async def test_the_typing_sign_shows_once(story: Story) -> None:
    """A person sees that somebody works on it; twice would cost a request for nothing."""
    assert len(story.town.ada.typing) == 1


async def test_whatsapps_copy_is_deleted(story: Story) -> None:
    """Once the recording is in custody, the copy outside the region has no purpose."""
    deleted = [each for each in story.town.world.receipts if each.method == "DELETE"]

    assert [each.status for each in deleted] == [200]
    recording = NOTE.read_bytes()
    assert all(item.content != recording for item in story.town.world.media.items.values())


@pytest.mark.parametrize("action", STEPS)
async def test_every_step_is_a_touch_that_began_before_it_ended(story: Story, action: str) -> None:
    """No evidence, no touch: the beginning is on record before the bytes move."""
    began = story.began(action)

    (ended,) = [leaf for leaf in story.of("touch.ended") if leaf["touch"] == began["touch"]]
    assert ended["outcome"] == "done"
    assert story.leaves.index(began) < story.leaves.index(ended)
    assert began["ts"] <= ended["ts"]
    assert began["region"] == ended["region"] == "eu-central"


async def test_every_touch_names_an_earlier_decision_that_allowed_it(story: Story) -> None:
    """A touch without its decision cannot be justified later (GDPR Art. 5(2))."""
    allowed = {
        leaf["decision"]: story.leaves.index(leaf)
        for leaf in story.of("policy.decided")
        if leaf["outcome"] == "allowed"
    }

    assert len(story.of("touch.began")) >= len(STEPS)
    for touch in story.of("touch.began"):
        assert allowed[touch["decision"]] < story.leaves.index(touch), touch["action"]


async def test_each_artifact_has_a_clock_of_its_own(story: Story) -> None:
    """What is kept is kept for its purpose and no longer (GDPR Art. 5(1)(e))."""
    stored = {leaf["detail"]["kind"]: leaf for leaf in story.of("artifact.stored")}
    lives_s = {
        kind: round(leaf["detail"]["due"] - leaf["ts"] / 1e6) for kind, leaf in stored.items()
    }

    assert len(stored) == len(set(lives_s.values())) == 4, lives_s
    assert abs(lives_s["raw_audio"] - RAW_LIFE_S) <= 1, "the tenant's own, shorter clock"
    assert 0 < lives_s["reply_audio"] <= DAY_S
    assert lives_s["redacted_transcript"] > lives_s["transcript"]


async def test_the_recording_was_sealed_before_it_was_heard(story: Story) -> None:
    """Sealed first: a crash of the engine must not find it in clear on our side."""
    raw = next(
        leaf for leaf in story.of("artifact.stored") if leaf["detail"]["kind"] == "raw_audio"
    )

    assert story.leaves.index(raw) < story.leaves.index(story.began("transcribe"))


async def test_where_names_the_processor_of_that_moment(story: Story) -> None:
    """The question a DPO asks: where was it then, and who touched it."""
    heard = story.began("transcribe")
    at = datetime.fromtimestamp(heard["ts"] / 1e6, UTC) + timedelta(milliseconds=1)

    ask = ("where", story.recording, "--at", at.isoformat(), "--config", story.config)
    text, as_json = await asyncio.gather(vocustody(*ask), vocustody(*ask, "--json"))

    assert text.status == as_json.status == 0, text.err + as_json.err
    found = json.loads(as_json.out)
    assert found["sentence"] == text.out.strip()
    assert (found["state"], found["region"]) == ("kept", "eu-central")
    assert [each["processor"] for each in found["handling"]] == [heard["processor"]]
    for word in (story.recording, "eu-central", heard["processor"], heard["decision"]):
        assert word in text.out


async def test_timeline_tells_the_whole_life(story: Story) -> None:
    """One line per touch, with who and how long, while the server runs."""
    ask = ("timeline", story.recording)

    text, as_json = await asyncio.gather(
        vocustody(*ask, "--config", story.config),
        vocustody(*ask, "--json", VOCUSTODY_CONFIG=story.config),
    )

    assert text.status == as_json.status == 0, text.err + as_json.err
    entries = json.loads(as_json.out)
    assert len(text.out.splitlines()) == len(entries)
    whats = " ".join(entry["what"] for entry in entries)
    for action in ("fetch", "transcribe", "delete-media"):
        assert action in whats
    assert story.began("transcribe")["processor"] in text.out


async def test_the_log_proves_itself_and_a_flipped_bit_shows(story: Story, tmp_path: Path) -> None:
    """A stranger checks the log offline: 0 held, 1 a finding, 2 nothing to verify."""
    pack, bad = tmp_path / "pack", tmp_path / "bad"
    export = await vocustody("export-log", str(pack), "--config", story.config)
    assert export.status == 0, export.err
    shutil.copytree(pack, bad)
    bundle = next(path for path in (bad / "tile" / "entries").rglob("*") if path.is_file())
    content = bytearray(bundle.read_bytes())
    content[len(content) // 2] ^= 1
    bundle.write_bytes(content)

    good, flipped, misuse = await asyncio.gather(
        vocustody("verify", str(pack)),
        vocustody("verify", str(bad)),
        vocustody("verify", str(tmp_path / "nothing")),
    )

    assert (good.status, flipped.status, misuse.status) == (0, 1, 2)
    assert "everything checked held" in good.out
    assert "FINDING" in flipped.out


@pytest.mark.parametrize(
    "mark", ["audio_fetched", "transcript_ready", "first_response", "reply_delivered"]
)
async def test_the_four_times_are_measured(story: Story, mark: str) -> None:
    """What a person waits for is what an operator must see."""
    assert f'vocustody_note_seconds_count{{mark="{mark}",tenant="fernruf"}} 1.0' in story.metrics


@pytest.mark.parametrize(
    "stage",
    [
        "webhook_ack", "queue_wait", "media_fetch", "decode", "seal", "policy", "stt",
        "redact", "nlu", "dialogue", "send", "tts", "upload",
    ],
)  # fmt: skip
async def test_every_stage_is_measured(story: Story, stage: str) -> None:
    """A stage without a histogram is where the time goes unseen."""
    lines = [
        line
        for line in story.metrics.splitlines()
        if line.startswith("vocustody_stage_seconds_count") and f'stage="{stage}"' in line
    ]
    assert sum(float(line.rpartition(" ")[2]) for line in lines) >= 1


async def test_at_the_end_nothing_is_left_running(story: Story) -> None:
    """SIGTERM ends the cell and everything it started: broker, decoder, engines."""
    processes = family(story.town.cell.pid)
    assert any("nats-server" in command for command in processes.values())
    assert any("gateway.audio.child" in command for command in processes.values())
    assert any("residency.processors" in command for command in processes.values())

    await story.town.cell.stop()

    assert left(processes) == {}
