"""The scanner of the canary suite: one that is blind to one form would call a leak clean."""

import base64
import secrets
from pathlib import Path

import numpy as np
import pytest
from support import inflating, processes, scanner, tones

from gateway.audio import child, encode

CONTROL = "Control Wörd 5500 0000 0000 0004"
NUMBER = "493023125777"


def found(text: bytes, secret: str = CONTROL) -> set[str]:
    """Return the forms in which *secret* is found in *text*."""
    needles = scanner.Needles({scanner.CONTROL: scanner.forms(secret)})
    return {hit.form for hit in scanner.scan({"file": text}, needles)}


@pytest.mark.parametrize("form", sorted(scanner.forms(CONTROL)))
@pytest.mark.parametrize("shift", range(3))
def test_it_finds_each_form(form: str, shift: int) -> None:
    """Text is written in many ways, at any place of a file."""
    noise = secrets.token_bytes(300)

    assert form in found(noise + b"x" * shift + scanner.forms(CONTROL)[form] + noise)
    assert found(noise) == set()


@pytest.mark.parametrize("kind", inflating.KINDS)
@pytest.mark.parametrize("cut", [0, 8])
def test_it_sees_into_compressed_members(kind: str, cut: int) -> None:
    """A log that was rotated is compressed; one whose end is missing leaks as well."""
    packed = inflating.packed(CONTROL.encode() + secrets.token_bytes(9_000))[kind]
    text = secrets.token_bytes(99) + packed[: len(packed) - cut or None]

    assert f"{kind}: raw" in found(text + (b"" if cut else b"tail"))


def test_it_sees_into_members_of_members() -> None:
    """A log inside a bundle is compressed twice."""
    inner = inflating.packed(CONTROL.encode())["gzip"]

    assert "gzip in zip: raw" in found(inflating.packed(inner)["zip"])


@pytest.mark.parametrize("lead", range(3))
def test_it_sees_into_base64(lead: int) -> None:
    """A phone number stands somewhere inside a message id's base64, not at its start."""
    text = base64.b64encode(b"\x1c\x18\x0d"[: 3 - lead] + NUMBER.encode() + b"tail of the id")

    assert found(text, NUMBER)


@pytest.mark.parametrize("form", tones.FORMS)
@pytest.mark.parametrize("shift", range(4))
def test_it_knows_the_tone(form: str, shift: int) -> None:
    """Samples may begin at any byte of a core or of a swapped page."""
    text = secrets.token_bytes(4_096 + shift) + tones.written()[form] + secrets.token_bytes(4_096)

    assert (scanner.CONTROL, form) in tones.found(text)


def test_it_knows_the_tone_after_the_codec() -> None:
    """What was decoded is no copy of what was encoded; to the ear it is the same."""
    heard = child.to_pcm(encode.to_ogg(tones.pcm(1.0, child.RATE), child.RATE), max_seconds=2)

    assert tones.found(heard) == {(scanner.TONE, f"s16 {child.RATE}")}


def test_it_hears_no_tone_where_there_is_none() -> None:
    """A scanner that cries wolf is switched off."""
    silence, noise = bytes(1 << 16), np.random.default_rng(7).bytes(1 << 20)
    text = Path(__file__).read_bytes() * 20

    assert tones.found(silence) == tones.found(noise) == tones.found(text) == set()


def test_a_secret_that_stands_everywhere_is_refused() -> None:
    """Five bytes are found in any file of some size, by chance."""
    with pytest.raises(ValueError, match="too short"):
        scanner.Needles({"word": {"raw": b"short"}})


def test_it_reads_names_of_files(tmp_path: Path) -> None:
    """A number in a file's name is as public as one in the file."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{NUMBER}.ogg").touch()
    needles = scanner.Needles({"phone": scanner.forms(NUMBER)})

    assert {hit.form for hit in scanner.scan(scanner.files([tmp_path]), needles)} >= {"raw"}


def test_a_control_that_is_not_whole_is_told() -> None:
    """A scan is void as soon as one form of the control was missed."""
    needles = scanner.Needles({scanner.CONTROL: scanner.forms(CONTROL)})
    whole = scanner.every_form(CONTROL)
    cut = whole.replace(CONTROL.encode("utf-16-le"), b"")

    assert scanner.unseen(CONTROL, scanner.scan({"file": whole}, needles)) == set()
    assert scanner.unseen(CONTROL, scanner.scan({"file": cut}, needles)) == {"utf-16-le"}


@pytest.mark.parametrize("look", ["unnamed", "words", "environments", "memories"])
def test_it_sees_what_a_process_shows(look: str) -> None:
    """A file that was deleted, an argument and a variable are read by whoever may."""
    with processes.exhibit(CONTROL.encode(), CONTROL) as pid:
        shown = getattr(processes, look)([pid])

    assert any(CONTROL.encode() in content for content in shown.values())
